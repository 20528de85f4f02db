// The page against a lively fleet: views, time, keyboard, token, phone. Must never depend on a real fleet.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, startBrowser, startMock, until } from './browser.mjs';

const STORY = '#/task/01m8g7b6pnyebwba8a0h18t54m';
let mock;
let browser;

before(async () => {
  mock = await startMock();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  mock?.stop();
});

// Runs one test on a page of its own, which must not complain about anything.
function onPage(name, hash, run, options) {
  test(name, async () => {
    const { page, errors, close } = await openPage(browser, mock.address + hash, options);
    try {
      await page.waitForSelector('.connection.live');
      await run(page);
      assert.deepEqual(errors, []);
    } finally {
      await close();
    }
  });
}

const names = (page) => page.$$eval('.list.workers tbody tr', (rows) => rows
  .map((row) => [Number(row.ariaRowIndex ?? row.getAttribute('aria-rowindex')), row.querySelector('.name').textContent])
  .sort((a, b) => a[0] - b[0]).map(([, name]) => name));
const width = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

onPage('the fleet shows totals, chart, groups and workers', '', async (page) => {
  await page.waitForSelector('.uplot canvas');
  assert.match(await page.textContent('.totals'), /Workers\s*\d+/);
  assert.match(await page.textContent('.groups'), /no worker of group gpu-lab/);
  assert.ok((await names(page)).length >= 12);
  assert.match(await page.getAttribute('.plot', 'aria-label'), /completed, \d+ failed, and there were \d+ failovers/);
  assert.match(await page.textContent('.who'), /muster.*m1.*0\.2\.0/);
});

onPage('a lease bar goes down between renewals and up at them', '', async (page) => {
  const shares = [];
  for (let i = 0; i < 40; i += 1) {
    shares.push(await page.$eval('.tone-good .bar', (bar) => Number(bar.style.transform.match(/[\d.]+/)[0])));
    await page.waitForTimeout(60);
  }
  const falls = shares.filter((share, i) => i > 0 && share < shares[i - 1]).length;
  const rises = shares.filter((share, i) => i > 0 && share > shares[i - 1] + 0.1).length;
  assert.ok(falls > 15, `it fell ${falls} times: ${shares}`);
  assert.ok(rises >= 1, `it rose ${rises} times: ${shares}`);
});

onPage('a silent master is told, and the news that follow end it', '', async (page) => {
  try {
    await mock.tell('silent?on=1');
    await page.waitForSelector('.connection.stale', { timeout: 9_000 });
    assert.match(await page.textContent('.banner'), /No news from the master/);
    assert.match(await page.textContent('.connection'), /stale since \d/);
    await until(async () => (await page.textContent('.left')) === '?', 'the lease is not known while the page is stale');
  } finally {
    await mock.tell('silent?on=0');
  }
  await page.waitForSelector('.connection.live', { timeout: 20_000 });
  await until(async () => !(await page.isVisible('.banner')), 'the banner goes away');
});

test('a connection that breaks comes back', async () => {
  const { page, close } = await openPage(browser, mock.address);
  await page.waitForSelector('.connection.live');
  await mock.tell('cut');
  await page.waitForTimeout(500);
  const before = await page.textContent('.left');
  await until(async () => (await page.textContent('.connection')) === 'live' && (await page.textContent('.left')) !== before,
    'the page is live again');
  await close();
});

onPage('filter and order of workers', '', async (page) => {
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'filter');
  await page.keyboard.type('ber zone=ber-2');
  await until(async () => (await names(page)).every((name) => name.startsWith('ber-')), 'only ber is shown');
  const few = (await names(page)).length;
  assert.ok(few > 0 && few < 6, `${few} rows`);
  await page.keyboard.press('Escape');
  await until(async () => (await names(page)).length > 10, 'Esc empties the filter');
  await page.click('th.c-worker button');
  await until(async () => (await names(page))[0] === 'ber-w1', 'ascending by name');
  assert.equal(await page.getAttribute('th.c-worker', 'aria-sort'), 'ascending');
  await page.click('th.c-worker button');
  await until(async () => (await names(page))[0] === 'sgp-w6', 'descending by name');
  await page.click('.choices button:has-text("Cordoned")');
  await until(async () => (await names(page)).length < 5, 'only cordoned workers');
});

onPage('rows by keyboard: arrows move, Enter opens, Esc closes', '', async (page) => {
  await page.click('th.c-worker button');
  await until(async () => (await names(page))[0] === 'ber-w1', 'ordered by name');
  await page.keyboard.press('/');
  await page.keyboard.press('ArrowDown');
  const focused = () => page.evaluate(() => document.activeElement.querySelector('.name')?.textContent);
  assert.equal(await until(focused, 'a row has the focus'), 'ber-w1');
  await page.keyboard.press('ArrowDown');
  await until(async () => (await focused()) === 'ber-w2', 'the next row');
  await page.keyboard.press('End');
  await until(async () => (await focused()) === 'sgp-w6', 'the last row');
  await page.keyboard.press('Home');
  await until(async () => (await focused()) === 'ber-w1', 'the first row');
  await page.keyboard.press('Enter');
  await page.waitForSelector('dialog[open]');
  assert.match(await page.textContent('dialog'), /ber-w1.*Lease left/s);
  await page.keyboard.press('Escape');
  await until(async () => !(await page.$('dialog[open]')), 'Esc closes the dialog');
  assert.equal(await page.evaluate(() => location.hash), '#/');
});

onPage('tasks: filters, more, and live changes', '#/tasks', async (page) => {
  await page.waitForSelector('.more button');
  const loaded = async () => Number((await page.textContent('.heading .number')).replace(/\D/g, ''));
  const before = await loaded();
  await page.click('.more button');
  await until(async () => (await loaded()) > before + 50, 'the next page adds tasks');
  await page.click('.choices button:has-text("Failed")');
  await until(async () => (await page.$$eval('.tasks .state', (states) => states.length > 3
    && states.every((state) => state.textContent === 'failed'))), 'only failed tasks');
  await page.selectOption('select[aria-label="Group"]', 'batch');
  await until(async () => (await page.$$eval('.tasks .c-group', (cells) => cells.slice(1).every((cell) => cell.textContent === 'batch'))), 'of one group');
  assert.match(await page.evaluate(() => location.hash), /state=failed&group=batch/);
  await page.click('.choices button:has-text("All")');
  await page.selectOption('select[aria-label="Group"]', '');
  const first = () => page.$eval('.tasks tbody tr[aria-rowindex="2"] .id', (id) => id.textContent);
  const newest = await first();
  await until(async () => (await first()) !== newest, 'new tasks appear by themselves');
});

onPage('a task: timeline to scale, log, result', STORY, async (page) => {
  await page.waitForSelector('.run');
  const bars = await page.$$eval('rect.run', (runs) => runs.map((run) => [run.x.baseVal.value, run.width.baseVal.value]));
  assert.equal(bars.length, 3);
  // The attempts lasted 14.5 s, 11.2 s and 17.4 s.
  assert.ok(Math.abs(bars[0][1] / bars[1][1] - 14.5 / 11.2) < 0.02, `widths ${bars}`);
  assert.ok(Math.abs(bars[2][1] / bars[1][1] - 17.4 / 11.2) < 0.02, `widths ${bars}`);
  await page.focus('.spot[tabindex="0"]');
  await page.keyboard.press('ArrowRight');
  await until(async () => /Attempt 1 on ber-w1/.test(await page.textContent('.readout')), 'the focus tells times');
  await page.hover('rect.run >> nth=1');
  await until(async () => /Attempt 2 .* lost: worker/.test(await page.textContent('.readout')), 'the pointer tells times');
  await until(async () => (await page.$$('.line')).length > 20, 'lines of the log');
  assert.ok((await page.$$('.line.stderr')).length > 0);
  await until(async () => /complete/.test(await page.textContent('.log .heading')), 'the end of the log');
  assert.match(await page.textContent('.sides'), /Result 30 B.*frames.*Memory128 MiB.*HTTP toexample.com/s);
});

onPage('the log of a running task follows, and pauses when the reader scrolls', '#/tasks?state=dispatched', async (page) => {
  await page.click('.tasks tbody tr[aria-rowindex="2"] .id');
  await until(async () => (await page.$$('.line')).length > 2, 'lines appear');
  await page.click('.log button');
  assert.match(await page.textContent('.log button'), /Follow/);
});

onPage('modules', '#/modules', async (page) => {
  await page.waitForSelector('.modules tbody tr');
  const text = await page.textContent('.modules');
  assert.match(text, /transcode.*component/s);
  assert.match(text, /0807060504030201/);
  await page.fill('.filter', 'fetch');
  await until(async () => (await page.$$('.modules tbody tr')).length === 4, 'four versions of fetch');
});

onPage('without a token nothing can be changed; with one, after a confirmation', '#/worker/ber-w3', async (page) => {
  await page.waitForSelector('dialog.side');
  assert.equal(await page.$('dialog.side button:has-text("Drain")'), null);
  await page.click('text=Enter a token');
  await page.fill('input[name="token"]', 'wrong');
  await page.click('text=Use it');
  await until(async () => /may not change anything/.test(await page.textContent('dialog.small')), 'a wrong token is refused');
  await page.fill('input[name="token"]', 'letmein');
  await page.click('text=Use it');
  await page.waitForSelector('dialog.side button:has-text("Cordon")');
  assert.equal(await page.evaluate(() => sessionStorage.getItem('muster-token')), 'letmein');
  await page.click('dialog.side button:has-text("Cordon")');
  assert.match(await page.textContent('dialog.small'), /Cordon worker ber-w3\?/);
  await page.click('text=Cordon it');
  await until(async () => /cordoned/.test(await page.textContent('dialog.side')), 'the worker is cordoned');
  await page.click('dialog.side button:has-text("Uncordon")');
  await page.click('text=Uncordon it');
  await until(async () => /live/.test(await page.textContent('dialog.side .facts')), 'the worker is live');
  await page.reload();
  await page.waitForSelector('dialog.side button:has-text("Drain")');
});

onPage('colours follow the system and the button', '', async (page) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await ground(), 'rgb(18, 20, 23)');
  await page.click('button[aria-label^="Colours"]');
  await until(async () => (await ground()) === 'rgb(252, 252, 251)', 'light by the button');
  await page.reload();
  assert.equal(await ground(), 'rgb(252, 252, 251)');
}, { colorScheme: 'dark' });

for (const hash of ['', '#/tasks', STORY, '#/modules', '#/worker/ber-w1']) {
  onPage(`a phone of 360 pixels has no sideways scroll: ${hash || '#/'}`, hash, async (page) => {
    await page.waitForTimeout(600);
    assert.equal(await width(page), 0);
  }, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
}

onPage('less motion: bars move in steps of half a second', '', async (page) => {
  const moves = await page.evaluate(() => new Promise((resolve) => {
    let count = 0;
    const seen = new MutationObserver(() => { count += 1; });
    seen.observe(document.querySelector('.tone-good .bar'), { attributes: true, attributeFilter: ['style'] });
    setTimeout(() => resolve(count), 2_000);
  }));
  // Four steps, and the renewals, which are drawn at once.
  assert.ok(moves >= 3 && moves <= 16, `${moves} moves in 2 s`);
}, { reducedMotion: 'reduce' });
