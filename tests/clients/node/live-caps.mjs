// What may be sent to `/live/{room}/yjs`, at its edges: the house has the caps that the environment says.
import assert from "node:assert/strict";
import * as Y from "yjs";
import * as decoding from "lib0/decoding";
import * as encoding from "lib0/encoding";
import WebSocket from "ws";

const house = process.env.HOUSE;
const [UPDATE, STRUCTS, DOCUMENT, CODE] = process.env.CAPS.split(",").map(Number);
const message = (kind, bytes) => {
  const encoder = encoding.createEncoder();
  encoding.writeVarUint(encoder, 0);
  encoding.writeVarUint(encoder, kind);
  encoding.writeVarUint8Array(encoder, bytes);
  return encoding.toUint8Array(encoder);
};
// What becomes of an update: "taken", or the code with which the connection ends. And what the room has.
const send = async (room, ...updates) => {
  const socket = new WebSocket(`${house.replace("http", "ws")}/live/${room}/yjs`);
  await new Promise((open, fail) => socket.on("open", open).on("error", fail));
  const end = new Promise((resolve) => {
    socket.on("close", (code, reason) => resolve({ end: code, why: reason.toString() }));
    socket.on("message", (data) => {
      const decoder = decoding.createDecoder(new Uint8Array(data));
      if (decoding.readVarUint(decoder) !== 0 || decoding.readVarUint(decoder) !== 1) return;
      resolve({ end: "taken", has: decoding.readVarUint8Array(decoder) });
    });
  });
  for (const update of updates) socket.send(message(2, update));
  socket.send(message(0, Uint8Array.from([0])));
  const became = await end;
  socket.terminate();
  return became;
};
// An update of just so many bytes.
const sized = (bytes, client = 11) => {
  for (let length = bytes; length > 0; length -= 1) {
    const doc = new Y.Doc();
    // Its number is written with as many bytes as it needs.
    doc.clientID = client;
    doc.getMap("more").set("k", "x".repeat(length));
    const update = Y.encodeStateAsUpdate(doc);
    if (update.length === bytes) return update;
  }
  throw new Error(`no update of ${bytes} bytes`);
};
// So many structs of two bytes each.
const structs = (count) => {
  const encoder = encoding.createEncoder();
  for (const number of [1, count, 7, 0]) encoding.writeVarUint(encoder, number);
  for (let n = 0; n < count; n += 1) encoding.writeUint8Array(encoder, Uint8Array.from([0, 1]));
  encoding.writeVarUint(encoder, 0);
  return encoding.toUint8Array(encoder);
};
const is = async (room, update, wanted, why = /./) => {
  const became = await send(room, update);
  assert.equal(became.end, wanted, `${room}: ${became.why}`);
  if (wanted !== "taken") assert.match(became.why, why);
};

const { has } = await send("base");
await is("update-1", sized(UPDATE), "taken");
await is("update-2", sized(UPDATE + 1), 4413, /max_update/);
// The template is one struct.
await is("structs-1", structs(STRUCTS - 1), "taken");
await is("structs-2", structs(STRUCTS), 4413, /max_structs/);
// Two that fit alone.
const full = await send("full", sized(UPDATE), sized(UPDATE, 12));
assert.deepEqual([full.end, full.why], [4413, `the document may have ${DOCUMENT} bytes (max_document)`]);
assert.ok(UPDATE + has.length <= DOCUMENT && 2 * UPDATE + has.length > DOCUMENT);
await is("full-2", sized(DOCUMENT - has.length), DOCUMENT - has.length <= UPDATE ? "taken" : 4413);

// The code, through a document that has the template.
const longer = async (room, more) => {
  const doc = new Y.Doc();
  Y.applyUpdate(doc, (await send(room)).has);
  const text = doc.getText("code");
  const before = Y.encodeStateVector(doc);
  text.insert(0, "x".repeat(CODE - text.length + more));
  return Y.encodeStateAsUpdate(doc, before);
};
await is("code-1", await longer("code-1", 0), "taken");
await is("code-2", await longer("code-2", 1), 4413, /max_code/);
assert.equal((await (await fetch(`${house}/live/code-1/code`)).text()).length, CODE);
assert.ok((await (await fetch(`${house}/live/code-2/code`)).text()).length < CODE);

// A few bytes that claim to be much, and values without a floor.
await is("claims", Uint8Array.from([1, 255, 255, 255, 127, 1, 0, 0, 1, 0]), 4400);
const deep = [1, 1, 1, 0, 8, 1, 1, 97, 1];
for (let n = 0; n < 400; n += 1) deep.push(117, 1);
await is("deep", Uint8Array.from([...deep, 126, 0]), 4400);
const socket = new WebSocket(`${house.replace("http", "ws")}/live/claims/yjs`);
await new Promise((open) => socket.on("open", open));
const closed = new Promise((resolve) => socket.on("close", resolve));
socket.send(message(0, Uint8Array.from([255, 255, 255, 255, 7, 1])));
assert.equal(await closed, 4400);
// The rooms are none the worse for it.
for (const room of ["claims", "deep", "structs-2", "update-2"]) assert.equal((await send(room)).end, "taken");
console.log("done");
process.exit(0);
