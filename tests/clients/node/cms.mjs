// node cms.mjs URL TOKEN EVIL: keeps documents as a person does, on the page at URL (/my-cms/), and prints what
// happened as JSON. EVIL is a page that someone else has put on the same site.

import { withPage } from './browser.mjs';

const [url, token, evil] = process.argv.slice(2);

const found = await withPage(async (page, wrong) => {
  await page.goto(url, { waitUntil: 'load' });
  // Nobody is known yet: the page asks for a token.
  await page.waitForSelector('#sign-in:not([hidden])');
  const asked = wrong.splice(0);
  await page.fill('#token', token);
  await page.click('#use-token');
  await page.waitForFunction(() => document.getElementById('quota').textContent !== '');

  // Dropped, with a folder to go into; large enough that its progress is seen.
  await page.fill('#folder', 'notes');
  const transfer = await page.evaluateHandle(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(['hello'], 'a <b>.txt', { type: 'text/plain' }));
    transfer.items.add(new File([new Uint8Array(5_000_000)], 'large.bin'));
    return transfer;
  });
  await page.dispatchEvent('#drop', 'drop', { dataTransfer: transfer });
  await page.waitForFunction(() => document.querySelectorAll('#uploads li[data-status="201"]').length === 2);
  await page.waitForFunction(() => document.querySelectorAll('#list tr').length === 2);
  const names = await page.locator('#list tr td:first-child').allTextContents();
  const progress = await page.$$eval('#uploads li', (all) => all.map((line) => Number(line.dataset.seen ?? 0)));
  // Chosen, as someone without a mouse does.
  await page.setInputFiles('#files', { name: 'c.html', mimeType: 'text/html', buffer: Buffer.from('<h1>c</h1>') });
  await page.waitForFunction(() => document.querySelectorAll('#list tr').length === 3);
  await page.locator('#list tr', { hasText: 'c.html' }).getByText('Publish').click();
  await page.waitForFunction(() => document.getElementById('list').textContent.includes('anyone'));
  await page.locator('#list tr', { hasText: 'large.bin' }).getByText('Delete').click();
  await page.waitForFunction(() => document.querySelectorAll('#list tr').length === 2);

  // Someone else's page, with this site's cookies in the browser: it runs, and is nobody.
  await page.context().addCookies([{ name: '__session', value: 'secret', url }]);
  const own = wrong.splice(0);
  await page.goto(evil, { waitUntil: 'load' });
  await page.waitForFunction(() => document.title !== '');
  const said = JSON.parse(await page.title());
  return { asked, names, progress, own, said };
});
console.log(JSON.stringify(found));
