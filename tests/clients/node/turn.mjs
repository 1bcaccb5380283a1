// node turn.mjs URL TOKEN TRANSPORT…: runs the relay test page by each transport, and prints what it found as JSON.

import { withPage } from './browser.mjs';

const [url, token, ...transports] = process.argv.slice(2);
const flags = [
  // The relay of the test is on loopback, and its certificate nobody's.
  '--allow-loopback-in-peer-connection',
  '--ignore-certificate-errors',
];
const found = await withPage(
  async (page, wrong) => {
    const results = {};
    for (const transport of transports) {
      await page.goto(url, { waitUntil: 'load' });
      await page.waitForFunction(() => document.documentElement.dataset.ready === 'true');
      await page.selectOption('#transport', transport);
      await page.fill('#token', token);
      await page.click('button');
      await page.waitForFunction(() => document.documentElement.dataset.result, null, { timeout: 120_000 });
      results[transport] = JSON.parse(await page.evaluate(() => document.documentElement.dataset.result));
      results[transport].candidates = await page.$$eval('#candidates td:last-child', (all) =>
        all.map((cell) => cell.textContent),
      );
    }
    return { results, wrong };
  },
  { flags },
);
console.log(JSON.stringify(found));
