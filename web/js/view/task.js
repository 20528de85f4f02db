// One task: its state and why, its timeline, its log, what it may use and how it ended. Must never cancel
// without a confirmation.

import { html } from '../html.js';
import * as api from '../api.js';
import { bytes, count, date, duration, utc, words } from '../format.js';
import * as route from '../route.js';
import { Live, store, token } from '../state.js';
import { visible, visibleLines } from '../text.js';
import { confirmChange, openToken } from './dialogs.js';
import { Log } from './log.js';
import { StateWord, taskWord, toneOf } from './state_word.js';
import { factsOf, sizeOf } from './task_facts.js';
import { Timeline } from './timeline.js';

// The stream tells of new states but not of checkpoints, so an open task is read again so often.
const READ_EVERY_MS = 3_000;

// A preview of the result. The whole result is for programs.
const OUTPUT_SHOWN = 4_000;

export class TaskView extends Live {
  state = { detail: null, error: null };

  parts() {
    return ['tasks', 'snapshot'];
  }

  componentDidMount() {
    super.componentDidMount();
    this.endToken = token.subscribe(() => this.forceUpdate());
    this.read();
    this.timer = setInterval(() => !document.hidden && this.isOpen() && this.read(), READ_EVERY_MS);
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.endToken();
    clearInterval(this.timer);
    this.gone = true;
  }

  componentDidUpdate(before) {
    if (before.route.name !== this.props.route.name) {
      this.setState({ detail: null, error: null });
      this.read();
      return;
    }
    // The stream says something that the record does not say yet.
    const task = store.tasks.get(this.props.route.name);
    if (task && task !== this.readFor) this.read();
  }

  isOpen() {
    return !this.state.detail || this.state.detail.task.ended_at === null;
  }

  async read() {
    const id = this.props.route.name;
    this.readFor = store.tasks.get(id);
    const reading = (this.reading = {});
    try {
      const detail = await api.task(id);
      if (!this.gone && this.reading === reading) this.setState({ detail, error: null });
    } catch (error) {
      if (!this.gone && this.reading === reading) this.setState({ error });
    }
  }

  cancel(id) {
    confirmChange({
      title: 'Cancel this task?',
      text: 'If it runs, its run is stopped. What it has already sent to the outside world cannot be recalled.',
      action: 'Cancel the task',
      run: () => api.cancelTask(id, token.value),
      done: 'The cancellation was requested.',
    });
  }

  actions(task) {
    if (task.ended_at !== null) return null;
    return token.mayChange
      ? html`<button type="button" class="danger" onClick=${() => this.cancel(task.id)}>Cancel the task</button>`
      : html`<button type="button" class="quiet" onClick=${openToken}>Enter a token to cancel it</button>`;
  }

  render({ route: at }, { detail, error }) {
    // The end of a task is final; until then the stream is quicker.
    const task = detail?.task.ended_at === null ? store.tasks.get(at.name) ?? detail.task : detail?.task;
    const failure = error && html`<p class="failure" role="alert">${visible(error.message, 400)} <span class="hint">${visible(error.hint, 400)}</span></p>`;
    if (!detail || detail.task.id !== at.name) {
      return html`<p class="back"><a href=${route.toTasks()}>Tasks</a></p><h1 class="id">${visible(at.name, 200)}</h1>
        ${failure || html`<p class="empty">Loading …</p>`}`;
    }
    const word = taskWord(task);
    return html`
      <p class="back"><a href=${route.toTasks()}>Tasks</a></p>
      <div class="task-head">
        <div><h1 class="id">${visible(task.id, 200)}</h1>
          <p class="verdict-line"><${StateWord} word=${word} />${task.why && task.why !== word && html`
            <span class=${toneOf(word) === 'bad' ? 'bad' : ''}>${visible(task.why, 1_000)}</span>`}</p></div>
        <div class="actions">${this.actions(task)}</div>
      </div>
      ${failure}
      <dl class="totals" aria-label="Summary">${this.summary(task, detail.record).map(([name, value, title, link]) => html`
        <div key=${name}><dt>${name}</dt><dd title=${title}>${link ? html`<a href=${link}>${value}</a>` : value}</dd></div>`)}</dl>
      <${Timeline} detail=${{ ...detail, task }} />
      <div class="columns">
        <${Log} key=${task.id} id=${task.id} />
        <div class="sides">${this.result(detail.record)}${factsOf(detail.record).map(([title, rows]) => html`
          <section key=${title}><h2>${title}</h2><dl class="facts">${rows.map(([name, value]) => html`
            <div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></section>`)}
        </div>
      </div>
      ${events(detail.timeline, task)}`;
  }

  summary(task, record) {
    const outcome = record?.state?.done?.outcome;
    return [
      ['Module', visible(task.module, 40), visible(task.module)],
      ['Group', visible(task.group, 40), visible(task.group), route.toTasks({ group: task.group })],
      ['Worker', task.worker === null ? '–' : visible(task.worker, 40), visible(task.worker), task.worker !== null && route.toWorker(task.worker)],
      ['Attempts', count(task.attempts)],
      ['Submitted', date(task.submitted_at), utc(task.submitted_at)],
      task.ended_at !== null && ['Took', duration(task.ended_at - task.submitted_at), utc(task.ended_at)],
      outcome && ['Guest ran', duration(outcome.run_us / 1_000)],
      outcome && ['Computed', duration(outcome.cpu_us / 1_000)],
    ].filter(Boolean);
  }

  result(record) {
    const outcome = record?.state?.done?.outcome;
    if (!outcome) return null;
    const text = outcome.output?.text;
    return html`<section key="result"><h2>Result <span class="number">${bytes(sizeOf(outcome.output))}</span></h2>
      ${text ? html`<pre class="output" tabindex="0">${visibleLines(text, OUTPUT_SHOWN)}</pre>`
        : html`<p class="empty">${outcome.output?.blob ? `An object: ${visible(outcome.output.blob.digest, 80)}`
          : outcome.output?.base64 ? 'Bytes that are no text.' : 'Empty.'}</p>`}
      ${outcome.log_dropped > 0 && html`<p class="care">${bytes(outcome.log_dropped)} of the log were dropped, beyond its rate or size.</p>`}
    </section>`;
  }
}

// The same facts as the drawing, to read and to copy.
function events(timeline, task) {
  return html`<section aria-labelledby="events-title" class="events"><div class="heading"><h2 id="events-title">Events</h2>
      <span class="number">${count(timeline?.length ?? 0)}</span></div>
    <table class="plain">
      <thead><tr><th scope="col">Time</th><th scope="col" class="n">After submission</th><th scope="col">Event</th><th scope="col">Worker</th><th scope="col">Reason</th></tr></thead>
      <tbody>${(timeline ?? []).slice(-200).map((event) => html`<tr>
        <td title=${utc(event.at_ms)}>${date(event.at_ms)}</td><td class="n">${duration(event.at_ms - task.submitted_at)}</td>
        <td>${visible(words(event.what), 24)}</td><td>${event.worker === null ? html`<span class="zero">–</span>` : visible(event.worker, 60)}</td>
        <td class="why">${visible(event.reason, 400)}</td></tr>`)}</tbody>
    </table></section>`;
}
