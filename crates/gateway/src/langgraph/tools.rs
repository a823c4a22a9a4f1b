//! News of tools, for nodes to emit: that one was called, what it says, how it ended.
//!
//! Invariant: news of a tool is no custom event; streams that show tools show it, others do
//! not. Deliberately absent: calling a tool.

use serde_json::{Value, json};

use super::wire::TOOL;

/// A call of a tool begins; the id is that of the model's call.
#[must_use]
pub fn tool_started(call: &str, name: &str, input: &Value) -> Value {
    told(&json!({
        "event": "tool-started", "tool_call_id": call, "tool_name": name, "input": input,
    }))
}

/// A running tool says something.
#[must_use]
pub fn tool_said(call: &str, text: &str) -> Value {
    told(&json!({ "event": "tool-output-delta", "tool_call_id": call, "delta": text }))
}

/// A tool is done; its output is best the message that goes back to the model.
#[must_use]
pub fn tool_finished(call: &str, output: &Value) -> Value {
    told(&json!({ "event": "tool-finished", "tool_call_id": call, "output": output }))
}

/// A tool failed.
#[must_use]
pub fn tool_failed(call: &str, message: &str) -> Value {
    told(&json!({ "event": "tool-error", "tool_call_id": call, "message": message }))
}

fn told(news: &Value) -> Value {
    json!({ TOOL: news })
}
