// Turns the timeline of a task into lanes for drawing: one an attempt, each with the wait before it. Pure; must
// never know pixels.

import { words } from '../format.js';

// The words that start an attempt, and those after which a task waits for another one.
const STARTS = new Set(['dispatched', 'redispatched']);
const REPEATS = new Set(['lost', 'retried', 'returned']);

// Of `detail` = the master's answer for a task, and the time now. Returns
// {start, end, open, lanes: [{number, worker, attempt, wait, run, marks}]} where `wait` and `run` are
// {from, to, open, word, reason} or null, and a mark is {at, word, reason}. `run.since` is when the guest
// started, as far as the outcome says; before that, the worker prepared it.
export function lanesOf({ task, record, timeline }, now) {
  const events = (timeline ?? []).filter((event) => Number.isFinite(event.at_ms))
    .map((event, i) => ({ ...event, i })).sort((a, b) => a.at_ms - b.at_ms || a.i - b.i);
  const start = Math.min(task.submitted_at, events[0]?.at_ms ?? Infinity);
  const open = task.ended_at === null;
  const end = Math.max(start, open ? now : task.ended_at, events.at(-1)?.at_ms ?? start);
  const numbers = numbersOf(record);
  const lanes = [];
  let waitFrom = task.submitted_at;
  let lane = null;

  for (const event of events) {
    const { at_ms: at, what, reason } = event;
    if (STARTS.has(what)) {
      // An attempt whose end nobody told ends at the latest when the next one starts.
      if (lane?.run.open) finish(lane, at, 'over', '');
      lane = {
        number: numbers.get(event.attempt) ?? lanes.length + 1, worker: event.worker, attempt: event.attempt,
        wait: waitFrom === null ? null : { from: waitFrom, to: at, open: false, word: 'queued', reason: '' },
        run: { from: at, to: end, open: true, word: 'runs', reason: reason ?? '', since: null }, marks: [],
      };
      lanes.push(lane);
      waitFrom = null;
    } else if (what === 'checkpoint' || what === 'started') {
      const of = lanes.findLast((one) => one.attempt === event.attempt) ?? lane;
      if (what === 'started' && of) of.run.since = at;
      else of?.marks.push({ at, word: 'checkpoint', reason: reason ?? '' });
    } else if (what !== 'submitted') {
      const of = (event.attempt !== null && lanes.findLast((one) => one.attempt === event.attempt)) || lane;
      if (of?.run.open) finish(of, at, words(what), reason ?? '');
      else if (waitFrom !== null) lanes.push(unplaced(lanes, waitFrom, at, false, words(what), reason));
      // A task that has ended waits for nothing, whatever the last word was.
      waitFrom = REPEATS.has(what) && !(event.i === events.length - 1 && !open) ? at : null;
    }
  }
  if (open && waitFrom !== null) lanes.push(unplaced(lanes, waitFrom, end, true, 'queued', task.why));
  if (!open && lane?.run.open) finish(lane, task.ended_at, words(task.verdict ?? 'ended'), task.why);
  runOfOutcome(lanes, record);
  return { start, end, open, lanes };
}

function finish(lane, at, word, reason) {
  Object.assign(lane.run, { to: at, open: false, word, reason });
}

// A lane for a wait that no attempt has followed.
function unplaced(lanes, from, to, open, word, reason) {
  return { number: null, worker: null, attempt: null, wait: { from, to, open, word, reason: reason ?? '' }, run: null, marks: [] };
}

// The record has the numbers of its latest attempts; the timeline has only their ids.
function numbersOf(record) {
  const state = record?.state ?? {};
  const last = state.dispatched ?? state.done?.attempt;
  return new Map([...(record?.history ?? []), last].filter((one) => one?.id).map((one) => [one.id, one.number]));
}

// Only the outcome says for how long the guest itself ran.
function runOfOutcome(lanes, record) {
  const done = record?.state?.done;
  const lane = lanes.findLast((one) => one.run && one.attempt === done?.attempt?.id);
  const ran = (done?.outcome?.run_us ?? 0) / 1_000;
  if (lane && ran > 0 && lane.run.since === null) lane.run.since = Math.max(lane.run.from, lane.run.to - ran);
}

// Steps of the scale that people can read, in ms.
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5,
  36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5, 2592e6];

// The offsets of at most `most` ticks within a span.
export function ticks(span, most) {
  const step = STEPS.find((one) => span / one <= most) ?? span;
  const list = [];
  for (let at = 0; at <= span && list.length <= most; at += step) list.push(at);
  return list;
}
