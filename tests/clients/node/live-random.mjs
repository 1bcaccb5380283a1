// yjs' own randomised tests, whose clients reach each other through the house: its helper of tests makes the clients
// and compares what they have in the end, struct by struct; the operations are those of its tests of arrays, maps,
// texts and XML. And what the house says it has, is what the clients say.
import assert from "node:assert/strict";
import * as decoding from "lib0/decoding";
import * as prng from "lib0/prng";
import { TestConnector, TestYInstance, compare } from "yjs/testHelper";
import { WebsocketProvider } from "y-websocket";
import WebSocket from "ws";
import * as Y from "yjs";

const house = process.env.HOUSE.replace("http", "ws");
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const iterations = Number(process.env.ITERATIONS ?? 400);
const until = async (what, holds, patience = 60_000) => {
  const deadline = Date.now() + patience;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what} (SEED=${seed})`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

// A client of yjs' tests whose connection is a real one. The helper's own connector never hears of it.
class Client extends TestYInstance {
  open(room) {
    this.provider = new WebsocketProvider(`${house}/live/${room}`, "yjs", this, {
      WebSocketPolyfill: WebSocket,
      disableBc: true,
      maxBackoffTime: 200,
    });
    return this;
  }
  connect() {
    this.provider?.connect();
  }
  disconnect() {
    this.provider?.disconnect();
  }
  destroy() {
    this.provider?.destroy();
    super.destroy();
  }
}

let unique = 0;
const place = (gen, length) => prng.int32(gen, 0, length);
const words = (gen) => prng.oneOf(gen, ["a", "bc", "def\n", "😀", "é", prng.word(gen)]);
const arrays = [
  (doc, gen) => {
    const array = doc.getArray("array");
    array.insert(place(gen, array.length), Array.from({ length: prng.int32(gen, 1, 4) }, () => (unique += 1)));
  },
  (doc, gen) => {
    const array = doc.getArray("array");
    const at = place(gen, array.length);
    array.insert(at, [new Y.Array()]);
    array.get(at).insert(0, [1, 2, 3, 4]);
  },
  (doc, gen) => {
    const array = doc.getArray("array");
    const at = place(gen, array.length);
    array.insert(at, [new Y.Map()]);
    for (const value of [42, 43, [1, { two: 2 }]]) array.get(at).set(`key${prng.int32(gen, 0, 2)}`, value);
  },
  (doc, gen) => {
    const array = doc.getArray("array");
    array.insert(place(gen, array.length), [null, true, 1.5, -7, "text", Uint8Array.from([1, 2])]);
  },
  (doc, gen) => {
    const array = doc.getArray("array");
    if (array.length === 0) return;
    const at = place(gen, array.length - 1);
    const inner = array.get(at);
    if (inner instanceof Y.Array && inner.length > 0 && prng.bool(gen)) {
      inner.delete(0, prng.int32(gen, 1, inner.length));
    } else {
      array.delete(at, prng.int32(gen, 1, Math.min(2, array.length - at)));
    }
  },
];
const maps = [
  (doc, gen) => { doc.getMap("map").set(prng.oneOf(gen, ["one", "two"]), prng.utf16String(gen)); },
  (doc, gen) => {
    const type = prng.oneOf(gen, [new Y.Array(), new Y.Map()]);
    doc.getMap("map").set(prng.oneOf(gen, ["one", "two"]), type);
    if (type instanceof Y.Array) type.insert(0, [1, 2, 3, 4]);
    else type.set("deepkey", "deepvalue");
  },
  (doc, gen) => { doc.getMap("map").delete(prng.oneOf(gen, ["one", "two"])); },
];
// Texts are inserted with marks, but no range is marked later: of that, done by several at once, yjs 13.6.33 makes
// different texts by itself, without any server (`applyRandomTests` in memory fails for one seed in six).
const marks = (gen) => prng.oneOf(gen, [{ bold: true }, { italic: true }, { italic: true, color: "#888" }]);
const texts = [
  (doc, gen) => {
    const text = doc.getText("text");
    text.insert(place(gen, text.length), words(gen), prng.bool(gen) ? marks(gen) : undefined);
  },
  (doc, gen) => {
    const text = doc.getText("text");
    text.insertEmbed(place(gen, text.length), { image: "a.png" });
  },
  (doc, gen) => {
    const text = doc.getText("text");
    const at = place(gen, text.length);
    text.delete(at, Math.min(prng.int32(gen, 0, 5), text.length - at));
  },
  // The room's own text, which other doors edit as well.
  (doc, gen) => {
    const text = doc.getText("code");
    const at = place(gen, text.length);
    if (prng.bool(gen)) text.insert(at, words(gen));
    else text.delete(at, Math.min(prng.int32(gen, 0, 3), text.length - at));
  },
];
const xml = [
  (doc, gen) => {
    const root = doc.get("xml", Y.XmlElement);
    const element = new Y.XmlElement(prng.oneOf(gen, ["p", "div"]));
    root.insert(place(gen, root.length), [element]);
    element.insert(0, [new Y.XmlText(words(gen))]);
    element.setAttribute("class", prng.word(gen));
  },
  (doc, gen) => {
    const root = doc.get("xml", Y.XmlElement);
    if (root.length > 0) root.delete(place(gen, root.length - 1), 1);
  },
];

// What the house says that it has.
const ask = async (room, firstBytes) => {
  const socket = new WebSocket(`${house}/live/${room}/yjs`);
  const heard = {};
  socket.on("message", (data) => {
    const decoder = decoding.createDecoder(new Uint8Array(data));
    if (decoding.readVarUint(decoder) === 0) heard[decoding.readVarUint(decoder)] = decoding.readVarUint8Array(decoder);
  });
  await new Promise((open, fail) => socket.on("open", open).on("error", fail));
  socket.send(Uint8Array.from(firstBytes));
  await until("the house says what it has", () => heard[0] && heard[1]);
  socket.terminate();
  return { vector: heard[0], update: heard[1] };
};
const hex = (bytes) => Buffer.from(bytes).toString("hex");

let operations = 0;
const run = async (name, mods, gen) => {
  const room = `random${name}${Date.now()}`;
  const connector = new TestConnector(gen);
  const users = Array.from({ length: 5 }, (_, number) => new Client(connector, number).open(room));
  // Types as the helper's `init` makes them.
  for (const user of users) {
    user.getArray("array");
    user.getMap("map");
    user.get("xml", Y.XmlElement);
    user.getText("text");
    user.getText("code");
  }
  await until("all are in sync", () => users.every((user) => user.provider.synced));
  for (let n = 0; n < iterations; n += 1) {
    const chance = prng.int32(gen, 0, 100);
    const user = prng.oneOf(gen, users);
    if (chance <= 2) user.disconnect();
    else if (chance <= 5) user.connect();
    else if (chance <= 8) user.provider.ws?.terminate();
    else if (chance <= 40) await new Promise((resolve) => setTimeout(resolve, prng.int32(gen, 0, 3)));
    prng.oneOf(gen, mods)(prng.oneOf(gen, users), gen);
    operations += 1;
  }
  for (const user of users) user.connect();
  const states = () => users.map((user) => hex(Y.encodeStateVector(user)) + hex(Y.encodeStateAsUpdate(user)));
  await until(`all have the same ${name}`, () => users.every((user) => user.provider.synced) && new Set(states()).size === 1);
  // yrs here and yjs there write down the same things.
  const has = await ask(room, [0, 0, 1, 0]);
  const sorted = (vector) => [...Y.decodeStateVector(vector)].sort(([a], [b]) => a - b);
  assert.deepEqual(sorted(has.vector), sorted(Y.encodeStateVector(users[0])), "state vectors");
  const copy = new Y.Doc();
  Y.applyUpdate(copy, has.update);
  assert.equal(hex(Y.encodeStateVector(copy)), hex(Y.encodeStateVector(users[0])), "state vectors once read");
  assert.equal(hex(Y.encodeStateAsUpdate(copy)), hex(Y.encodeStateAsUpdate(users[0])), "updates once read");
  const same = { vector: hex(has.vector) === hex(Y.encodeStateVector(users[0])), update: hex(has.update) === hex(Y.encodeStateAsUpdate(users[0])) };
  assert.equal(copy.getText("code").toString(), await (await fetch(`${process.env.HOUSE}/live/${room}/code`)).text());
  compare(users);
  return `${name}: ${has.update.length} bytes, byte for byte ${JSON.stringify(same)}`;
};

const gen = prng.create(seed);
const found = [];
for (const [name, mods] of Object.entries({ arrays, maps, texts, xml, all: [...arrays, ...maps, ...texts, ...xml] })) {
  found.push(await run(name, mods, gen));
}
console.log(`SEED=${seed}: ${operations} operations; ${found.join("; ")}`);
process.exit(0);
