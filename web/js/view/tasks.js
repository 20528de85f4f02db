// The tasks of the fleet, newest first: those that the stream brings, and older ones page by page. Must never
// show a gap as if it were the whole: what was not loaded yet is behind "More".

import { html } from '../html.js';
import * as api from '../api.js';
import { count, duration } from '../format.js';
import * as route from '../route.js';
import { Live, store } from '../state.js';
import { visible } from '../text.js';
import { Age } from './age.js';
import { List, shownOf } from './list.js';
import { StateWord, taskWord, toneOf } from './state_word.js';
import { Filter } from './workers.js';

// One page. A list of ten thousand tasks is twenty of them.
const PAGE = 500;

const COLUMNS = [
  { key: 'state', label: 'State' },
  { key: 'id', label: 'Task' },
  { key: 'module', label: 'Module' },
  { key: 'group', label: 'Group' },
  { key: 'worker', label: 'Worker' },
  { key: 'submitted', label: 'Submitted' },
  { key: 'took', label: 'Took' },
  { key: 'attempts', label: 'Attempts' },
  { key: 'why', label: 'Why' },
];

// The words of the API for states, and which tasks are in each.
const STATES = ['queued', 'dispatched', 'completed', 'failed', 'trapped', 'timed_out', 'over_limit', 'rejected',
  'cancelled', 'lost'];

const CHOICES = [
  { state: '', label: 'All' },
  { state: 'queued', label: 'Queued' },
  { state: 'dispatched', label: 'Running' },
  { state: 'completed', label: 'Completed' },
  { state: 'failed', label: 'Failed' },
  { state: 'lost', label: 'Lost' },
];

function stateOf(task) {
  if (task.verdict !== null) return task.verdict.replaceAll(' ', '_');
  return task.state === 'running' ? 'dispatched' : task.state === 'waiting' ? 'queued' : task.state;
}

function searched(task) {
  return `${task.id} ${task.module} ${task.group} ${task.worker ?? ''} ${taskWord(task)} ${task.why}`.toLowerCase();
}

function took(task) {
  return task.ended_at === null ? html`<${Age} at=${task.submitted_at} plain />` : duration(task.ended_at - task.submitted_at);
}

function cells(task) {
  return [
    html`<${StateWord} word=${taskWord(task)} />`,
    html`<a class="id" href=${route.toTask(task.id)} tabindex="-1" title=${visible(task.id)}>${visible(task.id, 40)}</a>`,
    html`<span title=${visible(task.module)}>${visible(task.module, 60)}</span>`,
    html`<span title=${visible(task.group)}>${visible(task.group, 40)}</span>`,
    task.worker === null ? html`<span class="zero">–</span>` : html`<span title=${visible(task.worker)}>${visible(task.worker, 60)}</span>`,
    html`<${Age} at=${task.submitted_at} />`,
    took(task),
    html`<span class=${task.attempts > 1 ? 'care' : task.attempts ? '' : 'zero'}>${count(task.attempts)}</span>`,
    html`<span title=${visible(task.why, 400)}>${visible(task.why)}</span>`,
  ];
}

export class TasksView extends Live {
  state = { text: '', loading: false, error: null };
  // What was loaded for the present filters: the place to go on from, and the time of the oldest task.
  more = null;
  floor = Infinity;
  query = 0;

  parts() {
    return ['tasks', 'groups', 'snapshot'];
  }

  filters(props = this.props) {
    return { state: props.route.query.get('state') ?? '', group: props.route.query.get('group') ?? '' };
  }

  componentDidMount() {
    super.componentDidMount();
    this.begin();
    // A new snapshot forgets the pages that were loaded.
    this.endSnapshots = store.subscribe((changed) => changed.has('snapshot') && this.begin());
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.endSnapshots();
    this.query += 1;
  }

  componentDidUpdate(before) {
    const [was, is] = [this.filters(before), this.filters()];
    if (was.state !== is.state || was.group !== is.group) this.begin();
  }

  begin() {
    // Until the first page is here, the tasks that are known already are shown.
    this.more = null;
    this.load();
  }

  load = async () => {
    const query = ++this.query;
    this.setState({ loading: true, error: null });
    try {
      const page = await api.tasks({ ...this.filters(), before: this.more, limit: PAGE });
      if (query !== this.query) return;
      this.more = page.more;
      this.floor = page.more === null ? -Infinity : page.tasks.at(-1)?.submitted_at ?? -Infinity;
      store.addTasks(page.tasks);
      this.setState({ loading: false });
    } catch (error) {
      if (query === this.query) this.setState({ loading: false, error });
    }
  };

  rows() {
    const { state, group } = this.filters();
    const terms = this.state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [];
    let all = 0;
    for (const task of store.tasks.values()) {
      // Older ones than were loaded are known by chance; between them others are missing.
      if (task.submitted_at < this.floor) continue;
      if (group && task.group !== group) continue;
      if (state && stateOf(task) !== state) continue;
      all += 1;
      if (terms.length > 0) {
        const text = searched(task);
        if (!terms.every((term) => text.includes(term))) continue;
      }
      rows.push(task);
    }
    rows.sort((a, b) => b.submitted_at - a.submitted_at || (a.id < b.id ? 1 : -1));
    return { rows, all };
  }

  go(change) {
    location.hash = route.toTasks({ ...this.filters(), ...change });
  }

  footer(all) {
    const { loading, error, text } = this.state;
    if (error) {
      return html`<p class="failure" role="alert">${visible(error.message, 400)} <span class="hint">${visible(error.hint, 400)}</span>
        <button type="button" onClick=${this.load}>Try again</button></p>`;
    }
    if (this.more === null) return loading ? html`<p class="empty">Loading …</p>` : null;
    return html`<p class="more"><button type="button" disabled=${loading} onClick=${this.load}>${loading ? 'Loading …' : 'More'}</button>
      <span class="hint">${count(all)} loaded.${text && ' The text filter looks only into these.'}</span></p>`;
  }

  render({ route: at }, { text, loading, error }) {
    const { state, group } = this.filters({ route: at });
    const { rows, all } = this.rows();
    const groups = [...new Set([...store.groups.keys(), group].filter(Boolean))].sort().slice(0, 500);
    return html`
      <div class="heading first"><h1>Tasks</h1>
        <span class="number" role="status">${shownOf(rows.length, all)}${this.more !== null && ' loaded'}</span>
        <div class="choices" role="group" aria-label="State of tasks">${CHOICES.map((one) => html`
          <button type="button" aria-pressed=${one.state === state} onClick=${() => this.go({ state: one.state })}>${one.label}</button>`)}</div>
        <select aria-label="State" value=${state} onChange=${(event) => this.go({ state: event.target.value })}>
          <option value="">any state</option>
          ${STATES.map((one) => html`<option value=${one}>${one.replaceAll('_', ' ')}</option>`)}
        </select>
        <select aria-label="Group" value=${group} onChange=${(event) => this.go({ group: event.target.value })}>
          <option value="">any group</option>
          ${groups.map((one) => html`<option value=${one}>${visible(one, 40)}</option>`)}
        </select>
        <${Filter} value=${text} label="Filter the loaded tasks by any of their columns"
          onText=${(value) => this.setState({ text: value })} />
      </div>
      <${List} label="Tasks" kind="tasks" columns=${COLUMNS} rows=${rows} keyOf=${(task) => task.id} cells=${cells}
        height=${32} phoneHeight=${80} tone=${(task) => toneOf(taskWord(task))}
        onOpen=${(task) => { location.hash = route.toTask(task.id); }}
        empty=${loading ? 'Loading …' : error ? '' : text || state || group ? 'No task matches the filters.' : 'No task was submitted yet.'} />
      ${rows.length > 0 || error ? this.footer(all) : this.more !== null && this.footer(all)}`;
  }
}
