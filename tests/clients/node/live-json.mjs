// Clients of `/live/{room}/websocket`, with jsondiffpatch and ws: what the original's clients are made of.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { create } from "jsondiffpatch/with-text-diffs";
import WebSocket from "ws";

const house = process.env.HOUSE;
const differ = create();
const digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

// The original's hashes, computed here once more.
const shortHash = (text) => {
  const hex = createHash("md5").update(text || "empty", "utf8").digest("hex");
  let hash = 0;
  for (const char of hex) hash = (Math.imul(31, hash) + char.charCodeAt(0)) | 0;
  let number = ((hash >>> 1) & 0x40000000) | (hash & 0xbfffffff);
  if (number < 0) number += 2 ** 31;
  let name = "";
  do {
    name = digits[number % 62] + name;
    number = Math.floor(number / 62);
  } while (number > 0);
  if (/^\d/.test(name)) name = `a${name}`;
  name = name.replace(/\d/g, "") + name.replace(/\D/g, "");
  while (name.length < 8) name += name;
  return name.slice(0, 8);
};
const fields = ["code", "html", "css", "transpiled"];
const sessionHash = (session) =>
  shortHash(JSON.stringify({ codeSpace: session.codeSpace, ...Object.fromEntries(fields.map((f) => [f, shortHash(session[f])])) }));

class Client {
  static async open(room, query = "") {
    const client = new Client();
    client.room = room;
    client.heard = [];
    client.waiting = [];
    client.socket = new WebSocket(`${house.replace("http", "ws")}/live/${room}/websocket${query}`);
    client.socket.on("message", (data) => {
      client.heard.push(JSON.parse(data.toString()));
      client.waiting.splice(0).forEach((look) => look());
    });
    await new Promise((open, fail) => client.socket.on("open", open).on("error", fail));
    const handshake = await client.hear((message) => message.type === "handshake");
    client.id = handshake.id;
    client.handshake = handshake;
    const { hash, exists, mayWrite, errors, ...session } = await (await fetch(`${house}/live/${room}/session.json`)).json();
    assert.equal(sessionHash(session), hash, "the hash of a session is the original's");
    client.session = session;
    return client;
  }
  say(message) {
    this.socket.send(JSON.stringify(message));
  }
  // Takes the first message that is wanted out of what was heard, or waits for it.
  async hear(wanted, patience = 20_000) {
    const deadline = Date.now() + patience;
    for (;;) {
      const at = this.heard.findIndex(wanted);
      if (at >= 0) return this.heard.splice(at, 1)[0];
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`${this.room}: not heard: ${wanted}; but ${JSON.stringify(this.heard)}`);
      await new Promise((look) => {
        this.waiting.push(look);
        setTimeout(look, left);
      });
    }
  }
  // What an edit of this client's session is as a patch.
  patch(change) {
    const next = { ...this.session, ...change };
    const delta = differ.diff(this.session, next);
    return { next, message: { oldHash: sessionHash(this.session), hashCode: sessionHash(next), delta } };
  }
  // Edits until the room has taken it: on a refusal, on top of what the room has.
  async edit(how) {
    let refused = 0;
    for (;;) {
      const { next, message } = this.patch(how(this.session));
      this.say(message);
      const answer = await this.hear((m) => (m.type === "ack" && m.hashCode === message.hashCode) || m.type === "error");
      if (answer.type === "ack") {
        this.session = next;
        // What others changed meanwhile was refused by the room, so nothing of it is left to take.
        return refused;
      }
      assert.equal(answer.message, "Session hash mismatch", JSON.stringify(answer));
      assert.equal(sessionHash(answer.session), answer.hashCode);
      this.session = answer.session;
      refused += 1;
    }
  }
  // Takes a change of somebody else.
  async follow() {
    const patch = await this.hear((message) => message.oldHash !== undefined);
    if (patch.oldHash !== sessionHash(this.session)) return;
    this.session = differ.patch(structuredClone(this.session), patch.delta);
    assert.equal(sessionHash(this.session), patch.hashCode, "a patch makes what it says");
  }
  async followTo(hash) {
    while (sessionHash(this.session) !== hash) await this.follow();
  }
  close() {
    this.socket.close();
  }
}

const done = [];
const check = async (name, test) => {
  await test();
  done.push(name);
};

await check("the vectors hold", () => {
  assert.equal(shortHash(""), "hBrU6hBr");
  assert.equal(shortHash("héllo ✓"), "bamcoKba");
  const code = "const a = 1;";
  const session = { codeSpace: "test-space", code, transpiled: code, html: "<div></div>", css: "" };
  assert.equal(sessionHash(session), "RyRu7RyR");
});

await check("a patch reaches the others and not its sender", async () => {
  const [ann, bob] = [await Client.open("pair"), await Client.open("pair")];
  const long = "// A line that is long enough for a text diff 😀\n".repeat(4);
  await ann.edit(() => ({ code: long }));
  await bob.followTo(sessionHash(ann.session));
  assert.equal(bob.session.code, long);
  await bob.edit((session) => ({ code: session.code.replace("😀", "😀 é%"), css: "p { color: red }" }));
  await ann.followTo(sessionHash(bob.session));
  assert.deepEqual(ann.session, bob.session);
  bob.say({ type: "ping" });
  await bob.hear((message) => message.type === "pong");
  assert.ok(!bob.heard.some((message) => message.oldHash && message.hashCode === sessionHash(bob.session)), "an echo");
  const stored = await (await fetch(`${house}/live/pair/code`)).text();
  assert.equal(stored, ann.session.code);
  ann.close();
  bob.close();
});

await check("nothing is lost when many edit at once", async () => {
  const clients = await Promise.all([0, 1, 2, 3, 4].map(() => Client.open("crowd")));
  let refused = 0;
  await Promise.all(clients.map(async (client, who) => {
    for (let n = 0; n < 8; n += 1) {
      refused += await client.edit((session) => ({ code: `${session.code}// ${who}:${n}\n` }));
    }
  }));
  const code = await (await fetch(`${house}/live/crowd/code`)).text();
  for (let who = 0; who < 5; who += 1) {
    for (let n = 0; n < 8; n += 1) assert.equal(code.split(`// ${who}:${n}\n`).length, 2, `${who}:${n}`);
  }
  assert.ok(refused > 0, "nobody was ever in the way");
  clients.forEach((client) => client.close());
});

await check("what does not fit is refused with what there is", async () => {
  const ann = await Client.open("refused");
  ann.say({ ...ann.patch({ code: "x" }).message, oldHash: "other" });
  const error = await ann.hear((message) => message.type === "error");
  assert.equal(error.message, "Session hash mismatch");
  assert.equal(error.hashCode, sessionHash(ann.session));
  assert.equal(error.session.code, ann.session.code);
  ann.say({ ...ann.patch({ code: "x" }).message, delta: { code: 1 } });
  assert.match((await ann.hear((message) => message.type === "error")).message, /^Failed to apply patch/);
  ann.socket.send("{");
  assert.equal((await ann.hear((message) => message.type === "error")).message, "Invalid JSON message");
  ann.say({ type: "whatever" });
  const ack = await ann.hear((message) => message.type === "ack");
  assert.deepEqual(ack, { type: "ack", message: "Message received", receivedType: "whatever" });
  ann.close();
});

await check("names, presence and messages for one", async () => {
  const ann = await Client.open("names", "?name=ann");
  assert.equal(ann.handshake.name, "ann");
  const bob = await Client.open("names");
  assert.deepEqual(bob.handshake.users, [{ id: ann.id, name: "ann" }]);
  assert.equal((await ann.hear((message) => message.type === "join")).id, bob.id);
  bob.say({ name: "ann" });
  assert.equal((await bob.hear((message) => message.type === "error")).message, "The name is taken");
  bob.say({ type: "handShake", name: "bob", hashCode: "x" });
  await bob.hear((message) => message.action === "nameUpdate" && message.name === "bob");
  assert.deepEqual(await ann.hear((message) => message.type === "name"), { type: "name", id: bob.id, name: "bob" });
  assert.deepEqual((await (await fetch(`${house}/live/names/users`)).json()).users.sort(), ["ann", "bob"]);
  // The sender is the one whom the room knows.
  bob.say({ target: "ann", type: "video-offer", offer: { sdp: "o" }, name: "mallory", from: "1" });
  const offer = await ann.hear((message) => message.type === "video-offer");
  assert.deepEqual(offer, { target: "ann", type: "video-offer", offer: { sdp: "o" }, name: "bob", from: bob.id });
  ann.say({ target: bob.id, type: "video-answer", answer: 1 });
  assert.equal((await bob.hear((message) => message.type === "video-answer")).name, "ann");
  bob.say({ target: "nobody", type: "x" });
  assert.equal((await bob.hear((message) => message.type === "error")).target, "nobody");
  bob.close();
  assert.deepEqual(await ann.hear((message) => message.type === "leave"), { type: "leave", id: bob.id, name: "bob" });
  ann.close();
});

await check("topics", async () => {
  const [ann, bob, cat] = await Promise.all([1, 2, 3].map(() => Client.open("topics")));
  for (const client of [ann, bob]) {
    client.say({ type: "subscribe", topics: ["news", "weather"] });
    assert.deepEqual((await client.hear((m) => m.action === "subscribe")).topics, ["news", "weather"]);
  }
  cat.say({ type: "publish", topic: "news", data: { n: 1 } });
  await cat.hear((message) => message.action === "publish" && message.topic === "news");
  for (const client of [ann, bob]) {
    const message = await client.hear((m) => m.type === "message");
    assert.deepEqual([message.topic, message.data, message.from], ["news", { n: 1 }, cat.id]);
  }
  bob.say({ type: "unsubscribe", topics: ["news"] });
  await bob.hear((message) => message.action === "unsubscribe");
  cat.say({ type: "publish", topic: "news", data: 2 });
  assert.equal((await ann.hear((m) => m.type === "message")).data, 2);
  cat.say({ type: "publish", topic: "weather", data: 3 });
  assert.equal((await bob.hear((m) => m.type === "message")).data, 3, "and nothing before it");
  for (const client of [ann, bob, cat]) client.close();
});

console.log(`${done.length} checks: ${done.join("; ")}`);
process.exit(0);
