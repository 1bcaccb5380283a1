// Eight Yjs clients that edit at random, and do what they are told on standard input, one command a line:
// `swaps` (no socket may close from here on), `cuts` (sockets are cut at random), `url URL` (the house is elsewhere
// now), `calm` (no edits; wait until all are equal), `fresh` (a new client must have just that), `end`.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import * as Y from "yjs";
import { WebsocketProvider } from "y-websocket";
import WebSocket from "ws";

const count = Number(process.env.CLIENTS ?? 8);
let house = process.env.HOUSE.replace("http", "ws");
let [editing, cutting, closed, edits, cuts] = [true, false, 0, 0, 0];
const random = (most) => Math.floor(Math.random() * most);
const open = () => {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(`${house}/live/chaos`, "yjs", doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true,
    maxBackoffTime: 500,
  });
  provider.on("connection-close", () => { closed += 1; });
  return { doc, provider, text: doc.getText("code"), map: doc.getMap("more"), mark: 0 };
};
const clients = Array.from({ length: count }, open);

// The operations of yjs' own random tests for text and map: insert, delete, in the middle of everything.
const words = ["a", "bc", "def\n", "😀", "é", "(0)", "x".repeat(50)];
const edit = (client, who) => {
  edits += 1;
  const { text, doc } = client;
  doc.transact(() => {
    for (let n = random(3); n >= 0; n -= 1) {
      const at = random(text.length + 1);
      switch (random(8)) {
        case 0: case 1: case 2: text.insert(at, words[random(words.length)]); break;
        case 3: if (at < text.length) text.delete(at, Math.min(random(text.length > 4000 ? 400 : 8) + 1, text.length - at)); break;
        case 4: client.map.set(`k${random(20)}`, random(1000)); break;
        case 5: client.map.delete(`k${random(20)}`); break;
        // A mark that nobody deletes: it must be there in the end.
        default: client.map.set(`mark-${who}`, (client.mark += 1));
      }
    }
  });
};
const work = setInterval(() => {
  for (const [who, client] of clients.entries()) {
    if (editing && random(3) === 0) edit(client, who);
    if (cutting && random(60) === 0) {
      cuts += 1;
      client.provider.ws?.terminate();
    }
  }
}, 30);

const until = async (what, holds, patience = 60_000) => {
  const deadline = Date.now() + patience;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const state = (client) => Buffer.from(Y.encodeStateAsUpdate(client.doc)).toString("base64");
const equal = () => clients.every((client) => client.provider.synced && state(client) === state(clients[0]));
const calm = async () => {
  editing = false;
  cutting = false;
  await until("all documents are equal", equal);
  for (const [who, client] of clients.entries()) {
    for (const other of clients) assert.equal(other.map.get(`mark-${who}`) ?? 0, client.mark, `the mark of ${who}`);
  }
};

await until("all are in sync", () => clients.every((client) => client.provider.synced));
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [command, argument] = line.split(" ");
  if (command === "swaps") {
    closed = 0;
    console.log("ok");
  } else if (command === "closed") {
    console.log(`closed ${closed}`);
  } else if (command === "cuts") {
    cutting = true;
    console.log("ok");
  } else if (command === "url") {
    house = argument.replace("http", "ws");
    for (const client of clients) client.provider.serverUrl = `${house}/live/chaos`;
    console.log("ok");
  } else if (command === "calm") {
    await calm();
    console.log(`equal ${edits} edits ${cuts} cuts ${clients[0].text.length} units`);
  } else if (command === "edit") {
    editing = true;
    console.log("ok");
  } else if (command === "leave") {
    for (const client of clients) client.provider.disconnect();
    console.log("ok");
  } else if (command === "fresh") {
    // Nobody else is connected: what this one gets, the house has kept.
    const fresh = open();
    await until("a fresh client is in sync", () => fresh.provider.synced);
    assert.equal(fresh.text.toString(), clients[0].text.toString());
    assert.deepEqual(fresh.map.toJSON(), clients[0].map.toJSON());
    assert.equal(Buffer.from(Y.encodeStateVector(fresh.doc)).toString("base64"), Buffer.from(Y.encodeStateVector(clients[0].doc)).toString("base64"));
    fresh.provider.destroy();
    console.log(`kept ${fresh.text.length} units`);
  } else if (command === "end") {
    break;
  }
}
clearInterval(work);
process.exit(0);
