// The bar that shows how much of a worker's lease is left. It moves between renewals, without drawing the view
// anew. Must never show a time that the page cannot know: while the page is stale, it shows none.

import { Component, createRef, html } from '../html.js';
import { clock, stream } from '../state.js';
import { eachStep } from '../ticker.js';

// A worker of the profile `standard` renews when three quarters are left. At half it has missed a renewal, and
// at a quarter two.
const CARE = 0.5;
const BAD = 0.25;

// Whether the worker holds a lease at all.
function holdsLease(worker) {
  return !['lost', 'released', 'drained'].includes(worker.standing);
}

export class LeaseBar extends Component {
  bar = createRef();
  text = createRef();

  componentDidMount() {
    this.end = eachStep(() => this.tick());
    this.tick();
  }

  componentWillUnmount() {
    this.end();
  }

  tick(worker = this.props.worker) {
    const left = worker.renewed_at + worker.lease_ms - clock.now();
    const known = holdsLease(worker) && stream.state === 'live' && Number.isFinite(left) && worker.lease_ms > 0;
    const share = known ? Math.min(Math.max(left / worker.lease_ms, 0), 1) : 0;
    const tone = !known ? 'none' : share <= BAD ? 'bad' : share <= CARE ? 'care' : 'good';
    this.bar.current.style.transform = `scaleX(${share.toFixed(3)})`;
    this.show('tone', tone, () => { this.bar.current.className = `bar ${tone}`; });
    const text = !holdsLease(worker) ? '–' : !known ? '?' : left < 0 ? `−${(-left / 1_000).toFixed(1)} s`
      : left < 20_000 ? `${(left / 1_000).toFixed(1)} s` : `${Math.round(left / 1_000)} s`;
    this.show('shown', text, () => { this.text.current.firstChild.data = text; });
  }

  // Writes to the document only what changed.
  show(name, value, write) {
    if (this[name] === value) return;
    this[name] = value;
    write();
  }

  shouldComponentUpdate(next) {
    this.tick(next.worker);
    return false;
  }

  render() {
    return html`<span class="lease"><span class="track" aria-hidden="true"><span class="bar" ref=${this.bar}></span></span><span
      class="left" ref=${this.text}>${' '}</span></span>`;
  }
}
