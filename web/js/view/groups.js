// The groups: how long each queue is, and why it waits. Must never guess a reason: the master names it.

import { html } from '../html.js';
import { count } from '../format.js';
import * as route from '../route.js';
import { Live, store } from '../state.js';
import { visible } from '../text.js';
import { Age } from './age.js';

// Fleets have some dozens of groups. More than this would slow the page down.
const SHOWN_MAX = 200;

function number(n) {
  return html`<span class=${n ? '' : 'zero'}>${count(n)}</span>`;
}

export class Groups extends Live {
  parts() {
    return ['groups'];
  }

  render() {
    const groups = [...store.groups.values()]
      .sort((a, b) => (b.queued > 0) - (a.queued > 0) || b.queued - a.queued || (a.group < b.group ? -1 : 1));
    return html`<section aria-labelledby="groups-title">
      <div class="heading"><h2 id="groups-title">Groups</h2><span class="number">${count(groups.length)}</span></div>
      <table class="plain groups">
        <thead><tr><th scope="col">Group</th><th scope="col" class="n">Queued</th><th scope="col" class="n">Running</th>
          <th scope="col" class="n">Workers</th><th scope="col" class="n">Oldest waits</th><th scope="col">Why it waits</th></tr></thead>
        <tbody>${groups.slice(0, SHOWN_MAX).map((group) => html`<tr key=${group.group}>
          <th scope="row"><a href=${route.toTasks({ group: group.group })} title=${visible(group.group)}>${visible(group.group, 60)}</a></th>
          <td class="n" data-label="queued">${number(group.queued)}</td>
          <td class="n" data-label="running">${number(group.running)}</td>
          <td class="n" data-label="workers"><span class=${group.workers ? '' : 'bad'}>${count(group.workers)}</span></td>
          <td class="n" data-label="oldest waits">${group.oldest_ms === null ? html`<span class="zero">–</span>`
            : html`<${Age} at=${group.oldest_ms} plain />`}</td>
          <td class="why">${group.why ? visible(group.why) : html`<span class="zero">–</span>`}</td>
        </tr>`)}</tbody>
      </table>
      ${groups.length === 0 && html`<p class="empty">No group is known yet.</p>`}
      ${groups.length > SHOWN_MAX && html`<p class="empty">and ${count(groups.length - SHOWN_MAX)} more groups</p>`}
    </section>`;
  }
}
