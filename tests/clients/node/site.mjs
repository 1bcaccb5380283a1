// node site.mjs URL SCREENSHOT.png: loads the sample site as a person does and prints what it found as JSON.

import { withPage } from './browser.mjs';

const [url, screenshot] = process.argv.slice(2);
const ready = () => document.documentElement.dataset.ready === 'true';

const found = await withPage(
  async (page, wrong) => {
    await page.goto(url, { waitUntil: 'load' });
    await page.waitForFunction(ready);
    const first = {
      title: await page.title(),
      hash: await page.textContent('#hash'),
      files: await page.locator('#files tr').count(),
    };
    await page.screenshot({ path: screenshot });
    // Every link that the page shows leads somewhere.
    const links = await page.$$eval('a', (all) =>
      all.filter((link) => link.checkVisibility()).map((link) => link.href),
    );
    const dead = [];
    for (const link of links) {
      const answer = await page.request.get(link);
      if (!answer.ok()) dead.push(`${answer.status()} ${link}`);
    }
    // Again, from the browser's cache: what it revalidates must fit together as well.
    await page.reload({ waitUntil: 'load' });
    await page.waitForFunction(ready);
    await page.click('a[href="/docs/"]');
    await page.waitForURL('**/docs/');
    return { ...first, docs: await page.title(), links: links.length, dead, wrong };
  },
  { width: 960, height: 720 },
);
console.log(JSON.stringify(found));
