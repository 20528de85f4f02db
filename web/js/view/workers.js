// The workers of the fleet, with a filter and an order. Must never walk all workers for a change that it does
// not show.

import { html } from '../html.js';
import { count } from '../format.js';
import * as route from '../route.js';
import { Live, store } from '../state.js';
import { visible } from '../text.js';
import { LeaseBar } from './lease_bar.js';
import { List, nextSort, shownOf } from './list.js';
import { StateWord, toneOf, workerWord } from './state_word.js';

const COLUMNS = [
  { key: 'worker', label: 'Worker', sort: true },
  { key: 'group', label: 'Group', sort: true },
  { key: 'state', label: 'State', sort: true },
  { key: 'link', label: 'Link', sort: true },
  { key: 'slots', label: 'Slots', sort: true },
  { key: 'lease', label: 'Lease left' },
  { key: 'version', label: 'Version', sort: true },
  { key: 'labels', label: 'Shortage, labels' },
];

// The workers that somebody should look at come first.
const TROUBLE = ['lost', 'unlinked', 'unwell', 'draining', 'cordoned', 'drained', 'live', 'released'];

const CHOICES = [
  { key: 'all', label: 'All', of: () => true },
  { key: 'live', label: 'Live', of: (word) => word === 'live' },
  { key: 'unwell', label: 'Unwell', of: (word) => word === 'unwell' || word === 'unlinked' },
  { key: 'cordoned', label: 'Cordoned', of: (word) => ['cordoned', 'draining', 'drained'].includes(word) },
  { key: 'gone', label: 'Gone', of: (word) => word === 'lost' || word === 'released' },
];

const SORTS = {
  worker: (worker) => natural(worker.worker),
  group: (worker) => worker.group,
  state: (worker) => TROUBLE.indexOf(workerWord(worker)),
  link: (worker) => worker.transport ?? '',
  slots: (worker) => worker.running,
  version: (worker) => natural(worker.version),
};

// Names with numbers in the order of the numbers. A comparison of texts is ten times faster than a collator,
// and all workers may be compared four times a second.
const naturals = new Map();
function natural(name) {
  let key = naturals.get(name);
  if (key === undefined) {
    key = name.slice(0, 120).toLowerCase().replace(/\d+/g, (digits) => digits.padStart(8, '0'));
    if (naturals.size > 20_000) naturals.clear();
    naturals.set(name, key);
  }
  return key;
}

function labelsOf(worker) {
  return Object.entries(worker.labels ?? {}).map(([key, value]) => `${key}=${value}`);
}

// The text that the filter looks into.
function searched(worker) {
  return [worker.worker, worker.group, workerWord(worker), worker.standing, worker.transport, worker.version,
    worker.unwell, ...labelsOf(worker)].join(' ').toLowerCase();
}

function cells(worker) {
  const free = worker.slots - worker.running;
  return [
    html`<a class="name" href=${route.toWorker(worker.worker)} tabindex="-1" title=${visible(worker.worker)}>${visible(worker.worker, 80)}</a>`,
    html`<span title=${visible(worker.group)}>${visible(worker.group, 60)}</span>`,
    html`<${StateWord} word=${workerWord(worker)} />`,
    worker.transport ? visible(worker.transport, 8) : html`<span class="zero">none</span>`,
    html`<span class="slots" title=${`${free} free`}><span class=${worker.running ? '' : 'zero'}>${count(worker.running)}</span> / ${count(worker.slots)}</span>`,
    html`<${LeaseBar} worker=${worker} />`,
    visible(worker.version, 16),
    html`${worker.unwell && html`<span class="care" title=${visible(worker.unwell, 400)}>${visible(worker.unwell)}</span> `}
      ${labelsOf(worker).slice(0, 8).map((label) => html`<span class="label">${visible(label, 60)}</span> `)}`,
  ];
}

export class Workers extends Live {
  state = { text: this.props.query.get('worker') ?? '', choice: 'all', sort: { by: 'state', down: false } };

  parts() {
    return ['workers', 'snapshot'];
  }

  sort = (key) => this.setState({ sort: nextSort(this.state.sort, key, key === 'slots') });

  rows(counts) {
    const { text, choice, sort } = this.state;
    const terms = text.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = CHOICES.find((one) => one.key === choice);
    const keyOf = SORTS[sort.by];
    const rows = [];
    for (const worker of store.workers.values()) {
      const word = workerWord(worker);
      for (const one of CHOICES) if (one.of(word)) counts[one.key] += 1;
      if (!chosen.of(word)) continue;
      if (terms.length > 0) {
        const all = searched(worker);
        if (!terms.every((term) => all.includes(term))) continue;
      }
      rows.push({ worker, key: keyOf(worker), name: natural(worker.worker) });
    }
    const way = sort.down ? -1 : 1;
    rows.sort((a, b) => (a.key < b.key ? -way : a.key > b.key ? way : a.name < b.name ? -1 : 1));
    return rows;
  }

  render(_, { text, choice, sort }) {
    const counts = Object.fromEntries(CHOICES.map((one) => [one.key, 0]));
    const rows = this.rows(counts);
    return html`<section aria-labelledby="workers-title">
      <div class="heading"><h2 id="workers-title">Workers</h2>
        <span class="number" role="status">${shownOf(rows.length, store.workers.size)}</span>
        <div class="choices" role="group" aria-label="State of workers">${CHOICES.map((one) => html`
          <button type="button" aria-pressed=${choice === one.key} onClick=${() => this.setState({ choice: one.key })}>
            ${one.label} <span class="number">${count(counts[one.key])}</span></button>`)}</div>
        <select class="sort-by" aria-label="Order of workers" value=${sort.by}
          onChange=${(event) => this.setState({ sort: { by: event.target.value, down: event.target.value === 'slots' } })}>
          ${COLUMNS.filter((column) => column.sort).map((column) => html`<option value=${column.key}>by ${column.label.toLowerCase()}</option>`)}
        </select>
        <${Filter} value=${text} label="Filter workers by name, group, state, version or label"
          onText=${(value) => this.setState({ text: value })} />
      </div>
      <${List} label="Workers" kind="workers" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.worker.worker}
        cells=${(row) => cells(row.worker)} height=${34} phoneHeight=${88} sort=${sort} onSort=${this.sort}
        tone=${(row) => toneOf(workerWord(row.worker))}
        onOpen=${(row) => { location.hash = route.toWorker(row.worker.worker); }}
        empty=${store.workers.size === 0 ? 'No worker is connected yet.' : 'No worker matches the filter.'} />
    </section>`;
  }
}

// The text filter of a list. `/` goes to it, Esc empties it and then leaves it.
export function Filter({ value, label, onText }) {
  return html`<input class="filter" type="search" data-filter placeholder="Filter  /" aria-label=${label}
    aria-keyshortcuts="/" spellcheck="false" autocomplete="off" value=${value}
    onInput=${(event) => onText(event.target.value)}
    onKeyDown=${(event) => {
      if (event.key === 'ArrowDown') {
        event.preventDefault();
        document.querySelector('.list tbody tr[tabindex="0"]')?.focus();
      }
      if (event.key !== 'Escape') return;
      event.preventDefault();
      if (value) onText('');
      else event.target.blur();
    }} />`;
}
