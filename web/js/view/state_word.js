// The words for states of tasks and workers, and the tone of each: calm unless somebody has to act. A shape
// goes with each tone, because not everybody sees colours. Must never invent a state.

import { html } from '../html.js';
import { words } from '../format.js';
import { visible } from '../text.js';

const TONES = {
  queued: 'waits', waiting: 'waits',
  dispatched: 'runs', running: 'runs',
  completed: 'good',
  cancelled: 'off', drained: 'off', released: 'off',
  live: 'good', cordoned: 'care', draining: 'care', unwell: 'care', unlinked: 'care', returned: 'care',
  failed: 'bad', trapped: 'bad', 'timed out': 'bad', 'over limit': 'bad', rejected: 'bad', refused: 'bad', lost: 'bad',
};

// The state of a task as one word: its verdict once it has one.
export function taskWord(task) {
  return words(task.verdict ?? task.state);
}

// The state of a worker as one word: what needs attention comes first.
export function workerWord(worker) {
  if (worker.standing !== 'live') return words(worker.standing);
  if (worker.unwell) return 'unwell';
  return worker.linked ? 'live' : 'unlinked';
}

export function toneOf(word) {
  return Object.hasOwn(TONES, word) ? TONES[word] : 'off';
}

// The word with its mark.
export function StateWord({ word }) {
  return html`<span class=${`state ${toneOf(word)}`}>${visible(word, 24)}</span>`;
}
