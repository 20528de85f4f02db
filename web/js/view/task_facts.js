// What the record of a task says about its work, its limits and its grants, as rows of name and value. Must never
// show the value of a secret: the record has only names of secrets.

import { bytes, count, duration } from '../format.js';
import { visible, visibleLines } from '../text.js';

// An input is shown only so far; it may be a document.
const INPUT_SHOWN = 300;

const CLOCK_DEFAULT_NS = 1_000_000;

// The length of a byte string of the API: inline as text or base64, or an object.
export function sizeOf(data) {
  if (!data) return 0;
  if (typeof data.text === 'string') return new TextEncoder().encode(data.text).length;
  if (typeof data.base64 === 'string') return Math.floor((data.base64.replace(/=+$/, '').length * 3) / 4);
  return data.blob?.size ?? 0;
}

// [title, [[name, value] …]] for each section.
export function factsOf(record) {
  const spec = record?.spec;
  if (!spec) return [];
  return [['Work', work(record, spec)], ['Limits', limits(spec.limits ?? {})], ['Grants', grants(spec.grants)]];
}

function work(record, spec) {
  const input = spec.input?.text ? `${bytes(sizeOf(spec.input))}: ${visibleLines(spec.input.text, INPUT_SHOWN)}` : bytes(sizeOf(spec.input));
  const retry = spec.retry ?? {};
  return [
    ['Module', visible(spec.module?.name ?? 'by digest')],
    ['Digest', visible(spec.module?.digest, 80)],
    ['Input', input],
    spec.args?.length && ['Arguments', visible(spec.args.join(' '), 400)],
    ['Priority', count(spec.priority)],
    spec.selector && ['Needs labels', visible(pairs(spec.selector), 400)],
    ['Fails after', retry.attempts_max === 1 ? 'the first failed attempt' : `${count(retry.attempts_max)} failed attempts`],
    ['If its worker is lost', spec.on_worker_lost === 'fail' ? 'it ends as lost' : 'dispatched again'],
    ['Failures, losses', `${count(record.failures ?? 0)}, ${count(record.losses ?? 0)}`],
  ].filter(Boolean);
}

function limits(limit) {
  return [
    ['Time', duration(limit.timeout_ms)],
    ['Processor time', duration(limit.cpu_ms)],
    ['Memory', bytes(limit.memory_bytes)],
    ['Output', bytes(limit.output_bytes)],
    ['Log', bytes(limit.log_bytes)],
    ['Checkpoint', bytes(limit.checkpoint_bytes)],
    ['In the queue', duration(limit.queue_ms)],
  ];
}

function grants(grant) {
  const rows = [];
  const list = (name, values) => values?.length && rows.push([name, visible(values.join(', '), 400)]);
  // The names tell what a guest can see; values may be long and are the client's business.
  list('Variables', Object.keys(grant?.env ?? {}));
  list('Secrets', grant?.secrets);
  list('HTTP to', grant?.http);
  if (grant?.dir_bytes) rows.push(['Scratch directory', bytes(grant.dir_bytes)]);
  if (grant?.clock_ns && grant.clock_ns !== CLOCK_DEFAULT_NS) rows.push(['Clock', `${count(grant.clock_ns)} ns`]);
  if (grant?.random) rows.push(['Random numbers', 'of the machine']);
  return rows.length > 0 ? rows : [['None', 'only its input, coarse clocks and standard streams']];
}

function pairs(labels) {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(' ');
}
