// Yjs for someone who may only read: gets everything, changes nothing, and stays.
import assert from "node:assert/strict";
import * as Y from "yjs";
import { WebsocketProvider } from "y-websocket";
import WebSocket from "ws";

const house = process.env.HOUSE;
const open = (token) => {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(`${house.replace("http", "ws")}/live/hers`, "yjs", doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true,
    params: token ? { token: `good ${token}` } : {},
  });
  const client = { doc, provider, text: doc.getText("code"), closed: 0 };
  provider.on("connection-close", () => { client.closed += 1; });
  return client;
};
const until = async (what, holds) => {
  const deadline = Date.now() + 20_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const code = async () => (await fetch(`${house}/live/hers/code`)).text();

const ann = open("ann");
await until("ann is in sync", () => ann.provider.synced);
ann.text.insert(0, "// ann's\n");
await until("the room is hers", async () => (await code()).startsWith("// ann's\n"));
const readers = [open("bob"), open(null)];
await until("the readers have what ann wrote", () => readers.every(({ provider, text }) => provider.synced && text.toString().startsWith("// ann's\n")));
for (const { text } of readers) text.insert(0, "// not mine\n");
// Behind it a message that the room hears: when it has come back, the edit before it was heard as well.
for (const [number, { provider }] of readers.entries()) provider.awareness.setLocalStateField("user", { name: `reader ${number}` });
await until("ann sees the readers", () => ann.provider.awareness.getStates().size === 3);
ann.text.insert(0, "// more\n");
await until("and the readers what ann writes", () => readers.every(({ text }) => text.toString().includes("// more\n")));
assert.ok(!(await code()).includes("not mine") && !ann.text.toString().includes("not mine"));
// Whoever is let in later has all that was tried before.
const answer = await fetch(`${house}/live/hers/access`, {
  method: "PUT",
  headers: { "content-type": "application/json", authorization: "Bearer good ann" },
  body: JSON.stringify({ writers: ["bob"] }),
});
assert.equal(answer.status, 200);
readers[0].text.insert(0, "// now mine\n");
readers[0].provider.disconnect();
readers[0].provider.connect();
await until("bob may write", () => ann.text.toString().includes("// now mine\n") && ann.text.toString().includes("// not mine\n"));
assert.deepEqual([ann.closed, readers[1].closed], [0, 0]);
console.log("done");
process.exit(0);
