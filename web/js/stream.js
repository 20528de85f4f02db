// The page's one subscription to the master: reads /events into the store and knows how old the news are.
// Must never call the page live when it has heard nothing for five seconds.

// The master sends something every two seconds: two messages may be lost or late.
const STALE_MS = 5_000;

// A connection that is open and silent for so long is given up, because nobody else notices that its other
// end is gone.
const GIVE_UP_MS = 12_000;

// EventSource itself tries again after a broken connection, but not after a refusal.
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 10_000;

// A page that nobody sees for a minute stops costing the master anything.
const HIDDEN_MS = 60_000;

export class Stream {
  // `connecting` before the first snapshot, then `live` or `stale`.
  state = 'connecting';
  #store;
  #clock;
  #source = null;
  #heardAt = performance.now();
  #triedAt = 0;
  #retryMs = RETRY_MS;
  #retry = 0;
  #hidden = 0;
  #listeners = new Set();

  constructor(store, clock) {
    this.#store = store;
    this.#clock = clock;
    setInterval(() => this.#look(), 500);
    document.addEventListener('visibilitychange', () => this.#visibility());
  }

  open() {
    this.close();
    this.#triedAt = performance.now();
    const source = new EventSource('events');
    this.#source = source;
    source.addEventListener('snapshot', (event) => this.#take(event, (data) => {
      this.#clock.reset();
      this.#clock.note(data.now_ms);
      this.#store.snapshot(data);
    }));
    source.addEventListener('change', (event) => this.#take(event, (data) => this.#store.change(data)));
    source.addEventListener('beat', (event) => this.#take(event, () => {}));
    source.onerror = () => {
      if (this.#source === source && source.readyState === EventSource.CLOSED) this.#retryLater();
      this.#tell();
    };
  }

  close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  // How long nothing was heard, in ms.
  silence() {
    return performance.now() - this.#heardAt;
  }

  // Whether a connection is being made.
  reconnecting() {
    return this.#source?.readyState !== EventSource.OPEN;
  }

  // Calls `listener` when the state, or what the page says about it, changes.
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #take(event, use) {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      // A message that is no JSON says nothing; if all are so, the page becomes stale.
      return;
    }
    this.#heardAt = performance.now();
    this.#retryMs = RETRY_MS;
    this.#clock.note(data.now_ms);
    use(data);
    if (this.#store.snapshots > 0) this.#become('live');
  }

  #look() {
    if (document.hidden) return;
    const silence = this.silence();
    if (this.state === 'live' && silence > STALE_MS) this.#become('stale');
    else if (this.state !== 'live') this.#tell();
    const tried = performance.now() - this.#triedAt;
    if (this.#source && silence > GIVE_UP_MS && tried > GIVE_UP_MS) this.open();
  }

  #retryLater() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.open(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }

  #visibility() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => this.close(), HIDDEN_MS);
    } else if (!this.#source || this.silence() > STALE_MS) {
      this.open();
    }
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#tell();
  }

  #tell() {
    for (const listener of this.#listeners) listener(this);
  }
}
