// One page of the playground, as a person uses it: without a connection, by keyboard, on a telephone, in the dark, and
// where it may only be read.
import assert from "node:assert/strict";
import { aLine, code, house, launch, open, problems, until, write } from "./playground.mjs";

const browser = await launch();
const line = await aLine();
const room = `person${Date.now()}`;
const { context, page } = await open(browser, room, "ann", { permissions: ["clipboard-read", "clipboard-write"] }, line.url);
const note = (text) => until(`it is said: ${text}`, async () => (await page.textContent("#note")).includes(text));

// What is wrong is said at its line, in the gutter and below, and a click leads there.
await write(page, "const right = 1;\n\nconst = 2;\n");
await until("the error is marked", () => page.evaluate(() => document.querySelector(".cm-lint-marker-error") !== null));
await until("and said", async () => /^3:7 /.test(await page.textContent("#problems")));
await page.keyboard.press("Control+Home");
await page.click("#problems");
await page.keyboard.type("better ");
await until("the cursor is where the error was", async () => (await code(page)).includes("const better = 2;"));
await until("nothing is wrong any more", () => page.isHidden("#problems"));

// The link.
await page.click("#share");
await note("Copied: ");
assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${line.url}/live/${room}`);

// By keyboard: out of the editor and through the page, a version by Ctrl+S, and out of the dialog.
await page.click(".cm-content");
await page.keyboard.press("Control+s");
await note("Version 1 is made");
await page.keyboard.press("Escape");
await page.keyboard.press("Shift+Tab");
const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
assert.doesNotMatch(await focused(), /cm-content/, "the editor lets go of the keyboard");
await page.focus("#home");
const reached = [];
for (let n = 0; n < 4; n += 1) {
  await page.keyboard.press("Tab");
  reached.push(await focused());
}
assert.deepEqual(reached.slice(0, 3), ["name", "share", "history"]);
await page.focus("#history");
await page.keyboard.press("Enter");
await page.waitForSelector("dialog[open] li:has-text('Version 1')");
await page.keyboard.press("Escape");
await page.waitForSelector("dialog:not([open])", { state: "attached" });

// Without a connection: the page says so, opens all the same, keeps what is written, and catches up.
await page.evaluate(async () => { await navigator.serviceWorker.ready; });
await until("the page is kept", () => page.evaluate(async () => (await (await caches.open("playground")).keys()).length >= 3));
line.cut();
await page.waitForSelector("#state:not(.connected)");
await until("it says that it is offline", async () => (await page.textContent("#state")).startsWith("offline"));
await page.reload();
await until("it opens from what the browser keeps", async () => (await code(page)).includes("const better = 2;"));
await until("and says that it is offline", async () => (await page.textContent("#state")).startsWith("offline"));
assert.ok(await page.isVisible("#unloaded"));
await page.click(".cm-content");
await page.keyboard.press("Control+Home");
const kept = () => page.evaluate((name) => new Promise((resolve, fail) => {
  const opening = indexedDB.open(name);
  opening.onerror = () => fail(opening.error);
  opening.onsuccess = () => {
    const counting = opening.result.transaction("updates").objectStore("updates").count();
    counting.onsuccess = () => { opening.result.close(); resolve(counting.result); };
  };
}), `live/${room}`);
const before = await kept();
await page.keyboard.type("// written offline\n");
// The browser writes it down a moment later: each stroke is an update.
await until("the browser has kept it", async () => (await kept()) >= before + "// written offline\n".length);
await page.reload();
await until("what was written is still there", async () => (await code(page)).includes("// written offline"));
await page.click("#history");
await note("can't be reached");
const other = await open(browser, room, "bob");
await write(other.page, "// by bob\n");
line.mend();
await page.waitForSelector("#state.connected", { timeout: 30_000 });
await until("both have both", async () => {
  const [one, two] = [await code(page), await code(other.page)];
  return one === two && one.includes("written offline") && one.includes("by bob");
});
await other.context.close();

// Light and dark follow the system, in the middle of everything.
const ground = () => page.evaluate(() => [document.body, document.querySelector(".cm-editor")].map((one) => getComputedStyle(one).backgroundColor).join());
await page.emulateMedia({ colorScheme: "light" });
const light = await ground();
await page.emulateMedia({ colorScheme: "dark" });
assert.notEqual(await ground(), light);
const contrast = await page.evaluate(() => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((part) => { const c = part / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const { color, backgroundColor } = getComputedStyle(document.body);
  const [a, b] = [luminance(color), luminance(backgroundColor)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
});
assert.ok(contrast > 7, `${contrast}`);
await context.close();

// On a telephone nothing sticks out, and what is touched is large enough.
const phone = await open(browser, room, "cat", { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
assert.ok(await phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing sticks out");
for (const id of ["share", "history", "switch"]) {
  const box = await phone.page.locator(`#${id}`).boundingBox();
  assert.ok(box.height >= 40 && box.x >= 0 && box.x + box.width <= 360, `${id}: ${JSON.stringify(box)}`);
}
await phone.page.tap("#switch");
assert.ok(await phone.page.isVisible("#preview"));
await phone.page.tap("#history");
await phone.page.waitForSelector("dialog[open]");
assert.ok(await phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nor does the history");
if (process.env.PICTURES) await phone.page.screenshot({ path: `${process.env.PICTURES}/playground-history.png` });
await phone.context.close();

// Where one may only read: it is said, and nothing can be typed.
if (process.env.READER) {
  const reader = await open(browser, room, "dan", {}, process.env.READER);
  await reader.page.waitForSelector("#reader:not([hidden])");
  await reader.page.click(".cm-content");
  await reader.page.keyboard.type("not mine");
  assert.ok(!(await code(reader.page)).includes("not mine"));
  await reader.context.close();
}
assert.deepEqual(problems, []);
await browser.close();
line.close();
console.log(`done at ${house}`);
process.exit(0);
