// The frame of the page: header, connection, navigation, and the view that the address names. Must never show
// old news as if they were new.

import { Component, html } from '../html.js';
import { duration } from '../format.js';
import * as route from '../route.js';
import { store, stream, token } from '../state.js';
import { visible } from '../text.js';
import { Dialogs, openToken } from './dialogs.js';
import { FleetView } from './fleet.js';
import { ModulesView } from './modules.js';
import { TaskView } from './task.js';
import { TasksView } from './tasks.js';
import { ThemeButton } from './theme_button.js';

const VIEWS = new Map([['fleet', FleetView], ['worker', FleetView], ['tasks', TasksView], ['task', TaskView], ['modules', ModulesView]]);

// An address that nobody made shows the fleet.
const viewOf = (at) => VIEWS.get(at.view) ?? FleetView;

const TABS = [
  { label: 'Fleet', href: route.toFleet(), views: ['fleet', 'worker'] },
  { label: 'Tasks', href: route.toTasks(), views: ['tasks', 'task'] },
  { label: 'Modules', href: route.toModules(), views: ['modules'] },
];

export class App extends Component {
  state = { route: route.parse(location.hash) };

  componentDidMount() {
    addEventListener('hashchange', () => this.go());
    addEventListener('keydown', onKey);
    store.subscribe((changed) => changed.has('snapshot') && this.forceUpdate());
    this.title();
  }

  go() {
    const to = route.parse(location.hash);
    const from = this.state.route;
    // A dialog over the fleet keeps the place; another view starts at its top.
    if (viewOf(to) !== viewOf(from) || to.view === 'task') scrollTo(0, 0);
    this.setState({ route: to });
    this.title();
  }

  title() {
    const { view, name } = route.parse(location.hash);
    document.title = [name && visible(name, 40), view, store.fleet && visible(store.fleet, 40), 'Muster']
      .filter(Boolean).join(' · ');
  }

  render(_, { route: at }) {
    const View = viewOf(at);
    return html`
      <a class="skip" href="#main" onClick=${(event) => {
        event.preventDefault();
        document.getElementById('main').focus();
      }}>Skip to the content</a>
      <header class="top">
        <div class="inner">
          <p class="brand"><a href=${route.toFleet()}>Muster</a></p>
          <nav aria-label="Views">${TABS.map((tab) => html`
            <a href=${tab.href} aria-current=${tab.views.includes(at.view) ? 'page' : undefined}>${tab.label}</a>`)}
          </nav>
          <dl class="who">
            <div><dt>fleet</dt><dd title=${visible(store.fleet)}>${visible(store.fleet, 40) || '–'}</dd></div>
            <div><dt>master</dt><dd title=${visible(store.master)}>${visible(store.master, 40) || '–'}</dd></div>
            <div><dt>version</dt><dd>${visible(store.version, 20) || '–'}</dd></div>
          </dl>
          <div class="tools"><${Connection} /><${TokenButton} /><${ThemeButton} /></div>
        </div>
      </header>
      <${Banner} />
      <main id="main" tabindex="-1"><${View} key=${View.name} route=${at} /></main>
      <${Dialogs} />`;
  }
}

// Redraws when the stream says something.
class OfStream extends Component {
  componentDidMount() {
    this.end = stream.subscribe(() => this.forceUpdate());
  }

  componentWillUnmount() {
    this.end();
  }
}

class Connection extends OfStream {
  render() {
    const text = stream.state === 'stale' ? `stale since ${duration(Math.floor(stream.silence() / 1_000) * 1_000)}`
      : stream.state;
    return html`<p class=${`connection ${stream.state}`}>${text}</p>`;
  }
}

// Says what is wrong with the connection. Screen readers hear it once, not each second: the text that changes
// is hidden from them.
class Banner extends OfStream {
  render() {
    const silent = stream.silence() > 5_000;
    const stale = stream.state === 'stale';
    const upgraded = store.pageVersion !== store.version;
    let text = null;
    if (stale || (stream.state === 'connecting' && silent)) {
      text = html`<strong>${stale ? 'No news from the master' : 'No answer from the master'}</strong>
        <span aria-hidden="true"> for ${duration(Math.floor(stream.silence() / 1_000) * 1_000)}</span>.
        ${stale && ' What you see may be old.'} ${stream.reconnecting() ? 'Reconnecting …' : ''}`;
    } else if (upgraded) {
      text = html`The master has another version than this page.
        <button type="button" onClick=${() => location.reload()}>Load the page again</button>`;
    }
    return html`<div class=${`banner ${text ? 'shown' : ''}`} role="status"><p>${text}</p></div>`;
  }
}

class TokenButton extends Component {
  componentDidMount() {
    this.end = token.subscribe(() => this.forceUpdate());
  }

  componentWillUnmount() {
    this.end();
  }

  render() {
    return html`<button type="button" class="quiet" onClick=${openToken}
      aria-label=${token.mayChange ? 'Token: changes are permitted' : 'Token: read only'}>${
        token.mayChange ? 'may change' : 'read only'}</button>`;
  }
}

// `/` goes to the filter of the view, as in most lists on the web.
function onKey(event) {
  const at = event.target;
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey) return;
  if (at.closest?.('dialog') || ['INPUT', 'TEXTAREA', 'SELECT'].includes(at.tagName)) return;
  const filter = document.querySelector('[data-filter]');
  if (!filter) return;
  event.preventDefault();
  filter.focus();
  filter.select();
}
