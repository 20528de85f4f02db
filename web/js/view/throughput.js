// The chart of ended tasks a second, with failovers as marks. uPlot draws it; its script is loaded after the
// first paint. Must never draw a line over seconds that are not known.

import { createRef, html } from '../html.js';
import { count, plural, time } from '../format.js';
import { Live, store } from '../state.js';
import { onTheme } from './theme_button.js';

const HEIGHT = 148;

// The average in the legend covers so many seconds: short enough to follow, long enough to be read.
const RECENT = 10;

// uPlot's package has no minified module, so its script is loaded once, the classic way.
let loading = null;
function loadUplot() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = 'vendor/uPlot.iife.min.js';
    script.onload = () => resolve(globalThis.uPlot);
    script.onerror = () => reject(new Error('The chart could not be loaded.'));
    document.head.append(script);
  });
  return loading;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { accent: colour('--accent'), fill: colour('--accent-fill'), bad: colour('--bad'), care: colour('--care'),
    muted: colour('--muted'), line: colour('--line'), font: `11px ${style.getPropertyValue('--sans').trim()}` };
}

export class Throughput extends Live {
  state = { at: null, failed: false };
  box = createRef();

  parts() {
    return ['series'];
  }

  componentDidMount() {
    super.componentDidMount();
    this.endTheme = onTheme(() => this.build());
    this.sizes = new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height: HEIGHT }));
    this.sizes.observe(this.box.current);
    loadUplot().then((uPlot) => {
      this.uPlot = uPlot;
      this.build();
    }, () => this.setState({ failed: true }));
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.gone = true;
    this.endTheme();
    this.sizes.disconnect();
    this.plot?.destroy();
  }

  componentDidUpdate() {
    // A new point each second, not each change.
    const last = store.series[0].at(-1);
    if (this.plot && (last !== this.drawn || store.series[0].length !== this.drawnPoints)) this.draw();
  }

  width() {
    return Math.max(200, Math.floor(this.box.current.clientWidth));
  }

  draw() {
    this.drawn = store.series[0].at(-1);
    this.drawnPoints = store.series[0].length;
    this.plot.setData(store.series.slice(0, 3));
  }

  build() {
    if (!this.uPlot || this.gone) return;
    this.plot?.destroy();
    const c = colours();
    const axis = { stroke: c.muted, font: c.font, ticks: { show: false } };
    this.plot = new this.uPlot({
      width: this.width(), height: HEIGHT, padding: [12, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        // Ten minutes, also before the master has run for so long.
        x: { range: (_, min, max) => [Math.min(min ?? 0, (max ?? 0) - 600), max ?? 0] },
        y: { range: (_, min, max) => [0, Math.max(5, (max ?? 0) * 1.05)] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 22, space: 90, values: (_, splits) => splits.map((s) => time(s * 1_000).slice(0, 5)) },
        { ...axis, grid: { stroke: c.line, width: 1 }, size: 44, space: 36, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5],
          values: (_, splits) => splits.map(count) },
      ],
      series: [
        {},
        { stroke: c.accent, fill: c.fill, width: this.width() < 600 ? 0.75 : 1.25, points: { show: false }, paths: this.uPlot.paths.stepped({ align: -1 }) },
        { stroke: c.bad, fill: c.bad, width: 0, points: { show: false }, paths: this.uPlot.paths.bars({ size: [0.8, 4], align: -1 }) },
      ],
      hooks: {
        draw: [(plot) => marks(plot, c)],
        setCursor: [(plot) => {
          const at = plot.cursor.idx ?? null;
          if (at !== this.state.at) this.setState({ at });
        }],
      },
    }, store.series.slice(0, 3), this.box.current);
    this.draw();
  }

  // What the reader points at, or the last ten seconds.
  readout(at) {
    const [times, completed, failed, failovers] = store.series;
    if (at !== null && at < times.length) {
      return { when: `at ${time(times[at] * 1_000)}`, completed: rate(completed[at]), failed: rate(failed[at]), failovers: failovers[at] ?? 0 };
    }
    const mean = (column) => {
      const recent = column.slice(-RECENT).filter((n) => n !== null);
      return recent.length ? recent.reduce((sum, n) => sum + n, 0) / recent.length : null;
    };
    return { when: `mean of ${RECENT} s`, completed: rate(mean(completed)), failed: rate(mean(failed)), failovers: null };
  }

  render(_, { at, failed }) {
    const total = (column) => store.series[column].reduce((sum, n) => sum + (n ?? 0), 0);
    const [completed, failures, failovers] = [1, 2, 3].map(total);
    const now = this.readout(at);
    return html`<figure class="throughput">
      <figcaption class="heading"><h2>Ended tasks a second</h2>
        <ul class="key">
          <li class="completed">completed <b>${now.completed}</b></li>
          <li class="failed">failed <b>${now.failed}</b></li>
          <li class="failover">failovers ${now.failovers !== null ? html`<b>${now.failovers}</b>` : html`<b>${count(failovers)}</b> in 10 min`}</li>
          <li class="when">${now.when}</li>
        </ul></figcaption>
      <div class="plot" ref=${this.box} role="img" aria-label=${`In the last ten minutes ${
        plural(completed, 'task')} completed, ${count(failures)} failed, and there were ${plural(failovers, 'failover')}.`}></div>
      ${failed && html`<p class="empty">The chart could not be loaded.</p>`}
    </figure>`;
  }
}

function rate(n) {
  return n === null || n === undefined ? '–' : n < 10 ? (Math.round(n * 10) / 10).toString() : count(Math.round(n));
}

// A failover is an event, not a rate: a line through its second, with a mark on top.
function marks(plot, c) {
  const { ctx, bbox } = plot;
  const [times, , , failovers] = store.series;
  const size = 4 * devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = c.care;
  ctx.fillStyle = c.care;
  ctx.lineWidth = devicePixelRatio;
  for (let i = 0; i < times.length; i += 1) {
    if (!failovers[i]) continue;
    const x = Math.round(plot.valToPos(times[i], 'x', true));
    if (x < bbox.left) continue;
    ctx.globalAlpha = 0.45;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.moveTo(x - size, bbox.top - 2 * size);
    ctx.lineTo(x + size, bbox.top - 2 * size);
    ctx.lineTo(x, bbox.top - size * 0.4);
    ctx.fill();
  }
  ctx.restore();
}
