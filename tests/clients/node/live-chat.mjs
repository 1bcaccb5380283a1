// The AI SDK's own transport chats in a room: what it makes of the stream.
import assert from "node:assert/strict";
import { DefaultChatTransport, readUIMessageStream } from "ai";

const house = process.env.HOUSE;
const ask = async (api, headers = {}) => {
  const transport = new DefaultChatTransport({ api, headers });
  const messages = [{ id: "1", role: "user", parts: [{ type: "text", text: "Make it 42" }] }];
  const stream = await transport.sendMessages({ chatId: "1", messages, trigger: "submit-message", abortSignal: undefined });
  let last;
  for await (const message of readUIMessageStream({ stream, onError: (error) => { throw error; } })) last = message;
  return last;
};
for (const message of [
  await ask(`${house}/live/sdk/messages`),
  await ask(`${house}/api/chat`, { referer: `${house}/live/sdk` }),
]) {
  assert.equal(message.role, "assistant");
  assert.deepEqual(message.parts.map((part) => part.type), ["step-start", "text", "tool-update_code", "step-start", "text"]);
  const [, text, tool, , end] = message.parts;
  assert.deepEqual([text.text, text.state, end.text], ["I write it.", "done", "Done. It is 42."]);
  assert.deepEqual([tool.state, tool.input.code], ["output-available", "export const answer = 42;\n"]);
  assert.equal(tool.output.codeSpace, "sdk");
}
assert.equal(await (await fetch(`${house}/live/sdk/code`)).text(), "export const answer = 42;\n");
// What it has shown it sends along with the next question.
const { messages } = await (await fetch(`${house}/live/sdk/messages`)).json();
assert.equal(messages.at(-1).parts[0].text, "Done. It is 42.");
console.log("done");
process.exit(0);
