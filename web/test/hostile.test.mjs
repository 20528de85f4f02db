// Hostile text from the fleet: markup, escape sequences, text that turns, names of ten kilobytes. Must never run.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, startBrowser, startMock, until } from './browser.mjs';

let mock;
let browser;

before(async () => {
  mock = await startMock('--hostile');
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  mock?.stop();
});

const SHOWN = '<img src=x onerror=alert(1)>\\x1b]0;owned\\x07\\x1b[31m\\u{202e}gnp.exe';
const NAME = '<img src=x onerror=alert(1)>\u001b]0;owned\u0007\u001b[31m\u202egnp.exe';

for (const options of [{}, { viewport: { width: 360, height: 740 }, isMobile: true }]) {
  for (const hash of ['', '#/tasks', '#/modules', `#/worker/${encodeURIComponent(NAME)}`, `#/worker/${'n'.repeat(10_000)}`,
    '#/worker/__proto__', '#/task/%E0%A4%A', '#/tasks?group=__proto__&state=constructor']) {
    test(`harmless ${options.isMobile ? 'on a phone' : ''} ${hash.slice(0, 30)}`, async () => {
      const { page, errors, close } = await openPage(browser, mock.address + hash, options);
      await page.waitForSelector('.connection.live');
      await page.waitForTimeout(700);
      assert.equal(await page.$('#app img, #app script'), null);
      const obeyed = await page.evaluate(() => /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText));
      assert.equal(obeyed, false, 'a control character is in the text');
      const attributes = await page.evaluate(() => [...document.querySelectorAll('#app *')].some((element) =>
        [...element.attributes].some((attribute) => /[\u0000-\u0008\u000b-\u001f\u202a-\u202e]/.test(attribute.value))));
      assert.equal(attributes, false, 'a control character is in an attribute');
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'it scrolls sideways');
      assert.deepEqual(errors.filter((error) => !/404/.test(error)), []);
      await close();
    });
  }
}

test('the text is shown, and can be filtered and opened', async () => {
  const { page, errors, close } = await openPage(browser, mock.address);
  await page.waitForSelector('.connection.live');
  await page.fill('.filter', 'onerror');
  await until(async () => (await page.textContent('.list.workers')).includes(SHOWN), 'the name is shown as text');
  await page.goto(`${mock.address}#/tasks?state=dispatched`);
  await page.click('.tasks tbody tr[aria-rowindex="2"] .id');
  await until(async () => (await page.textContent('.lines')).includes('<script>alert(2)</script>'), 'the log shows text');
  assert.match(await page.textContent('.lines'), /more characters/);
  assert.deepEqual(errors, []);
  await close();
});
