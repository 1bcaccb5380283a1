// node dashboard.mjs URL TOKEN SCREENSHOT.png: looks at the operator's page as an operator does, ends the first
// allocation, and prints what it found as JSON.

import { withPage } from './browser.mjs';

const [url, token, screenshot] = process.argv.slice(2);
const wide = () => document.documentElement.scrollWidth > document.documentElement.clientWidth;

const found = await withPage(
  async (page, wrong) => {
    const asked = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    page.on('dialog', (dialog) => {
      wrong.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    await page.goto(url, { waitUntil: 'load' });
    await page.waitForSelector('#enter:not([hidden])');
    const early = asked.filter((path) => path !== '/').length;

    await page.fill('#token', 'this is not the token');
    await page.click('#enter button');
    await page.waitForFunction(() => document.getElementById('refused').textContent);
    const refused = await page.textContent('#refused');
    // The refusals were asked for.
    wrong.splice(0);

    await page.fill('#token', token);
    await page.click('#enter button');
    await page.waitForSelector('#allocations button');
    const column = (table, at) => page.$$eval(`#${table} td:nth-child(${at})`, (all) => all.map((cell) => cell.textContent));
    const plugins = await column('plugins', 1);
    const users = await column('allocations', 2);

    const tooWide = [];
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 800 });
        if (await page.evaluate(wide)) tooWide.push(`${scheme} ${width}`);
      }
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.screenshot({ path: screenshot });

    // One click asks, the second ends.
    const button = page.locator('#allocations button').first();
    await button.click();
    const sure = await button.textContent();
    if (sure !== 'Really?') wrong.push(`one click made it ${sure}`);
    await button.click();
    await page.waitForFunction(() => document.querySelectorAll('#allocations button').length === 1);
    const left = await column('allocations', 2);

    await page.reload({ waitUntil: 'load' });
    await page.waitForSelector('#allocations button');
    const kept = await page.locator('#enter').isHidden();
    await page.click('#leave');
    await page.waitForSelector('#enter:not([hidden])');
    const afterLeaving = await page.evaluate(() => sessionStorage.length + document.getElementById('allocations').textContent);
    // What was under way when the page was left.
    const real = wrong.filter((what) => !what.endsWith('net::ERR_ABORTED'));
    return {
      early, refused, plugins, users, left, wide: tooWide, kept,
      after_leaving: afterLeaving === '0' ? '' : afterLeaving, wrong: real,
    };
  },
  { width: 1280, height: 800 },
);
console.log(JSON.stringify(found));
