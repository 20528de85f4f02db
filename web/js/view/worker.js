// One worker in a dialog: its lease, its labels, what it runs, and the commands to it. Must never send a
// command without a confirmation.

import { html } from '../html.js';
import { commandWorker } from '../api.js';
import { bytes, count } from '../format.js';
import * as route from '../route.js';
import { Live, store, token } from '../state.js';
import { visible } from '../text.js';
import { Age } from './age.js';
import { Dialog, confirmChange, openToken } from './dialogs.js';
import { LeaseBar } from './lease_bar.js';
import { StateWord } from './state_word.js';

// A worker has some dozens of slots at most; the dialog is no task list.
const TASKS_SHOWN = 12;

const COMMANDS = {
  cordon: {
    label: 'Cordon', action: 'Cordon it',
    text: 'It takes no new attempts. What runs there goes on.',
    of: (worker) => worker.standing === 'live',
  },
  drain: {
    label: 'Drain', action: 'Drain it',
    text: 'It takes no new attempts. What still runs at the deadline is given back and runs on another worker.',
    of: (worker) => ['live', 'cordoned'].includes(worker.standing),
  },
  uncordon: {
    label: 'Uncordon', action: 'Uncordon it',
    text: 'It takes attempts again.',
    of: (worker) => ['cordoned', 'draining', 'drained'].includes(worker.standing),
  },
};

export class WorkerDialog extends Live {
  parts() {
    return ['workers', 'tasks', 'snapshot'];
  }

  componentDidMount() {
    super.componentDidMount();
    this.endToken = token.subscribe(() => this.forceUpdate());
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.endToken();
  }

  command(name, worker) {
    const { label, action, text } = COMMANDS[name];
    const shown = visible(worker.worker, 60);
    confirmChange({
      title: `${label} worker ${shown}?`, text, action,
      run: () => commandWorker(worker.worker, name, token.value),
      done: `${shown}: the worker has obeyed the command ${name}.`,
    });
  }

  actions(worker) {
    if (!token.mayChange) return html`<button type="button" onClick=${openToken}>Enter a token to change it</button>`;
    return Object.entries(COMMANDS).filter(([, command]) => command.of(worker)).map(([name, command]) => html`
      <button type="button" key=${name} onClick=${() => this.command(name, worker)}>${command.label}</button>`);
  }

  facts(worker) {
    const labels = Object.entries(worker.labels ?? {});
    return html`<dl class="facts">
      <div><dt>State</dt><dd><${StateWord} word=${visible(worker.standing, 24)} />
        ${!worker.linked && html`<span class="care">not linked to this master</span>`}</dd></div>
      ${worker.unwell && html`<div><dt>Shortage</dt><dd class="care">${visible(worker.unwell, 1_000)}</dd></div>`}
      <div><dt>Lease left</dt><dd><${LeaseBar} worker=${worker} /></dd></div>
      <div><dt>Renewed</dt><dd><${Age} at=${worker.renewed_at} /></dd></div>
      <div><dt>Group</dt><dd>${visible(worker.group, 400)}</dd></div>
      <div><dt>Link</dt><dd>${worker.transport ? visible(worker.transport, 8) : 'none'}</dd></div>
      <div><dt>Slots</dt><dd>${count(worker.running)} of ${count(worker.slots)} used</dd></div>
      <div><dt>Memory</dt><dd>${bytes(worker.memory_total)}</dd></div>
      <div><dt>Version</dt><dd>${visible(worker.version, 40)}</dd></div>
      <div><dt>Labels</dt><dd>${labels.length === 0 ? html`<span class="zero">none</span>` : labels.map(([key, value]) => html`
        <span class="label">${visible(`${key}=${value}`, 200)}</span> `)}</dd></div>
    </dl>`;
  }

  tasks(worker) {
    const running = [...store.tasks.values()].filter((task) => task.worker === worker.worker && task.ended_at === null);
    return html`<h3>Runs now <span class="number">${count(running.length)}</span></h3>
      ${running.length === 0 && html`<p class="empty">Nothing among the tasks that this page knows.</p>`}
      <ul class="rows">${running.slice(0, TASKS_SHOWN).map((task) => html`<li key=${task.id}>
        <a class="id" href=${route.toTask(task.id)}>${visible(task.id, 40)}</a> ${visible(task.module, 60)}</li>`)}</ul>`;
  }

  render({ name, onClose }) {
    const worker = store.workers.get(name);
    return html`<${Dialog} label=${`Worker ${visible(name, 80)}`} kind="side" onClose=${onClose}>
      <div class="title"><h2>${visible(name, 1_000)}</h2>
        <button type="button" class="quiet" aria-label="Close" onClick=${(event) => event.target.closest('dialog').close()}>✕</button></div>
      ${worker ? html`${this.facts(worker)}<div class="actions">${this.actions(worker)}</div>${this.tasks(worker)}`
        : html`<p class="empty">${store.snapshots ? 'No worker of this name is known.' : 'Connecting …'}</p>`}
    </${Dialog}>`;
  }
}
