// Two pages of the playground in a browser: they edit one room, see each other, and what the code does; one goes
// offline and comes back; and they find each other for WebRTC through the room.
import assert from "node:assert/strict";
import { aLine, code, launch, open as openAs, problems, shows, until, write } from "./playground.mjs";

const room = `browsers${Date.now()}`;
const runs = process.env.RUNS !== "0";
const browser = await launch();
const line = await aLine();
const open = (name, options, address) => openAs(browser, room, name, options, address);

const [ann, bob] = [await open("ann"), await open("bob", { colorScheme: "dark" }, line.url)];
await until("the template is there", async () => (await code(bob.page)).includes("Write your code here!"));
await until("both are listed", async () => (await ann.page.textContent("#people")).includes("bob"));
await write(ann.page, 'document.getElementById("embed").textContent = "first";\n');
await until("bob sees what ann wrote", async () => (await code(bob.page)).includes('"first"'));
await until("bob sees ann's cursor", () => bob.page.evaluate(() => document.querySelector(".cm-ySelectionInfo")?.textContent === "ann"));
let preview = "not asked";
if (runs) {
  const shown = (page, text) => shows(page, room, text);
  await shown(bob.page, "first");
  await write(bob.page, 'document.getElementById("embed").textContent = "second";\n');
  const began = Date.now();
  await shown(ann.page, "second");
  preview = `${Date.now() - began} ms`;
  // What is wrong is marked at its line, and the last that was right goes on.
  await bob.page.keyboard.press("Control+End");
  await bob.page.keyboard.type("const = 1;");
  await until("the error is marked", () => ann.page.evaluate(() => document.querySelector(".cm-lint-marker-error") !== null));
  await shown(ann.page, "second");
  await write(bob.page, 'document.getElementById("embed").textContent = "third";\n');
  await shown(ann.page, "third");
  await until("the mark goes", () => ann.page.evaluate(() => document.querySelector(".cm-lint-marker-error") === null));
}
// The page that runs has no origin: it can't reach what belongs to the house.
const origin = await ann.page.frames().find((frame) => frame.url().includes("/embed")).evaluate(() => self.origin);
assert.equal(origin, "null");

// One goes offline, both edit, and it comes back.
line.cut();
await bob.page.waitForSelector("#state:not(.connected)");
await write(ann.page, "// by ann, while bob was away\n");
await bob.page.click(".cm-content");
await bob.page.keyboard.press("Control+Home");
await bob.page.keyboard.type("// by bob\n");
assert.ok(!(await code(ann.page)).includes("by bob"));
line.mend();
await until("both have both", async () => {
  const [one, other] = [await code(ann.page), await code(bob.page)];
  return one === other && one.includes("by ann") && one.includes("by bob");
}, 40_000);
const before = await code(ann.page);
await ann.page.reload();
await ann.page.waitForSelector("#state.connected", { timeout: 30_000 });
await until("a reload keeps everything", async () => (await code(ann.page)) === before);

// A version, and back to it.
await ann.page.click("#history");
await ann.page.click("#keep");
await ann.page.waitForSelector("dialog li");
await ann.page.click("dialog form button");
await write(ann.page, "// other\n");
await until("bob sees the other code", async () => (await code(bob.page)).includes("// other"));
await bob.page.click("#history");
await bob.page.click("dialog li:has-text('Version 1') button");
await until("both have the version", async () => (await code(ann.page)).includes("by ann") && (await code(bob.page)).includes("by ann"));

// A data channel between the two browsers, negotiated through the room.
const meet = (page, name, calls, to) => page.evaluate(async ({ name, calls, to, room }) => {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/live/${room}/websocket?name=${name}`);
  const peer = new RTCPeerConnection();
  const say = (message) => socket.send(JSON.stringify({ target: to, ...message }));
  const seen = [];
  const heard = new Promise((resolve, fail) => {
    const states = () => `${peer.signalingState}, ${peer.iceGatheringState}, ${peer.iceConnectionState}; ${seen}`;
    setTimeout(() => fail(new Error(`no data channel for ${name}: ${states()}`)), 60_000);
    const use = (channel) => {
      channel.onopen = () => channel.send(`hello from ${name}`);
      channel.onmessage = ({ data }) => resolve(data);
    };
    peer.ondatachannel = ({ channel }) => use(channel);
    if (calls) use(peer.createDataChannel("chat"));
  });
  const early = [];
  let offered = false;
  peer.onicecandidate = ({ candidate }) => { if (candidate) say({ type: "new-ice-candidate", candidate }); };
  socket.onmessage = async ({ data }) => {
    const message = JSON.parse(data);
    seen.push(`${message.type} of ${message.name}`);
    if (message.type === "join" || message.type === "handshake") {
      const here = message.name === to || message.users?.some((user) => user.name === to);
      if (calls && here && !offered) {
        offered = true;
        await peer.setLocalDescription(await peer.createOffer());
        say({ type: "video-offer", offer: peer.localDescription });
      }
    } else if (message.type === "video-offer") {
      if (message.name !== to) throw new Error(`an offer of ${message.name}`);
      await peer.setRemoteDescription(message.offer);
      await peer.setLocalDescription(await peer.createAnswer());
      say({ type: "video-answer", answer: peer.localDescription });
      for (const candidate of early.splice(0)) await peer.addIceCandidate(candidate);
    } else if (message.type === "video-answer") {
      await peer.setRemoteDescription(message.answer);
      for (const candidate of early.splice(0)) await peer.addIceCandidate(candidate);
    } else if (message.type === "new-ice-candidate") {
      if (peer.remoteDescription) await peer.addIceCandidate(message.candidate);
      else early.push(message.candidate);
    }
  };
  return heard;
}, { name, calls, to, room });
const talk = await Promise.all([meet(ann.page, "ann-rtc", true, "bob-rtc"), meet(bob.page, "bob-rtc", false, "ann-rtc")]);
assert.deepEqual(talk, ["hello from bob-rtc", "hello from ann-rtc"]);

// On a telephone the editor and the page take turns.
const small = await open("cat", { viewport: { width: 390, height: 800 } });
assert.equal(await small.page.isVisible("#preview"), false);
await small.page.click("#switch");
assert.deepEqual([await small.page.isVisible("#preview"), await small.page.isVisible("#editor")], [true, false]);
if (process.env.PICTURES) {
  await ann.page.bringToFront();
  await ann.page.screenshot({ path: `${process.env.PICTURES}/playground.png` });
  await bob.page.screenshot({ path: `${process.env.PICTURES}/playground-dark.png` });
  await small.page.screenshot({ path: `${process.env.PICTURES}/playground-phone.png` });
}
assert.deepEqual(problems, []);
await browser.close();
line.close();
console.log(`two browsers edited one room; preview ${preview} after the last key`);
process.exit(0);
