// Pages of the playground, for the scripts beside this one.
import { connect, createServer } from "node:net";
import { chromium } from "playwright-core";

export const house = process.env.HOUSE;
// What the playground itself did wrong.
export const problems = [];

export const launch = () =>
  chromium.launch({
    executablePath: process.env.GUESTHOUSE_CHROMIUM,
    // A frame without an origin would get a process of its own, and now and then the driver loses a frame that is sent
    // elsewhere while it moves there: then a page has a preview that no script can look at. And a page would give its
    // address to others as a name that is asked for by multicast, which not every machine answers in time.
    args: [
      "--no-sandbox",
      "--disable-dev-shm-usage",
      "--disable-features=IsolateSandboxedIframes,WebRtcHideLocalIpsWithMdns",
    ],
  });

// A line to the house that can be cut.
export const aLine = async () => {
  const open = new Set();
  const line = { isCut: false };
  const server = createServer((socket) => {
    if (line.isCut) return socket.destroy();
    const far = connect(Number(new URL(house).port), "127.0.0.1");
    for (const [one, other] of [[socket, far], [far, socket]]) {
      open.add(one);
      one.pipe(other);
      one.on("error", () => {}).on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  line.url = `http://127.0.0.1:${server.address().port}`;
  line.cut = () => {
    line.isCut = true;
    open.forEach((socket) => socket.destroy());
  };
  line.mend = () => { line.isCut = false; };
  line.close = () => server.close();
  return line;
};

// Opens a room as someone.
export const open = async (browser, room, name, options = {}, address = house) => {
  const context = await browser.newContext({ viewport: { width: 1100, height: 700 }, ...options });
  // Not in the frame, which has no storage.
  await context.addInitScript((who) => { if (self === top) localStorage.setItem("live/name", who); }, name);
  const page = await context.newPage();
  // Errors of the playground: what is half typed runs as well in the frame, and fails as it should.
  page.on("pageerror", (error) => { if (`${error.stack}`.includes("/playground/")) problems.push(`${name}: ${error.stack}`); });
  page.on("console", (message) => {
    const { url } = message.location();
    if (message.type() === "error" && /playground|live\/[^/]*$/.test(url) && !/ERR_CONNECTION|ERR_EMPTY|WebSocket connection|net::ERR/.test(message.text())) {
      problems.push(`${name}: ${message.text()} (${url})`);
    }
  });
  await page.goto(`${address}/live/${room}`);
  await page.waitForSelector("#state.connected", { timeout: 30_000 });
  return { context, page };
};

// Without the names of others, which stand in the lines where their cursors are.
export const code = (page) => page.evaluate(() => [...document.querySelectorAll(".cm-line")].map((line) => {
  const copy = line.cloneNode(true);
  copy.querySelectorAll(".cm-ySelectionCaret").forEach((caret) => caret.remove());
  return copy.textContent;
}).join("\n"));

export const until = async (what, holds, patience = 20_000, told = async () => "") => {
  const deadline = Date.now() + patience;
  for (;;) {
    if (await holds()) return;
    if (Date.now() > deadline) throw new Error(`not in time: ${what}; ${[...problems, await told()].join("; ")}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

export const write = async (page, text) => {
  await page.click(".cm-content");
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await page.keyboard.type(text);
};

// What the preview of a page shows; none: nothing yet.
const preview = (page) => page.frameLocator("#page").locator("#embed").textContent({ timeout: 1000 }).catch(() => undefined);

// Waits until the preview of a page shows this text.
export const shows = (page, room, text) => until(`the preview shows ${text}`, async () => (await preview(page)) === text, 20_000, async () => {
  const answer = await fetch(`${house}/live/${room}/session.json`);
  return JSON.stringify({
    preview: await preview(page),
    frames: page.frames().map((frame) => frame.url()),
    editor: await code(page),
    state: await page.textContent("#state"),
    session: await answer.text(),
  });
});
