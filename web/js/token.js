// The token that permits changes. It lives in this tab until the tab is closed. Must never put the token into
// an address, a log or the store.

import * as api from './api.js';

const KEY = 'muster-token';

export class Token {
  value = '';
  // Whether the master said that this token, or nobody in particular, may change something.
  mayChange = false;
  #listeners = new Set();

  constructor() {
    try {
      this.value = sessionStorage.getItem(KEY) ?? '';
    } catch {
      // Storage is switched off: the token lasts until the page is loaded again.
    }
  }

  // Asks the master what the token permits. Throws an ApiError.
  async check(value = this.value) {
    const answer = await api.self(value);
    return answer.may_change === true;
  }

  // Looks once when the page starts. If the master does not answer, nothing may be changed.
  async start() {
    try {
      this.mayChange = await this.check();
    } catch {
      this.mayChange = false;
    }
    this.#tell();
  }

  // Keeps the token if the master accepts it. Throws an ApiError.
  async keep(value) {
    if (!(await this.check(value))) {
      throw new api.ApiError('This token may not change anything.', 'Ask the operator of the master for a token that may.');
    }
    this.#set(value, true);
  }

  forget() {
    this.#set('', false);
    this.start();
  }

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #set(value, mayChange) {
    this.value = value;
    this.mayChange = mayChange;
    try {
      if (value) sessionStorage.setItem(KEY, value);
      else sessionStorage.removeItem(KEY);
    } catch {
      // See above.
    }
    this.#tell();
  }

  #tell() {
    for (const listener of this.#listeners) listener(this);
  }
}
