// Drives a Lyceum server with Anthropic's official SDK for JavaScript.
//
// Called as `anthropic_sdk.mjs PACKAGES URL` by tests/compat.rs. Any failed assertion ends
// with a stack trace and status 1.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [packages, url] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const { Anthropic } = require("@anthropic-ai/sdk");

const api = new Anthropic({ apiKey: "any", baseURL: url, maxRetries: 0, timeout: 20_000 });
const HELLO = 'Hello "you", 你好.';
const model = (await api.models.list()).data[0].id;
const messages = [{ role: "user", content: "hello" }];

const answer = await api.messages.create({ model, max_tokens: 500, messages });
assert.equal(answer.content[0].text, HELLO);
const stream = api.messages.stream({ model, max_tokens: 500, messages });
let text = "";
stream.on("text", (piece) => (text += piece));
const final = await stream.finalMessage();
assert.deepEqual([text, final.stop_reason], [HELLO, "end_turn"]);

const tools = [
  {
    name: "calculate",
    input_schema: { type: "object", properties: { expression: { type: "string" } } },
  },
];
const called = await api.messages.create({
  model,
  max_tokens: 500,
  messages: [{ role: "user", content: "calculate both" }],
  tools,
});
assert.deepEqual(
  called.content.filter((block) => block.type === "tool_use").map((block) => block.input),
  [{ expression: "2+2" }, { expression: "3+3" }],
);
await assert.rejects(
  api.messages.create({ model: "nothing", max_tokens: 9, messages }),
  Anthropic.NotFoundError,
);
