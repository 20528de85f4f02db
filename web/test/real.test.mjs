// The page against a real master: MUSTER_PAGE is its address, MUSTER_TOKEN its token, MUSTER_TASK a task that has ended
// and MUSTER_LONG one that runs. Needs a fleet with a worker `w1` whose tasks may be disturbed.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, startBrowser, until } from './browser.mjs';

const { MUSTER_PAGE, MUSTER_TOKEN, MUSTER_TASK, MUSTER_LONG } = process.env;
const skip = MUSTER_PAGE ? false : 'MUSTER_PAGE names no master';
let browser;

before(async () => {
  if (!skip) browser = await startBrowser();
});

after(() => browser?.close());

// Runs one test on a page of its own, which must not complain about anything.
function onPage(name, hash, run, options) {
  test(name, { skip }, async () => {
    const { page, errors, close } = await openPage(browser, MUSTER_PAGE + hash, options);
    try {
      await page.waitForSelector('.connection.live');
      await run(page);
      assert.deepEqual(errors, []);
    } finally {
      await close();
    }
  });
}

onPage('the fleet shows totals, chart, groups and workers', '', async (page) => {
  await page.waitForSelector('.uplot canvas');
  assert.match(await page.textContent('.totals'), /Workers\s*\d+/);
  assert.match(await page.textContent('.groups'), /default/);
  assert.match(await page.textContent('.list.workers'), /w1/);
  assert.match(await page.getAttribute('.plot', 'aria-label'), /completed/);
});

onPage('a lease bar goes down between renewals and up at them', '', async (page) => {
  const shares = [];
  for (let i = 0; i < 60; i += 1) {
    shares.push(await page.$eval('.tone-good .bar', (bar) => Number(bar.style.transform.match(/[\d.]+/)[0])));
    await page.waitForTimeout(60);
  }
  assert.ok(shares.some((share, i) => i > 0 && share < shares[i - 1]), `it never fell: ${shares}`);
  assert.ok(shares.some((share, i) => i > 0 && share > shares[i - 1] + 0.1), `it never rose: ${shares}`);
});

onPage('tasks are listed, and a filter asks the master', '#/tasks', async (page) => {
  await until(async () => (await page.$$('.tasks tbody tr .id')).length > 3, 'tasks');
  await page.click('.choices button:has-text("Completed")');
  await until(async () => (await page.$$eval('.tasks .state', (states) => states.length > 0
    && states.every((state) => state.textContent === 'completed'))), 'only completed tasks');
});

onPage('a task has its timeline, its result and its facts', `#/task/${MUSTER_TASK}`, async (page) => {
  await page.waitForSelector('rect.run');
  assert.match(await page.textContent('.verdict-line'), /completed/);
  assert.match(await page.textContent('.sides'), /Result.*Limits.*Grants/s);
  await until(async () => /complete/.test(await page.textContent('.log .heading')), 'the end of the log');
});

onPage('the log of a running task follows', `#/task/${MUSTER_LONG}`, async (page) => {
  await page.waitForSelector('rect.run');
  assert.match(await page.textContent('.verdict-line'), /running/);
  await until(async () => /live/.test(await page.textContent('.log .heading')), 'the log is followed');
});

onPage('modules', '#/modules', async (page) => {
  await page.waitForSelector('.modules tbody tr');
  assert.match(await page.textContent('.modules'), /primes.*component.*upper.*module/s);
});

onPage('without a token nothing can be changed; with one, after a confirmation', '#/worker/w1', async (page) => {
  await page.waitForSelector('dialog.side');
  assert.equal(await page.$('dialog.side button:has-text("Drain")'), null);
  await page.click('text=Enter a token');
  await page.fill('input[name="token"]', 'wrong-wrong-wrong-wrong');
  await page.click('text=Use it');
  await until(async () => /may not change anything/.test(await page.textContent('dialog.small')), 'a wrong token is refused');
  await page.fill('input[name="token"]', MUSTER_TOKEN);
  await page.click('text=Use it');
  await page.click('dialog.side button:has-text("Cordon")');
  await page.click('text=Cordon it');
  await until(async () => /cordoned/.test(await page.textContent('dialog.side')), 'the worker is cordoned');
  await page.click('dialog.side button:has-text("Uncordon")');
  await page.click('text=Uncordon it');
  await until(async () => /live/.test(await page.textContent('dialog.side .facts')), 'the worker is live');
});

for (const hash of ['', '#/tasks', `#/task/${MUSTER_TASK}`, '#/modules', '#/worker/w1']) {
  onPage(`a phone of 360 pixels has no sideways scroll: ${hash || '#/'}`, hash, async (page) => {
    await page.waitForTimeout(600);
    const width = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(width, 0);
  }, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
}
