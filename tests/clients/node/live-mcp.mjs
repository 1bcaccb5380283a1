// The official client of the Model Context Protocol edits a room, and a socket sees it.
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import WebSocket from "ws";

const house = process.env.HOUSE;
const room = "agents";
const connect = async (url, options) => {
  const client = new Client({ name: "test", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(new URL(url), options));
  return client;
};
const call = async (client, name, args = {}) => {
  const result = await client.callTool({ name, arguments: args });
  const text = result.content[0].text;
  return result.isError ? { failed: text } : JSON.parse(text);
};
const socket = new WebSocket(`${house.replace("http", "ws")}/live/${room}/websocket`);
const heard = [];
socket.on("message", (data) => heard.push(JSON.parse(data.toString())));
await new Promise((resolve, fail) => socket.on("open", resolve).on("error", fail));

const doors = [
  ["the room's own path", `${house}/live/${room}/mcp`, {}],
  ["a header", `${house}/mcp`, { requestInit: { headers: { "x-codespace": room } } }],
  ["a query", `${house}/mcp?codeSpace=${room}`, {}],
];
for (const [, url, options] of doors) {
  const client = await connect(url, options);
  assert.equal(client.getServerVersion().name, "guesthouse-live");
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name).sort(), [
    "edit_code", "find_lines", "read_code", "read_html", "read_session", "search_and_replace", "update_code",
  ]);
  const written = await call(client, "update_code", { code: "let a = 1;\nlet b = 2;\nlet c = 3;" });
  assert.equal(written.success, true);
  assert.equal((await call(client, "read_code")).code, "let a = 1;\nlet b = 2;\nlet c = 3;");
  const edited = await call(client, "edit_code", { edits: [{ startLine: 2, endLine: 2, newContent: "let b = 20;" }] });
  assert.equal(edited.linesChanged, 1);
  assert.match(edited.diff, /-let b = 2;\n\+let b = 20;/);
  const replaced = await call(client, "search_and_replace", { search: "let", replace: "const" });
  assert.equal(replaced.replacements, 3);
  const found = await call(client, "find_lines", { pattern: "B = \\d+", isRegex: true });
  assert.deepEqual(found.matches.map((match) => match.lineNumber), [2]);
  const session = await call(client, "read_session");
  assert.equal(session.code, "const a = 1;\nconst b = 20;\nconst c = 3;");
  assert.equal((await call(client, "read_html")).html, "");
  // What an agent does wrong it is told in the result.
  assert.match((await call(client, "edit_code", { edits: [{ startLine: 9, endLine: 9, newContent: "" }] })).failed, /lines 9 to 9/);
  assert.match((await call(client, "read_code", { codeSpace: "elsewhere" })).failed, /This is the room agents/);
  await assert.rejects(client.callTool({ name: "no_such_tool", arguments: {} }), /Unknown tool/);
  await client.close();
}
const began = Date.now();
while (heard.filter((message) => message.delta?.code).length < 3 * doors.length) {
  assert.ok(Date.now() - began < 20_000, JSON.stringify(heard));
  await new Promise((resolve) => setTimeout(resolve, 10));
}
socket.close();

// What the SDK does not do by itself.
const post = async (body, headers = {}) => {
  const response = await fetch(`${house}/live/${room}/mcp`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return [response.status, text ? JSON.parse(text) : null];
};
const ask = (message) => post({ jsonrpc: "2.0", ...message });
let [status, answer] = await ask({ id: 1, method: "initialize", params: { protocolVersion: "2024-11-05", capabilities: {}, clientInfo: { name: "t", version: "1" } } });
assert.deepEqual([status, answer.result.protocolVersion], [200, "2024-11-05"]);
assert.deepEqual(await ask({ method: "notifications/initialized" }), [202, null]);
[status, answer] = await post("{");
assert.deepEqual([status, answer.error.code], [400, -32700]);
[status, answer] = await ask({ id: 2, method: "no/such" });
assert.deepEqual([status, answer.error.code], [200, -32601]);
[status, answer] = await ask({ id: 3, method: "tools/call", params: { name: "none" } });
assert.deepEqual([status, answer.error.code], [200, -32602]);
assert.equal((await post({ jsonrpc: "2.0", id: 1, method: "ping" }, { "mcp-protocol-version": "1999-01-01" }))[0], 400);
[status, answer] = await post([{ jsonrpc: "2.0", id: 1, method: "ping" }, { jsonrpc: "2.0", method: "x" }]);
assert.deepEqual([status, answer], [200, [{ jsonrpc: "2.0", id: 1, result: {} }]]);
assert.equal((await fetch(`${house}/live/${room}/mcp`)).status, 405);
console.log("done");
process.exit(0);
