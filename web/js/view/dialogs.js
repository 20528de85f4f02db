// The dialogs: one for the token, one to confirm a change; and the line that says how a change ended. Must
// never change anything before the reader has confirmed it.

import { Component, createRef, html } from '../html.js';
import { token } from '../state.js';
import { visible } from '../text.js';

// The outcome of a change stays in sight for so long.
const NOTICE_MS = 6_000;

let dialogs = null;

// Opens the dialog for the token.
export const openToken = () => dialogs?.show({ kind: 'token' });

// Asks before a change. `ask` is {title, text, action, run}; `run` returns a promise and `done` says what then
// happened.
export const confirmChange = (ask) => dialogs?.show({ kind: 'confirm', ...ask });

// A native dialog: the browser keeps the focus inside, closes it at Esc, and gives the focus back.
export class Dialog extends Component {
  element = createRef();

  componentDidMount() {
    this.element.current.showModal();
  }

  render({ label, kind, onClose, children }) {
    return html`<dialog ref=${this.element} class=${kind} aria-label=${label} onClose=${onClose}
      onClick=${(event) => event.target === this.element.current && this.element.current.close()}>
      <div class="sheet">${children}</div></dialog>`;
  }
}

export class Dialogs extends Component {
  state = { open: null, busy: false, error: null, notice: '' };

  componentDidMount() {
    dialogs = this;
    token.subscribe(() => this.forceUpdate());
  }

  show(open) {
    this.setState({ open, busy: false, error: null });
  }

  close = () => this.setState({ open: null, busy: false, error: null });

  async attempt(run, done) {
    this.setState({ busy: true, error: null });
    try {
      await run();
      this.close();
      if (done) this.say(done);
    } catch (error) {
      this.setState({ busy: false, error });
    }
  }

  say(notice) {
    this.setState({ notice });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.setState({ notice: '' }), NOTICE_MS);
  }

  keep = (event) => {
    event.preventDefault();
    const value = event.target.elements.token.value.trim();
    if (value) this.attempt(() => token.keep(value), 'The token is kept until this tab is closed.');
  };

  error() {
    const { error } = this.state;
    return html`<p class="failure" role="alert">${error && html`${visible(error.message, 400)}
      ${error.hint && html`<span class="hint">${visible(error.hint, 400)}</span>`}`}</p>`;
  }

  token() {
    return html`<${Dialog} label="Token" kind="small" onClose=${this.close}>
      <form onSubmit=${this.keep}>
        <h2>Token</h2>
        <p>${token.mayChange
          ? 'You may drain, cordon and uncordon workers, and cancel tasks.'
          : 'This page only reads. With a token of the master you may also drain, cordon and uncordon workers, and cancel tasks.'}${' '}
          The token stays in this tab.</p>
        <label>Token<input name="token" type="password" autocomplete="off" spellcheck="false" autofocus
          placeholder=${token.value ? 'kept; enter another one to replace it' : ''} /></label>
        ${this.error()}
        <div class="actions">
          ${token.value && html`<button type="button" onClick=${() => { token.forget(); this.close(); }}>Forget it</button>`}
          <span class="spring"></span>
          <button type="button" onClick=${this.close}>Close</button>
          <button type="submit" class="primary" disabled=${this.state.busy}>Use it</button>
        </div>
      </form></${Dialog}>`;
  }

  confirm({ title, text, action, run, done }) {
    return html`<${Dialog} label=${title} kind="small" onClose=${this.close}>
      <h2>${title}</h2>
      <p>${text}</p>
      ${this.error()}
      <div class="actions">
        <span class="spring"></span>
        <button type="button" autofocus onClick=${this.close}>Leave as it is</button>
        <button type="button" class="primary" disabled=${this.state.busy}
          onClick=${() => this.attempt(run, done)}>${action}</button>
      </div></${Dialog}>`;
  }

  render(_, { open, notice }) {
    return html`
      ${open?.kind === 'token' && this.token()}
      ${open?.kind === 'confirm' && this.confirm(open)}
      <p class=${`notice ${notice ? 'shown' : ''}`} role="status">${notice}</p>`;
  }
}
