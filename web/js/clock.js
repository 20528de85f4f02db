// The server's clock, as far as the page knows it. Leases and ages are compared with it, because the clock
// of the reader's computer may be wrong. Must never use Date: only the browser's monotonic clock.

// A message that travelled fast knows the time best. After this time a slower one counts again, because
// the rates of the two clocks differ a little.
const BEST_LASTS_MS = 30_000;

// The server's clock was set back, or this computer slept, if the offset falls by more than this.
const STEP_MS = 2_000;

export class ServerClock {
  #offset = null;
  #bestAt = 0;

  // Takes note of the time that a message from the server carries.
  note(nowMs) {
    if (!Number.isFinite(nowMs)) return;
    const here = performance.now();
    const offset = nowMs - here;
    const better = this.#offset === null || offset > this.#offset;
    const old = here - this.#bestAt > BEST_LASTS_MS;
    if (better || old || this.#offset - offset > STEP_MS) {
      this.#offset = offset;
      this.#bestAt = here;
    }
  }

  // Forgets what it knows. A snapshot may come from another master.
  reset() {
    this.#offset = null;
  }

  // The server's time now in ms since 1970; NaN before the first message.
  now() {
    return this.#offset === null ? NaN : performance.now() + this.#offset;
  }
}
