// Yjs with y-websocket against `/live/{room}/yjs`: two clients, and one that means harm.
import assert from "node:assert/strict";
import * as Y from "yjs";
import { WebsocketProvider } from "y-websocket";
import * as encoding from "lib0/encoding";
import { encodeAwarenessUpdate, Awareness } from "y-protocols/awareness";
import WebSocket from "ws";

const house = process.env.HOUSE.replace("http", "ws");
const open = (room, options = {}) => {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(`${house}/live/${room}`, "yjs", doc, {
    WebSocketPolyfill: WebSocket,
    // Else clients in one process talk to each other without the house.
    disableBc: true,
    ...options,
  });
  return { doc, provider, text: doc.getText("code") };
};
const until = async (what, holds, patience = 20_000) => {
  const deadline = Date.now() + patience;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const same = (a, b) => Buffer.compare(Y.encodeStateAsUpdate(a.doc), Y.encodeStateAsUpdate(b.doc)) === 0;
const done = [];
const check = async (name, test) => {
  await test();
  done.push(name);
};
const code = async (room) => (await fetch(`${process.env.HOUSE}/live/${room}/code`)).text();

await check("two clients see each other's edits, also those made offline", async () => {
  const [a, b] = [open("pair-of-two"), open("pair-of-two")];
  await until("both in sync", () => a.provider.synced && b.provider.synced);
  const begun = a.text.toString();
  assert.match(begun, /Write your code here!/, "a new room begins with the template");
  a.text.insert(0, "// 😀 hello\n");
  await until("b sees a's edit", () => b.text.toString().startsWith("// 😀 hello\n"));
  b.provider.disconnect();
  a.text.insert(3, "A");
  b.text.insert(5, "B");
  b.text.delete(b.text.length - 5, 5);
  b.provider.connect();
  await until("both are equal again", () => b.provider.synced && same(a, b) && a.text.toString().includes("B"));
  assert.equal(await code("pair-of-two"), a.text.toString());
  a.provider.destroy();
  b.provider.destroy();
  const late = open("pair-of-two");
  await until("a late one has it all", () => late.provider.synced && same(late, a));
  late.provider.destroy();
});

await check("what is written through other doors is in the document, and the other way round", async () => {
  const a = open("doors");
  await until("in sync", () => a.provider.synced);
  const socket = new WebSocket(`${house}/live/doors/websocket`);
  const heard = [];
  socket.on("message", (data) => heard.push(JSON.parse(data.toString())));
  await new Promise((resolve) => socket.on("open", resolve));
  const put = await fetch(`${process.env.HOUSE}/api-v1/doors/code`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ code: "let a = 1;\nlet b = 2;\n" }),
  });
  assert.equal(put.status, 200);
  await until("the document has what REST wrote", () => a.text.toString() === "let a = 1;\nlet b = 2;\n");
  await until("the socket was told", () => heard.some((m) => m.delta?.code));
  heard.length = 0;
  a.text.insert(8, "0");
  await until("the socket was told of the document", () => heard.some((m) => m.delta?.code));
  assert.equal(await code("doors"), "let a = 01;\nlet b = 2;\n".replace("01", "01"));
  socket.close();
  a.provider.destroy();
});

await check("presence is seen, ends, and can't be forged", async () => {
  const [a, b] = [open("presence"), open("presence")];
  await until("both in sync", () => a.provider.synced && b.provider.synced);
  a.provider.awareness.setLocalStateField("user", { name: "ann" });
  const seen = () => b.provider.awareness.getStates().get(a.doc.clientID);
  await until("b sees ann", () => seen()?.user?.name === "ann");
  const { users } = await (await fetch(`${process.env.HOUSE}/live/presence/users`)).json();
  assert.ok(users.includes("ann"), JSON.stringify(users));
  // Someone says first who they are, and then that ann is gone, or is another.
  const forger = new Awareness(new Y.Doc());
  forger.setLocalState({ user: { name: "mallory" } });
  const mallory = new WebSocket(`${house}/live/presence/yjs`);
  await new Promise((resolve) => mallory.on("open", resolve));
  const send = (update) => {
    const encoder = encoding.createEncoder();
    encoding.writeVarUint(encoder, 1);
    encoding.writeVarUint8Array(encoder, update);
    mallory.send(encoding.toUint8Array(encoder));
  };
  send(encodeAwarenessUpdate(forger, [forger.clientID]));
  await until("b sees mallory", () => b.provider.awareness.getStates().has(forger.clientID));
  const clock = a.provider.awareness.meta.get(a.doc.clientID).clock;
  for (const state of ["null", '{"user":{"name":"not ann"}}']) {
    const encoder = encoding.createEncoder();
    encoding.writeVarUint(encoder, 1);
    encoding.writeVarUint(encoder, a.doc.clientID);
    encoding.writeVarUint(encoder, clock + 5);
    encoding.writeVarString(encoder, state);
    send(encoding.toUint8Array(encoder));
  }
  forger.setLocalState({ user: { name: "still mallory" } });
  send(encodeAwarenessUpdate(forger, [forger.clientID]));
  await until("b hears what came behind", () =>
    b.provider.awareness.getStates().get(forger.clientID)?.user.name === "still mallory");
  assert.equal(seen()?.user?.name, "ann");
  // A late one is told who is here.
  const late = open("presence");
  await until("a late one sees ann", () => late.provider.awareness.getStates().get(a.doc.clientID)?.user?.name === "ann");
  mallory.terminate();
  await until("mallory's cursor goes", () => !b.provider.awareness.getStates().has(forger.clientID));
  a.provider.destroy();
  await until("ann's cursor goes", () => !b.provider.awareness.getStates().has(a.doc.clientID));
  b.provider.destroy();
  late.provider.destroy();
});

await check("updates that are too large or no updates end the connection for good", async () => {
  const ends = async (bytes) => {
    const socket = new WebSocket(`${house}/live/caps/yjs`);
    await new Promise((resolve) => socket.on("open", resolve));
    const closed = new Promise((resolve) => socket.on("close", resolve));
    socket.send(bytes);
    return closed;
  };
  assert.equal(await ends(Uint8Array.from([0, 2, 3, 255, 255, 255])), 4400);
  assert.equal(await ends(Uint8Array.from([9, 9])), 4400);
  const doc = new Y.Doc();
  doc.getText("code").insert(0, "x".repeat(600 << 10));
  const encoder = encoding.createEncoder();
  encoding.writeVarUint(encoder, 0);
  encoding.writeVarUint(encoder, 2);
  encoding.writeVarUint8Array(encoder, Y.encodeStateAsUpdate(doc));
  assert.equal(await ends(encoding.toUint8Array(encoder)), 4413);
  // And nobody else is worse off.
  const a = open("caps");
  await until("in sync", () => a.provider.synced);
  assert.ok(!a.text.toString().includes("xxx"));
  a.provider.destroy();
});

console.log(`${done.length} checks: ${done.join("; ")}`);
process.exit(0);
