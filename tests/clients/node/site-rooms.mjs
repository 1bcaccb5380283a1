// node site-rooms.mjs URL SCREENSHOT.png: from the first page of a house into a new room.
import assert from 'node:assert/strict';
import { withPage } from './browser.mjs';

const [url, screenshot] = process.argv.slice(2);
await withPage(
  async (page, wrong) => {
    await page.goto(url, { waitUntil: 'load' });
    await page.waitForFunction(() => document.documentElement.dataset.ready === 'true');
    const listed = await page.$$eval('#plugins dt', (all) => all.map((one) => one.textContent));
    assert.deepEqual(listed, ['assets', 'live', 'playground']);
    await page.screenshot({ path: screenshot });
    await page.click('#new-room');
    await page.waitForURL('**/live/r*');
    await page.waitForSelector('#state.connected', { timeout: 30_000 });
    await page.frameLocator('#page').locator('button').waitFor();
    assert.deepEqual(wrong, []);
    await page.click('#home');
    await page.waitForURL(url);
  },
  { width: 960, height: 720 },
);
console.log('done');
