// Drives a Lyceum server with OpenAI's official SDK for JavaScript.
//
// Called as `openai_sdk.mjs PACKAGES URL` by tests/compat.rs. Any failed assertion ends
// with a stack trace and status 1.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [packages, url] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const { OpenAI } = require("openai");

const api = new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0, timeout: 20_000 });
const HELLO = 'Hello "you", 你好.';
const calculate = {
  name: "calculate",
  description: "Evaluates an expression.",
  parameters: {
    type: "object",
    properties: { expression: { type: "string" } },
    required: ["expression"],
  },
};

const names = [];
for await (const model of api.models.list()) names.push(model.id);
assert.deepEqual(names.slice(1), ["panel", "feynman", "sim-embedding", "hashing-v1-512"]);
const model = names[0];
const messages = [{ role: "user", content: "hello" }];

const answer = await api.chat.completions.create({ model, messages });
assert.equal(answer.choices[0].message.content, HELLO);
assert.ok(answer.usage.total_tokens > 0);

let text = "";
for await (const chunk of await api.chat.completions.create({ model, messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, HELLO);

const question = [{ role: "user", content: "calculate both" }];
const tools = [{ type: "function", function: calculate }];
const called = await api.chat.completions.create({ model, messages: question, tools });
assert.equal(called.choices[0].finish_reason, "tool_calls");
const { message } = called.choices[0];
const results = message.tool_calls.map((call, at) => ({
  role: "tool",
  tool_call_id: call.id,
  content: ["4", "6"][at],
}));
const told = await api.chat.completions.create({
  model,
  messages: [...question, message, ...results],
  tools,
});
assert.equal(told.choices[0].message.content, "The results are 4 and 6.");

const response = await api.responses.create({ model, input: "hello" });
assert.equal(response.output_text, HELLO);
assert.equal((await api.responses.retrieve(response.id)).output_text, HELLO);
await api.responses.delete(response.id);
await assert.rejects(api.responses.retrieve(response.id), OpenAI.NotFoundError);

const events = [];
for await (const event of await api.responses.create({ model, input: "hello", stream: true })) {
  events.push(event);
}
assert.equal(events[0].type, "response.created");
assert.equal(events.at(-1).type, "response.completed");
assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
const deltas = events.filter((event) => event.type === "response.output_text.delta");
assert.equal(deltas.map((event) => event.delta).join(""), HELLO);

const stream = api.responses.stream({
  model,
  input: question,
  tools: [{ type: "function", strict: true, ...calculate }],
});
const streamed = await stream.finalResponse();
const calls = streamed.output.filter((item) => item.type === "function_call");
assert.deepEqual(calls.map((call) => JSON.parse(call.arguments).expression), ["2+2", "3+3"]);
const chained = await api.responses.create({
  model,
  previous_response_id: streamed.id,
  input: calls.map((call, at) => ({
    type: "function_call_output",
    call_id: call.call_id,
    output: ["4", "6"][at],
  })),
});
assert.equal(chained.output_text, "The results are 4 and 6.");

const input = ["plants turn light into sugar", "banks lend money"];
const { data } = await api.embeddings.create({ model: "sim-embedding", input });
assert.deepEqual(data.map((item) => item.embedding.length), [64, 64]);
await assert.rejects(api.embeddings.create({ model, input }), OpenAI.BadRequestError);
await assert.rejects(
  api.chat.completions.create({ model: "nothing", messages }),
  (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
);
