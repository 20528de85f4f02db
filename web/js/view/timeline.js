// The life of a task, drawn to scale: one lane an attempt. Arrow keys, pointer and touch tell the exact times.
// Must never stretch time: only the reader chooses another part of it.

import { Component, createRef, html } from '../html.js';
import { count, date, duration, offset, timeMillis } from '../format.js';
import { clock } from '../state.js';
import { eachSecond } from '../ticker.js';
import { visible } from '../text.js';
import { toneOf } from './state_word.js';
import { lanesOf, ticks } from './timeline_model.js';

const LANE = 34;
const BAR = 14;
const AXIS = 26;

// A task may have hundreds of attempts. The latest ones tell the most.
const LANES_MAX = 40;

const RANGES = [
  { key: 'all', label: 'Whole life', from: (model) => model.start },
  { key: 'first', label: 'Attempts', from: (model) => model.lanes.find((lane) => lane.run)?.run.from },
  { key: 'last', label: 'Last attempt', from: (model) => model.lanes.findLast((lane) => lane.run)?.run.from },
];

export class Timeline extends Component {
  state = { width: 0, range: 'all', at: null, cursor: null };
  box = createRef();

  componentDidMount() {
    this.sizes = new ResizeObserver(() => this.setState({ width: this.box.current.clientWidth }));
    this.sizes.observe(this.box.current);
    this.setState({ width: this.box.current.clientWidth });
    this.endTicks = eachSecond(() => this.props.detail.task.ended_at === null && this.forceUpdate());
  }

  componentWillUnmount() {
    this.sizes.disconnect();
    this.endTicks();
  }

  // The things that have times, in the order in which arrow keys visit them.
  items(lanes) {
    return lanes.flatMap((lane) => [
      lane.wait && lane.wait.to > lane.wait.from && { key: `w${lane.wait.from}`, of: lane.wait, lane, kind: 'wait' },
      lane.run && { key: `r${lane.run.from}`, of: lane.run, lane, kind: 'run' },
      ...lane.marks.map((mark, i) => ({ key: `m${mark.at}.${i}`, of: mark, lane, kind: 'mark' })),
    ].filter(Boolean));
  }

  // One sentence about a thing.
  sentence({ of, lane, kind }, start) {
    const who = lane.worker === null ? '' : `Attempt ${lane.number} on ${visible(lane.worker, 60)}`;
    const why = of.reason ? `: ${visible(of.reason, 400)}` : '';
    if (kind === 'mark') return `${who}: checkpoint at ${timeMillis(of.at)} (${offset(of.at - start)})`;
    const span = `${timeMillis(of.from)} (${offset(of.from - start)}) to ${of.open ? 'now' : `${timeMillis(of.to)} (${offset(of.to - start)})`}, ${duration(of.to - of.from)}`;
    if (kind === 'wait') return `Queued from ${span}${why}`;
    const ran = of.since === null ? '' : `; the guest ran for ${duration(of.to - of.since)}`;
    return `${who}, from ${span}${ran}${of.open ? '' : `; ${of.word}${why}`}`;
  }

  onKey = (event, items) => {
    const at = items.findIndex((item) => item.key === this.state.at);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === 'Escape') this.setState({ at: null });
    if (to === undefined) return;
    event.preventDefault();
    const item = items[Math.min(Math.max(to, 0), items.length - 1)];
    this.setState({ at: item.key }, () => this.box.current.querySelector('[tabindex="0"]')?.focus());
  };

  render({ detail }, { width, range, at, cursor }) {
    const now = clock.now();
    const model = lanesOf(detail, Number.isFinite(now) ? now : detail.task.submitted_at);
    const lanes = model.lanes.slice(-LANES_MAX);
    const chosen = RANGES.find((one) => one.key === range);
    const from = chosen.from(model) ?? model.start;
    const span = Math.max(model.end - from, 1);
    const narrow = width < 620;
    const left = narrow ? 4 : Math.min(190, width * 0.22);
    // Room for the words at the ends of the bars.
    const right = 14 + Math.max(0, ...lanes.map((lane) => endWord(lane).length)) * 7;
    // On a phone the name stands above the bar.
    const laneHeight = narrow ? LANE + 20 : LANE;
    const height = AXIS + lanes.length * laneHeight + 4;
    const inner = Math.max(width - left - right, 10);
    const x = (ms) => left + (Math.min(Math.max(ms - from, 0), span) / span) * inner;
    const items = this.items(lanes);
    const active = items.find((item) => item.key === at);
    const first = items[0]?.key;
    const scale = { x, left, right: width - right, from, narrow, laneHeight };
    return html`<section class="timeline" aria-labelledby="timeline-title">
      <div class="heading"><h2 id="timeline-title">Timeline</h2>
        <div class="choices" role="group" aria-label="Part of the time">${RANGES.map((one) => html`
          <button type="button" aria-pressed=${one.key === range} onClick=${() => this.setState({ range: one.key })}>${one.label}</button>`)}</div>
        ${model.lanes.length > lanes.length && html`<span class="hint">the latest ${count(lanes.length)} of ${count(model.lanes.length)} lanes</span>`}
      </div>
      <div class="drawing" ref=${this.box}>
        ${width > 0 && html`<svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="group"
            aria-label="Attempts of the task over time. Arrow keys move between them."
            onKeyDown=${(event) => this.onKey(event, items)}
            onMouseMove=${(event) => this.setState({ cursor: event.clientX - this.box.current.getBoundingClientRect().left })}
            onMouseLeave=${() => this.setState({ cursor: null, at: null })}>
          ${axis(scale, span, model.start, height)}
          ${cursor !== null && cursor > left && cursor < width - right && pointer(cursor, from + ((cursor - left) / inner) * span - model.start, height, width)}
          ${lanes.map((lane, i) => this.lane(lane, i, scale, items, { at, first, start: model.start }))}
        </svg>`}
      </div>
      <p class="readout" aria-live="off">${active ? this.sentence(active, model.start)
        : `Submitted ${date(detail.task.submitted_at)}; ${model.open ? 'open for' : 'ended after'} ${duration(model.end - model.start)}.`}</p>
    </section>`;
  }

  lane(lane, i, { x, left, narrow, laneHeight }, items, { at, first, start }) {
    const y = AXIS + i * laneHeight + (narrow ? 24 : (laneHeight - BAR) / 2);
    const middle = y + BAR / 2;
    const tone = lane.run && !lane.run.open ? toneOf(lane.run.word) : 'runs';
    // Each thing is one stop of the arrow keys; Tab stops once at the drawing.
    const spot = (of, children) => {
      const item = items.find((one) => one.of === of);
      if (!item) return null;
      return html`<g key=${item.key} class=${`spot ${item.key === at ? 'active' : ''}`} role="img"
        aria-label=${this.sentence(item, start)} tabindex=${item.key === (at ?? first) ? 0 : -1}
        onFocus=${() => this.setState({ at: item.key })} onMouseEnter=${() => this.setState({ at: item.key })}
        onClick=${() => this.setState({ at: item.key })}>${children}</g>`;
    };
    const label = lane.run ? [`${lane.number ?? ''}`, visible(lane.worker, 40)] : ['', lane.wait.open ? 'waits' : 'no attempt'];
    return html`<g key=${lane.run?.from ?? 'wait'}>
      <text class="who" x=${narrow ? left : 0} y=${narrow ? y - 10 : middle + 4}><tspan class="nth">${label[0] && `${label[0]} `}</tspan>${clipped(label[1], narrow ? 40 : 24)}</text>
      ${lane.wait && spot(lane.wait, html`
        <rect class="hit" x=${x(lane.wait.from)} y=${y - 6} width=${Math.max(x(lane.wait.to) - x(lane.wait.from), 3)} height=${BAR + 12} />
        <line class=${`wait ${lane.wait.open ? 'open' : ''}`} x1=${x(lane.wait.from)} x2=${x(lane.wait.to)} y1=${middle} y2=${middle} />
        ${!lane.wait.open && !lane.run && end(x(lane.wait.to), y, lane.wait.word, toneOf(lane.wait.word))}`)}
      ${lane.run && spot(lane.run, html`
        <rect class="hit" x=${x(lane.run.from)} y=${y - 6} width=${Math.max(x(lane.run.to) - x(lane.run.from), 4)} height=${BAR + 12} />
        <rect class=${`run ${tone} ${lane.run.open ? 'open' : ''}`} x=${x(lane.run.from)} y=${y} rx="2"
          width=${Math.max(x(lane.run.to) - x(lane.run.from), 2)} height=${BAR} />
        ${lane.run.since !== null && x(lane.run.since) - x(lane.run.from) > 2 && html`
          <rect class="prepares" x=${x(lane.run.from)} y=${y} width=${x(lane.run.since) - x(lane.run.from)} height=${BAR} rx="2" />`}
        ${!lane.run.open && end(x(lane.run.to), y, lane.run.word, tone)}`)}
      ${thinned(lane.marks, x).map((mark) => spot(mark, html`
        <rect class="hit" x=${x(mark.at) - 3} y=${y - 7} width="6" height=${BAR + 10} />
        <path class="checkpoint" d=${`M${x(mark.at)} ${y - 1}l-3.5 -5h7z`} />
        <line class="checkpoint" x1=${x(mark.at)} x2=${x(mark.at)} y1=${y} y2=${y + BAR} />`))}
    </g>`;
  }
}

function clipped(text, max) {
  return text.length > max ? `${text.slice(0, max - 1)}…` : text;
}

// Checkpoints at the same pixel are one mark.
function thinned(marks, x) {
  let last = -Infinity;
  return marks.filter((mark) => {
    const at = Math.round(x(mark.at));
    if (at - last < 4) return false;
    last = at;
    return true;
  });
}

// The word at the end of a lane, if the lane has ended.
function endWord({ run, wait }) {
  const last = run ?? wait;
  return last.open ? '' : visible(last.word, 24);
}

// How a bar ends: a cap, and the word beside it.
function end(x, y, word, tone) {
  return html`<line class=${`cap ${tone}`} x1=${x} x2=${x} y1=${y - 3} y2=${y + BAR + 3} />
    <text class=${`verdict ${tone}`} x=${x + 7} y=${y + BAR / 2 + 4}>${visible(word, 24)}</text>`;
}

function axis({ x, left, right, from, narrow }, span, start, height) {
  const most = Math.max(2, Math.floor((right - left) / (narrow ? 52 : 84)));
  const base = from - start;
  return html`<g class="axis" aria-hidden="true">
    ${ticks(span, most).map((at) => html`<line x1=${x(from + at)} x2=${x(from + at)} y1=${AXIS - 6} y2=${height} />
      <text x=${x(from + at)} y="13" text-anchor=${at === 0 ? 'start' : 'middle'}>${base + at === 0 ? '0' : `+${short(base + at)}`}</text>`)}
  </g>`;
}

// An offset as short as an axis needs it.
function short(ms) {
  return ms < 1_000 ? `${Math.round(ms)} ms` : ms < 60_000 ? `${Math.round(ms / 100) / 10} s` : duration(ms);
}

function pointer(x, at, height, width) {
  const late = x > width - 80;
  return html`<g class="pointer" aria-hidden="true"><line x1=${x} x2=${x} y1=${AXIS - 8} y2=${height} />
    <text x=${late ? x - 5 : x + 5} y=${height - 2} text-anchor=${late ? 'end' : 'start'}>${offset(at)}</text></g>`;
}
