// The modules of the fleet and their versions. Must never call a signature valid: no master has verified it.

import { Component, html } from '../html.js';
import * as api from '../api.js';
import { bytes, count, utc } from '../format.js';
import { visible } from '../text.js';
import { Age } from './age.js';
import { shownOf } from './list.js';
import { Filter } from './workers.js';

// Modules are pushed by people; half a minute is soon enough.
const READ_EVERY_MS = 30_000;

// More rows would slow the page down; the filter finds the others.
const SHOWN_MAX = 1_000;

// The id of the key in a signature in minisign's format: bytes 2 to 9 of the second line, little-endian, as
// minisign shows it.
export function signerOf(signature) {
  try {
    const raw = atob(String(signature).split('\n')[1].trim());
    const id = [...raw.slice(2, 10)].reverse().map((char) => char.charCodeAt(0).toString(16).padStart(2, '0')).join('');
    return id.length === 16 ? id.toUpperCase() : 'unreadable';
  } catch {
    return 'unreadable';
  }
}

export class ModulesView extends Component {
  state = { modules: null, error: null, text: '' };

  componentDidMount() {
    this.read();
    this.timer = setInterval(() => !document.hidden && this.read(), READ_EVERY_MS);
  }

  componentWillUnmount() {
    clearInterval(this.timer);
    this.gone = true;
  }

  async read() {
    try {
      const { modules } = await api.modules();
      if (!this.gone) this.setState({ modules, error: null });
    } catch (error) {
      if (!this.gone) this.setState({ error });
    }
  }

  // One row a version: names in order, the newest version first, which the bare name means.
  rows() {
    const terms = this.state.text.toLowerCase().split(/\s+/).filter(Boolean);
    return (this.state.modules ?? [])
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap(({ name, versions }) => versions.toReversed().map((version, i) => ({ name, version, newest: i === 0 })))
      .filter(({ name, version }) => {
        const text = `${name}:${version.version} ${version.kind} ${version.digest}`.toLowerCase();
        return terms.every((term) => text.includes(term));
      });
  }

  row({ name, version, newest }, again) {
    return html`<tr key=${`${name}:${version.version}`} class=${again ? 'again' : ''}>
      <th scope="row" title=${visible(name)}>${visible(name, 60)}</th>
      <td>${visible(version.version, 40)}${newest && html` <span class="label" title=${`${visible(name, 60)} without a version means this one`}>newest</span>`}</td>
      <td class="n" data-label="size">${bytes(version.size)}</td>
      <td data-label="kind">${visible(version.kind, 20)}</td>
      <td data-label="signer">${version.signature
        ? html`<span class="id" title="The key that the signature names. Workers verify it, masters do not.">${signerOf(version.signature)}</span>`
        : html`<span class="zero">unsigned</span>`}</td>
      <td data-label="pushed" title=${utc(version.pushed_at)}><${Age} at=${version.pushed_at} /></td>
      <td class="digest"><span class="id" title=${visible(version.digest)}>${visible(version.digest, 80).replace(/^sha256:/, '')}</span></td>
    </tr>`;
  }

  render(_, { modules, error, text }) {
    const rows = this.rows();
    const all = (modules ?? []).reduce((sum, module) => sum + module.versions.length, 0);
    return html`
      <div class="heading first"><h1>Modules</h1>
        <span class="number" role="status">${modules && `${count(modules.length)}, versions: ${shownOf(rows.length, all)}`}</span>
        <span class="spring"></span>
        <${Filter} value=${text} label="Filter modules by name, version, kind or digest" onText=${(value) => this.setState({ text: value })} />
      </div>
      ${error && html`<p class="failure" role="alert">${visible(error.message, 400)} <span class="hint">${visible(error.hint, 400)}</span>
        <button type="button" onClick=${() => this.read()}>Try again</button></p>`}
      <table class="plain modules">
        <thead><tr><th scope="col">Module</th><th scope="col">Version</th><th scope="col" class="n">Size</th>
          <th scope="col">Kind</th><th scope="col">Signer</th><th scope="col">Pushed</th><th scope="col">SHA-256</th></tr></thead>
        <tbody>${rows.slice(0, SHOWN_MAX).map((row, i) => this.row(row, i > 0 && rows[i - 1].name === row.name))}</tbody>
      </table>
      ${rows.length === 0 && html`<p class="empty">${modules === null ? (error ? '' : 'Loading …') : text ? 'No module matches the filter.' : 'No module was pushed yet.'}</p>`}
      ${rows.length > SHOWN_MAX && html`<p class="empty">and ${count(rows.length - SHOWN_MAX)} more versions</p>`}`;
  }
}
