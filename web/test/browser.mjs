// Starts the mock server and a headless browser for the tests, and ends both. Must never pass over an error
// that the page reports: each test asks for them at its end.

import { spawn } from 'node:child_process';
import { chromium } from 'playwright-core';

const MOCK = new URL('mock.py', import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking'];

// The mock server with these options, on a port that the system chose.
export async function startMock(...options) {
  const child = spawn('python3', [MOCK, '--port', '0', ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const address = await new Promise((resolve, reject) => {
    child.stdout.once('data', (data) => resolve(String(data).trim()));
    child.once('exit', (code) => reject(new Error(`the mock server ended with code ${code}`)));
  });
  return {
    address,
    tell: (what) => fetch(`${address}mock/${what}`, { method: 'POST' }),
    stop: () => child.kill(),
  };
}

export const startBrowser = () => chromium.launch({ executablePath: CHROMIUM, args: ARGS });

// A page of its own. `errors` collects what the console, the CSP and the scripts complain about.
export async function openPage(browser, address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(error.stack));
  page.on('dialog', (dialog) => { errors.push(`a script opened a dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) =>
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
  });
  await page.goto(address);
  return { page, errors, close: () => context.close() };
}

// Waits until `look` returns something true, or fails with `what`.
export async function until(look, what, timeoutMs = 15_000) {
  const end = Date.now() + timeoutMs;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`timed out: ${what}`);
}
