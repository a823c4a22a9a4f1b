//! Anthropic's messages.
//!
//! Source: Anthropic API reference, "Messages", "Streaming messages". Fields and blocks
//! that Lyceum does not know are sent on as they are.

mod events;
mod request;

pub(crate) use events::Events;
pub(crate) use request::MessagesIn;

use bytes::Bytes;
use lyceum_core::{ChatAnswer, FinishReason, ReasoningSeal, RequestId, Usage};
use serde_json::{Value, json};

use crate::compat::agent;

/// Writes a whole answer. `name` is the model's name where the answer does not say one.
pub(crate) fn message(id: &RequestId, name: &str, answer: &ChatAnswer) -> Bytes {
    let mut content = Vec::new();
    for piece in &answer.reasoning {
        content.push(match &piece.seal {
            Some(ReasoningSeal::Redacted(data)) => {
                json!({"type": "redacted_thinking", "data": data})
            }
            Some(ReasoningSeal::Signature(signature)) => {
                json!({"type": "thinking", "thinking": piece.text, "signature": signature})
            }
            None => json!({"type": "thinking", "thinking": piece.text, "signature": ""}),
        });
    }
    if !answer.text.is_empty() {
        content.push(json!({"type": "text", "text": answer.text}));
    }
    for call in &answer.tool_calls {
        let input = serde_json::from_str::<Value>(&call.arguments);
        let input = input.ok().filter(Value::is_object);
        content.push(json!({"type": "tool_use", "id": call.id, "name": call.name,
            "input": input.unwrap_or_else(|| json!({}))}));
    }
    let mut message = json!({
        "id": format!("msg_{id}"),
        "type": "message",
        "role": "assistant",
        "model": answer.model.as_deref().unwrap_or(name),
        "content": content,
        "stop_reason": stop_reason(&answer.finish),
        "stop_sequence": Value::Null,
        "usage": usage(answer.usage.unwrap_or_default()),
    });
    for (name, value) in agent::fields(&answer.extra.answer) {
        message[name] = value;
    }
    for fields in [&answer.extra.message, &answer.extra.answer] {
        if let Some(Value::String(text)) = fields.get("stop_sequence") {
            message["stop_sequence"] = text.as_str().into();
            message["stop_reason"] = "stop_sequence".into();
        }
    }
    message.to_string().into()
}

/// The reason's name.
fn stop_reason(reason: &FinishReason) -> &str {
    match reason {
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter => "refusal",
        FinishReason::Other(other) => other,
        _ => "end_turn",
    }
}

/// A usage in this dialect, whose input is what no cache held.
fn usage(usage: Usage) -> Value {
    let cached = usage.cached_input + usage.cache_write;
    json!({
        "input_tokens": (usage.input - cached).0,
        "output_tokens": usage.output.0,
        "cache_read_input_tokens": usage.cached_input.0,
        "cache_creation_input_tokens": usage.cache_write.0,
    })
}
