// Tables for the functions that need no browser. Must never start one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, duration, offset } from '../js/format.js';
import { parse, toTask } from '../js/route.js';
import { Store } from '../js/store.js';
import { visible, visibleLines } from '../js/text.js';
import { lanesOf, ticks } from '../js/view/timeline_model.js';

test('text from outside is shown and never obeyed', () => {
  const rows = [
    ['grün\u20ac', 'grün\u20ac'],
    ['\u001b]0;title\u0007', '\\x1b]0;title\\x07'],
    ['\u009b2J', '\\x9b2J'],
    ['a\nb\tc\r\u007f', 'a\\nb\\tc\\r\\x7f'],
    ['\u202ecba', '\\u{202e}cba'],
    ['a\ud800b', 'a\\u{d800}b'],
    ['zero\u200bwidth\ufeff', 'zero\\u{200b}width\\u{feff}'],
    [null, ''], [undefined, ''], [3, '3'], [{ type: 'img' }, '{"type":"img"}'],
  ];
  for (const [text, shown] of rows) assert.equal(visible(text), shown);
  assert.equal(visible('x'.repeat(10_000), 10), 'xxxxxxxxxx… (9990 more characters)');
  assert.equal(visible('ab😀c', 3), 'ab… (3 more characters)');
  assert.equal(visibleLines('a\n\tb\u0007', 99), 'a\n\tb\\x07');
});

test('durations, offsets and sizes', () => {
  for (const [ms, shown] of [[0, '0 ms'], [340, '340 ms'], [3_290, '3.2 s'], [59_999, '59 s'], [65_000, '1 m 05 s'],
    [7_380_000, '2 h 03 m'], [273_600_000, '3 d 04 h'], [NaN, '–'], [-5, '0 ms']]) assert.equal(duration(ms), shown);
  assert.equal(offset(1_250), '+1.25 s');
  for (const [n, shown] of [[12, '12 B'], [130_703, '128 KiB'], [1536, '1.5 KiB'], [134_217_728, '128 MiB']]) assert.equal(bytes(n), shown);
});

test('addresses', () => {
  assert.equal(parse('').view, 'fleet');
  assert.equal(parse(toTask('a/b?#')).name, 'a/b?#');
  assert.equal(parse('#/task/%E0%A4%A').name, '%E0%A4%A');
  assert.equal(parse('#/tasks?state=failed').query.get('state'), 'failed');
});

const task = (over) => ({ id: 't', submitted_at: 100, ended_at: null, verdict: null, why: 'w', ...over });
const event = (at_ms, what, attempt = null, worker = attempt && `w-${attempt}`) => ({ at_ms, what, attempt, worker, reason: '' });

test('a timeline becomes one lane an attempt, each after its wait', () => {
  const timeline = [event(100, 'submitted'), event(200, 'dispatched', 'a'), event(250, 'checkpoint', 'a'), event(500, 'lost', 'a'),
    event(600, 'redispatched', 'b'), event(900, 'completed', 'b')];
  const { lanes, start, end } = lanesOf({ task: task({ ended_at: 900, verdict: 'completed' }), record: {}, timeline }, 9_999);
  assert.deepEqual([start, end], [100, 900]);
  assert.deepEqual(lanes.map((lane) => [lane.number, lane.worker, lane.wait.from, lane.run.from, lane.run.to, lane.run.word, lane.marks.length]),
    [[1, 'w-a', 100, 200, 500, 'lost', 1], [2, 'w-b', 500, 600, 900, 'completed', 0]]);
});

test('the outcome says since when the guest ran, the record says the numbers', () => {
  const record = { state: { done: { outcome: { run_us: 200_000 }, attempt: { id: 'b', number: 7 } } } };
  const { lanes } = lanesOf({ task: task({ ended_at: 900, verdict: 'failed' }), record, timeline: [event(600, 'dispatched', 'b'), event(900, 'failed', 'b')] }, 0);
  assert.deepEqual([lanes[0].number, lanes[0].run.since], [7, 700]);
});

test('open, lost and unplaced tasks', () => {
  const rows = [
    ['queued', task({}), [event(100, 'submitted')], [['wait', 'queued', true, 5_000]]],
    ['runs', task({}), [event(100, 'submitted'), event(200, 'dispatched', 'a')], [['run', 'runs', true, 5_000]]],
    ['waits again', task({}), [event(200, 'dispatched', 'a'), event(300, 'lost', 'a')], [['run', 'lost', false, 300], ['wait', 'queued', true, 5_000]]],
    ['ends as lost', task({ ended_at: 300, verdict: 'lost' }), [event(200, 'dispatched', 'a'), event(300, 'lost', 'a')], [['run', 'lost', false, 300]]],
    ['cancelled in the queue', task({ ended_at: 300, verdict: 'cancelled' }), [event(100, 'submitted'), event(300, 'cancelled')], [['wait', 'cancelled', false, 300]]],
    ['nothing is known', task({}), undefined, [['wait', 'queued', true, 5_000]]],
  ];
  for (const [name, of, timeline, expected] of rows) {
    const { lanes } = lanesOf({ task: of, record: null, timeline }, 5_000);
    const found = lanes.map((lane) => [lane.run ? 'run' : 'wait', (lane.run ?? lane.wait).word, (lane.run ?? lane.wait).open, (lane.run ?? lane.wait).to]);
    assert.deepEqual(found, expected, name);
  }
});

test('ticks have readable steps and are never too many', () => {
  assert.deepEqual(ticks(10_000, 5), [0, 2_000, 4_000, 6_000, 8_000, 10_000]);
  for (const span of [1, 77, 5_000, 1e7, 1e12]) assert.ok(ticks(span, 8).length <= 9, `${span}`);
});

test('the store applies changes, marks gaps, and has bounds', () => {
  globalThis.requestAnimationFrame = () => 1;
  const store = new Store();
  const worker = (name, renewed_at) => ({ worker: name, renewed_at });
  store.snapshot({ workers: [worker('a', 1), worker('__proto__', 1)], groups: [], tasks: [], series: [[1_000, 5, 1, 0]], open: { queued: 1, running: 2 } });
  store.change({ workers: [worker('a', 2)], workers_gone: ['__proto__'], open: { queued: 3 }, series: [[1_000, 9, 9, 9], [2_000, 6, 0, 1], [9_000, 7, 0, 0]] });
  assert.deepEqual([...store.workers.keys()], ['a']);
  assert.deepEqual(store.open, { queued: 3, running: 2 });
  assert.deepEqual(store.series, [[1, 2, 3, 9], [5, 6, null, 7], [1, 0, null, 0], [0, 1, null, 0]]);
  store.change({ renewed: [['a', 7], ['nobody', 7]] });
  assert.equal(store.workers.get('a').renewed_at, 7);
  const old = { id: 'x', ended_at: null, attempts: 1, submitted_at: 1 };
  store.addTasks([old]);
  store.addTasks([{ ...old, ended_at: 5 }]);
  store.addTasks([old]);
  assert.equal(store.tasks.get('x').ended_at, 5, 'an end stays');
  store.addTasks(Array.from({ length: 30_000 }, (_, i) => ({ id: `t${i}`, ended_at: i % 2 ? 1 : null, attempts: 1, submitted_at: i })));
  assert.ok(store.tasks.size <= 20_000, `${store.tasks.size} tasks`);
  assert.ok(store.tasks.has('t0'), 'open tasks stay');
  store.change({ series: Array.from({ length: 2_000 }, (_, i) => [10_000 + i * 1_000, 1, 0, 0]) });
  assert.ok(store.series[0].length <= 620);
});
