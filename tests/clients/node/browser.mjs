// A headless browser for the scripts beside this one: open(url) loads a page and keeps what went wrong in it.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

// The browser's own business with its maker is switched off: it would knock at a closed network and log errors
// that are not the page's.
const QUIET = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Starts a browser with a fresh profile; `use` gets a page and the list of what went wrong so far. */
export async function withPage(use, { width = 1280, height = 800, flags = [] } = {}) {
  const executablePath = process.env.GUESTHOUSE_CHROMIUM;
  if (!executablePath) throw new Error('GUESTHOUSE_CHROMIUM is not set');
  const profile = await mkdtemp(join(tmpdir(), 'guesthouse-browser-'));
  // A sandbox of its own is what Chromium can't make as root, in a container.
  const args = [...QUIET, ...flags, ...(process.getuid() === 0 ? ['--no-sandbox'] : [])];
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args,
    viewport: { width, height },
  });
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    const wrong = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') {
        wrong.push(`console ${message.type()}: ${message.text()} (${message.location().url})`);
      }
    });
    page.on('pageerror', (error) => wrong.push(`exception: ${error.stack ?? error}`));
    page.on('requestfailed', (request) => {
      // A frame was sent somewhere else before it was there.
      if (request.isNavigationRequest() && request.frame() !== page.mainFrame() && request.failure()?.errorText === 'net::ERR_ABORTED') return;
      wrong.push(`failed: ${request.url()}: ${request.failure()?.errorText}`);
    });
    page.on('response', (response) => {
      if (response.status() >= 400) wrong.push(`${response.status()}: ${response.url()}`);
    });
    return await use(page, wrong);
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}
