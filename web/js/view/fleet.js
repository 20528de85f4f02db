// The fleet at a glance: totals, throughput, groups, workers. Must never ask the master for anything: the
// stream brings it all.

import { html } from '../html.js';
import { count } from '../format.js';
import * as route from '../route.js';
import { Live, store } from '../state.js';
import { Groups } from './groups.js';
import { Throughput } from './throughput.js';
import { WorkerDialog } from './worker.js';
import { Workers } from './workers.js';

export class FleetView extends Live {
  parts() {
    return ['snapshot'];
  }

  render({ route: at }) {
    const close = () => {
      if (location.hash.startsWith('#/worker/')) location.hash = route.toFleet();
    };
    return html`
      <h1 class="unseen">Fleet</h1>
      <${Totals} />
      <${Throughput} />
      <${Groups} />
      <${Workers} query=${at.query} />
      ${at.view === 'worker' && html`<${WorkerDialog} key=${at.name} name=${at.name} onClose=${close} />`}`;
  }
}

class Totals extends Live {
  parts() {
    return ['totals', 'workers'];
  }

  render() {
    const { open, ended, workers } = store;
    let slots = 0;
    let used = 0;
    let live = 0;
    for (const worker of workers.values()) {
      if (worker.standing === 'lost' || worker.standing === 'released') continue;
      live += 1;
      slots += worker.slots;
      used += worker.running;
    }
    const figures = [
      ['Workers', count(live), 'that hold a lease', workers.size - live > 0 && `${count(workers.size - live)} gone`],
      ['Slots used', count(used), '', `of ${count(slots)}`],
      ['Queued', count(open.queued), 'tasks that wait for a worker'],
      ['Running', count(open.running), 'tasks that were dispatched'],
      ['Completed', count(ended.completed), 'tasks'],
      ['Failed', count(ended.failed), 'tasks', '', ended.failed > 0],
      ['Cancelled', count(ended.cancelled), 'tasks'],
      ['Lost', count(ended.lost), 'tasks that ended as lost', '', ended.lost > 0],
    ];
    return html`<dl class="totals" aria-label="Totals">${figures.map(([name, value, title, note, bad]) => html`
      <div key=${name} title=${title}><dt>${name}</dt>
        <dd class=${bad ? 'bad' : value === '0' ? 'zero' : ''}>${value}${note && html` <small>${note}</small>`}</dd></div>`)}</dl>`;
  }
}
