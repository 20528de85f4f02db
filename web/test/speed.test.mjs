// How smooth the page is with 1,000 workers and 10,000 tasks, how soon it paints, and how much it weighs. Prints
// the figures; its limits are wide, because a shared machine draws without a graphics card. Must run alone.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openPage, startBrowser, startMock, until } from './browser.mjs';

const ROOT = new URL('../', import.meta.url);
let mock;
let browser;

before(async () => {
  mock = await startMock('--workers', '1000', '--tasks', '8000', '--fast-log', '20000');
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  mock?.stop();
});

// The times between frames, and the shares of scripts and layout. The page scrolls by `by` pixels a frame, and
// turns round after `turn` frames.
async function measure(page, ms, scroll = { by: 0, turn: 1 }) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Performance.enable');
  const metrics = async () => Object.fromEntries((await cdp.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]));
  const before = await metrics();
  const gaps = await page.evaluate(([length, { by, turn }]) => new Promise((resolve) => {
    const gaps = [];
    const start = performance.now();
    let last = start;
    const frame = (at) => {
      gaps.push(at - last);
      last = at;
      if (by) scrollBy(0, gaps.length % (2 * turn) < turn ? by : -by);
      if (at - start < length) requestAnimationFrame(frame);
      else resolve(gaps.slice(2).sort((a, b) => a - b));
    };
    requestAnimationFrame(frame);
  }), [ms, scroll]);
  const after = await metrics();
  const share = (name) => (after[name] - before[name]) / (after.Timestamp - before.Timestamp);
  const at = (part) => gaps[Math.min(gaps.length - 1, Math.floor(gaps.length * part))];
  return { frames: gaps.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1), script: share('ScriptDuration'), layout: share('LayoutDuration') + share('RecalcStyleDuration'), busy: share('TaskDuration') };
}

function tell(name, m, still = false) {
  console.log(`${name}: ${m.frames} frames; gap p50 ${m.p50.toFixed(1)} p95 ${m.p95.toFixed(1)} p99 ${m.p99.toFixed(1)} max ${m.max.toFixed(1)} ms; main thread: script ${(m.script * 100).toFixed(1)} %, style and layout ${(m.layout * 100).toFixed(1)} %, all ${(m.busy * 100).toFixed(1)} %`);
  // Scrolling without a graphics card depends on who else uses the machine: those figures are only printed.
  if (still) assert.ok(m.p50 < 20, `${name}: half of the frames take ${m.p50} ms`);
}

// A page of its own for each measurement.
async function open(hash) {
  const opened = await openPage(browser, mock.address + hash);
  await opened.page.waitForSelector('.connection.live', { timeout: 30_000 });
  await opened.page.waitForTimeout(1_500);
  return opened;
}

test('first paint', async () => {
  const { page, close } = await openPage(browser, mock.address);
  await page.waitForSelector('.workers tbody tr');
  const times = await page.evaluate(() => ({
    paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
    rows: performance.now(),
    transferred: performance.getEntriesByType('resource').length,
  }));
  console.log(`first contentful paint ${times.paint.toFixed(0)} ms; workers in the list before ${times.rows.toFixed(0)} ms; ${times.transferred} resources`);
  await close();
});

test('frames with 1,000 workers', async () => {
  const { page, close } = await open('');
  tell('fleet, still', await measure(page, 5_000), true);
  tell('fleet, scrolling', await measure(page, 5_000, { by: 90, turn: 200 }));
  await page.fill('.filter', 'ber');
  tell('fleet, filtered', await measure(page, 3_000), true);
  await close();
});

test('frames with 10,000 tasks', async () => {
  const { page, close } = await open('#/tasks');
  const rows = async () => Number(await page.getAttribute('.list.tasks', 'aria-rowcount')) - 1;
  while (await rows() < 10_000) {
    const before = await rows();
    await page.click('.more button:enabled');
    await until(async () => (await rows()) > before + 300, 'a page of tasks');
  }
  console.log(`${await rows()} tasks loaded, ${await page.$$eval('*', (all) => all.length)} elements in the document`);
  assert.ok(await rows() >= 10_000);
  tell('tasks, still', await measure(page, 5_000), true);
  tell('tasks, scrolling', await measure(page, 5_000, { by: 150, turn: 300 }));
  await close();
});

test('frames of a quick log; at most 5,000 lines', async () => {
  const { page, close } = await open('#/task/01m8g7b6pnyebwba8a0h18t54m');
  tell('log', await measure(page, 2_000));
  await until(async () => /complete/.test(await page.textContent('.log .heading')), 'the end of the log', 30_000);
  await until(async () => (await page.$$('.line')).length === 5_000, 'the latest 5,000 lines');
  await page.waitForTimeout(500);
  assert.equal((await page.$$('.line')).length, 5_000);
  await close();
});

test('weight', () => {
  const files = readdirSync(ROOT, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(html|css|js|mjs|svg)$/.test(entry.name))
    .map((entry) => `${entry.parentPath ?? entry.path}/${entry.name}`.replace(ROOT.pathname, '').replace(/^\//, ''))
    .filter((name) => !name.startsWith('test/'));
  let [raw, packed] = [0, 0];
  for (const name of files.sort()) {
    const body = readFileSync(new URL(name, ROOT));
    const gzip = gzipSync(body, { level: 9 }).length;
    raw += body.length;
    packed += gzip;
    console.log(`${String(body.length).padStart(7)} ${String(gzip).padStart(6)} ${name}`);
  }
  console.log(`${String(raw).padStart(7)} ${String(packed).padStart(6)} in ${files.length} files`);
  assert.ok(packed < 90_000);
});
