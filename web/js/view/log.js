// The live log of a task. Lines are added to the document directly, in chunks, because a guest may write
// thousands a second. Must never keep more than LINES_MAX lines, and must never obey what a line says.

import { Component, createRef, html } from '../html.js';
import { logPath } from '../api.js';
import { count, plural, timeMillis, utc } from '../format.js';
import { visible } from '../text.js';

const LINES_MAX = 5_000;

// The browser skips the layout of chunks out of sight.
const CHUNK = 25;

// So many lines a frame do not delay it. The rest waits for the next frame.
const FRAME_LINES = 100;

// A line of a log may have kilobytes; what is longer was not written for people.
const LINE_MAX = 4_000;

// The reader is at the end if so little is below.
const NEAR_PX = 24;

export class Log extends Component {
  state = { follow: true, lines: 0, missed: 0, status: 'opening' };
  box = createRef();
  waiting = [];
  lines = 0;
  lastAttempt = null;
  resumable = false;

  componentDidMount() {
    this.open();
  }

  componentWillUnmount() {
    this.source.close();
    cancelAnimationFrame(this.frame);
  }

  open() {
    const source = new EventSource(logPath(this.props.id));
    this.source = source;
    source.onopen = () => {
      // Without ids a master can only begin anew, so the lines would come twice.
      if (!this.resumable) this.clear();
      this.setState({ status: 'live' });
    };
    source.addEventListener('line', (event) => {
      this.resumable ||= event.lastEventId !== '';
      let line;
      try {
        line = JSON.parse(event.data);
      } catch {
        return;
      }
      this.waiting.push(line);
      // While the page is hidden there are no frames, and lines must not pile up.
      if (this.waiting.length > LINES_MAX) this.waiting.splice(0, this.waiting.length - LINES_MAX);
      this.frame ||= requestAnimationFrame(() => this.flush());
    });
    source.addEventListener('end', () => {
      source.close();
      this.setState({ status: 'ended' });
    });
    source.onerror = () => {
      if (this.state.status !== 'ended') this.setState({ status: source.readyState === EventSource.CLOSED ? 'failed' : 'reconnecting' });
    };
  }

  clear() {
    this.box.current.replaceChildren();
    this.waiting = [];
    this.lines = 0;
    this.lastAttempt = null;
    this.setState({ lines: 0, missed: 0 });
  }

  flush() {
    this.frame = 0;
    const box = this.box.current;
    const lines = this.waiting.splice(0, FRAME_LINES);
    if (this.waiting.length > 0) this.frame = requestAnimationFrame(() => this.flush());
    for (const line of lines) {
      let chunk = box.lastElementChild;
      if (!chunk || chunk.childElementCount >= CHUNK) {
        chunk = document.createElement('div');
        chunk.className = 'chunk';
        box.append(chunk);
      }
      chunk.append(this.element(line));
    }
    this.lines += lines.length;
    while (this.lines > LINES_MAX) {
      const chunk = box.firstElementChild;
      const drop = Math.min(this.lines - LINES_MAX, chunk.childElementCount);
      if (drop === chunk.childElementCount) chunk.remove();
      else for (let i = 0; i < drop; i += 1) chunk.firstElementChild.remove();
      this.lines -= drop;
    }
    this.setState(({ follow, missed }) => ({ lines: this.lines, missed: follow ? 0 : missed + lines.length }),
      () => this.state.follow && this.toEnd());
  }

  element({ source, attempt, text, at_ms: at }) {
    const row = document.createElement('p');
    row.className = source === 'stderr' ? 'line stderr' : 'line log';
    if (attempt !== this.lastAttempt) {
      if (this.lastAttempt !== null) row.classList.add('next');
      this.lastAttempt = attempt;
    }
    row.title = `${utc(at)} attempt ${visible(attempt, 40)}`;
    row.append(span('at', timeMillis(at)), span('from', source === 'stderr' ? 'stderr' : 'log'),
      span('text', visible(String(text ?? '').replace(/\r?\n$/, ''), LINE_MAX)));
    return row;
  }

  toEnd() {
    const box = this.box.current;
    this.moved = true;
    box.scrollTop = box.scrollHeight;
  }

  // A reader who scrolls up wants to read; one who returns to the end wants to follow.
  onScroll = () => {
    if (this.moved) {
      this.moved = false;
      return;
    }
    const box = this.box.current;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    if (atEnd !== this.state.follow) this.setState({ follow: atEnd, missed: 0 });
  };

  toggle = () => {
    const follow = !this.state.follow;
    this.setState({ follow, missed: 0 }, () => follow && this.toEnd());
  };

  shouldComponentUpdate(_, next) {
    return Object.keys(next).some((key) => next[key] !== this.state[key]);
  }

  render(_, { follow, lines, missed, status }) {
    const words = { opening: 'opening', live: 'live', ended: 'complete', failed: 'cannot be read', reconnecting: 'reconnecting' };
    return html`<section class="log" aria-labelledby="log-title">
      <div class="heading"><h2 id="log-title">Log</h2>
        <span class="number">${plural(lines, 'line')}${lines >= LINES_MAX && ', the latest'}</span>
        <span class="hint">${words[status]}</span>
        <span class="spring"></span>
        ${(!follow || status !== 'ended') && html`<button type="button" aria-pressed=${follow} onClick=${this.toggle}>${
          follow ? 'Pause' : `Follow${missed ? ` (${count(missed)} new)` : ''}`}</button>`}
      </div>
      <div class="lines" ref=${this.box} role="log" aria-live="off" aria-label="Lines of the log" tabindex="0" onScroll=${this.onScroll}></div>
      ${lines === 0 && html`<p class="empty">${status === 'ended' ? 'The task wrote nothing.' : status === 'failed' ? '' : 'Nothing was written yet.'}</p>`}
    </section>`;
  }
}

function span(name, text) {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = text;
  return element;
}
