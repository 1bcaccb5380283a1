// The official clients against a house whose upstream is a mock: only the base URL is another.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI, { toFile } from "openai";
import Replicate from "replicate";

const house = process.env.HOUSE;
const done = [];
const check = async (name, test) => {
  try {
    await test();
    done.push(name);
  } catch (error) {
    console.error(`FAILED: ${name}`);
    throw error;
  }
};
// The key is the client's own and wrong: the house has the right one.
const openai = new OpenAI({ baseURL: `${house}/openai/v1`, apiKey: "sk-client", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: `${house}/anthropic`, apiKey: "sk-client", maxRetries: 0 });
const replicate = new Replicate({ baseUrl: `${house}/replicate/v1`, auth: "r8_client" });
const messages = [{ role: "user", content: "Say hello" }];

await check("openai chat", async () => {
  const answer = await openai.chat.completions.create({ model: "mock", messages });
  assert.equal(answer.choices[0].message.content, "Hello from the mock");
  assert.equal(answer.usage.completion_tokens, 5);
});
await check("openai stream", async () => {
  const stream = await openai.chat.completions.create({
    model: "mock", messages, stream: true, stream_options: { include_usage: true },
  });
  const pieces = [];
  let usage;
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) pieces.push(chunk.choices[0].delta.content);
    usage = chunk.usage ?? usage;
  }
  assert.deepEqual(pieces, ["Hello", " from", " the", " mock"]);
  assert.equal(usage.total_tokens, 12);
});
await check("openai tools", async () => {
  const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
  const answer = await openai.chat.completions.create({ model: "mock", messages, tools });
  const call = answer.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Berlin" });
});
await check("openai query strings and lists", async () => {
  const page = await openai.models.list({ query: { after: "a b&c" } });
  assert.equal(page.data[0].id, "/oa/v1/models?after=a%20b%26c");
});
await check("openai transcription", async () => {
  const file = await toFile(Buffer.alloc(300_000, 7), "speech.wav", { type: "audio/wav" });
  const answer = await openai.audio.transcriptions.create({ file, model: "whisper-1" });
  assert.match(answer.text, /speech\.wav/);
});
const classes = [
  [400, OpenAI.BadRequestError, Anthropic.BadRequestError],
  [401, OpenAI.AuthenticationError, Anthropic.AuthenticationError],
  [403, OpenAI.PermissionDeniedError, Anthropic.PermissionDeniedError],
  [404, OpenAI.NotFoundError, Anthropic.NotFoundError],
  [409, OpenAI.ConflictError, Anthropic.ConflictError],
  [422, OpenAI.UnprocessableEntityError, Anthropic.UnprocessableEntityError],
  [429, OpenAI.RateLimitError, Anthropic.RateLimitError],
  [500, OpenAI.InternalServerError, Anthropic.InternalServerError],
];
for (const [status, OpenAiError, AnthropicError] of classes) {
  await check(`openai error ${status}`, async () => {
    const asked = openai.chat.completions.create({ model: `error-${status}`, messages });
    const error = await asked.then(() => null, (error) => error);
    assert.ok(error instanceof OpenAiError, `${error?.constructor?.name}: ${error}`);
    assert.equal(error.status, status);
    assert.match(error.message, /the mock says no/);
    if (status === 429) {
      assert.equal(error.headers.get("retry-after"), "7");
      assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
    }
  });
  await check(`anthropic error ${status}`, async () => {
    const asked = anthropic.messages.create({ model: `error-${status}`, max_tokens: 9, messages });
    const error = await asked.then(() => null, (error) => error);
    assert.ok(error instanceof AnthropicError, `${error?.constructor?.name}: ${error}`);
    assert.equal(error.status, status);
    if (status === 429) assert.equal(error.headers.get("retry-after"), "7");
  });
}
await check("openai retries after a 429", async () => {
  const patient = new OpenAI({ baseURL: `${house}/openai/v1`, apiKey: "x", maxRetries: 1 });
  const answer = await patient.chat.completions.create({ model: "once-429", messages });
  assert.equal(answer.choices[0].message.content, "Hello from the mock");
});
await check("openai cut stream", async () => {
  const stream = await openai.chat.completions.create({ model: "cut", messages, stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream) { /* until it breaks */ }
  });
});
await check("anthropic message", async () => {
  const answer = await anthropic.messages.create({ model: "mock", max_tokens: 9, messages });
  assert.equal(answer.content[0].text, "Hello from the mock");
  assert.equal(answer._request_id, "req_anthropic");
});
await check("anthropic stream", async () => {
  const stream = anthropic.messages.stream({ model: "mock", max_tokens: 9, messages });
  const pieces = [];
  stream.on("text", (text) => pieces.push(text));
  const last = await stream.finalMessage();
  assert.deepEqual(pieces, ["Hello", " from", " the", " mock"]);
  assert.equal(last.usage.output_tokens, 5);
});
await check("anthropic tools", async () => {
  const tools = [{ name: "weather", input_schema: { type: "object" } }];
  const answer = await anthropic.messages.create({ model: "mock", max_tokens: 9, messages, tools });
  assert.equal(answer.stop_reason, "tool_use");
  assert.deepEqual(answer.content[0].input, { city: "Berlin" });
});
await check("replicate run", async () => {
  const output = await replicate.run("owner/name", { input: { prompt: "x" }, wait: { mode: "poll", interval: 50 } });
  assert.match(String(output), /picture/);
});
await check("replicate prediction", async () => {
  const prediction = await replicate.predictions.create({ version: "abc", input: { prompt: "x" } });
  const last = await replicate.wait(prediction, { interval: 50 });
  assert.equal(last.status, "succeeded");
});
console.log(`${done.length} checks passed: ${done.join(", ")}`);
