// Drives a Lyceum server with LangGraph's official SDK for JavaScript.
//
// Called as `langgraph_sdk.mjs PACKAGES URL` by tests/compat.rs. Any failed assertion ends
// with a stack trace and status 1.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [packages, url] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const { Client } = require("@langchain/langgraph-sdk");

const api = new Client({ apiUrl: url, apiKey: "any" });
const thread = await api.threads.create();
const said = { role: "user", content: "Plants turn light into sugar because of magic." };
const result = await api.runs.wait(thread.thread_id, "feynman", { input: { messages: [said] } });
assert.ok(result.messages.at(-1).content.includes("?"), JSON.stringify(result));
const events = [];
for await (const part of api.runs.stream(thread.thread_id, "feynman", {
  input: { messages: [said] },
  streamMode: "values",
})) {
  events.push(part.event);
}
assert.ok(events.includes("values"), events.join());
const state = await api.threads.getState(thread.thread_id);
assert.ok(state.values.messages.length >= 4, JSON.stringify(state.values));
