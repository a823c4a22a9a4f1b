//! A whole chat completion.

use bytes::{BufMut, Bytes, BytesMut};
use lyceum_core::{ChatAnswer, RequestId, ToolCall, Usage};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{finish_name, is_own};
use crate::{
    catalog::unix_seconds,
    compat::{put, put_fields},
};

/// Writes an answer. `name` is the model's name where the answer does not say one.
pub(crate) fn completion(id: &RequestId, name: &str, answer: &ChatAnswer) -> Bytes {
    let mut out = BytesMut::with_capacity(512 + answer.text.len());
    out.put_slice(b"{\"id\":\"chatcmpl-");
    out.put_slice(id.as_str().as_bytes());
    out.put_slice(b"\",\"object\":\"chat.completion\",\"created\":");
    put(&mut out, &unix_seconds());
    out.put_slice(b",\"model\":");
    put(&mut out, answer.model.as_deref().unwrap_or(name));
    put_fields(&mut out, &answer.extra.answer, is_own);
    out.put_slice(b",\"choices\":[");
    choice(0, answer, &mut out);
    for (at, other) in answer.others.iter().enumerate() {
        out.put_u8(b',');
        choice(at + 1, other, &mut out);
    }
    out.put_u8(b']');
    if let Some(used) = &answer.usage {
        out.put_slice(b",\"usage\":");
        usage(*used, &answer.extra.usage, &mut out);
    }
    out.put_u8(b'}');
    out.freeze()
}

fn choice(index: usize, answer: &ChatAnswer, out: &mut BytesMut) {
    #[derive(Serialize)]
    struct Call<'a> {
        id: &'a str,
        r#type: &'a str,
        function: Function<'a>,
        #[serde(flatten)]
        extra: &'a Map<String, Value>,
    }
    #[derive(Serialize)]
    struct Function<'a> {
        name: &'a str,
        arguments: &'a str,
    }
    out.put_slice(b"{\"index\":");
    put(out, &index);
    out.put_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
    if answer.text.is_empty() && !answer.tool_calls.is_empty() {
        out.put_slice(b"null");
    } else {
        put(out, &*answer.text);
    }
    if !answer.extra.message.contains_key("refusal") {
        out.put_slice(b",\"refusal\":null");
    }
    let reasoning = answer.reasoning_text();
    if !reasoning.is_empty() {
        out.put_slice(b",\"reasoning_content\":");
        put(out, &reasoning);
    }
    if !answer.tool_calls.is_empty() {
        let calls: Vec<_> = answer
            .tool_calls
            .iter()
            .map(|call: &ToolCall| Call {
                id: &call.id,
                r#type: "function",
                function: Function {
                    name: &call.name,
                    arguments: &call.arguments,
                },
                extra: &call.extra,
            })
            .collect();
        out.put_slice(b",\"tool_calls\":");
        put(out, &calls);
    }
    put_fields(out, &answer.extra.message, is_own_message_field);
    out.put_slice(b"},\"finish_reason\":");
    put(out, finish_name(&answer.finish));
    put_fields(out, &answer.extra.choice, is_own_choice_field);
    if !answer.extra.choice.contains_key("logprobs") {
        out.put_slice(b",\"logprobs\":null");
    }
    out.put_u8(b'}');
}

/// Whether a field of a message is Lyceum's own.
pub(super) fn is_own_message_field(name: &str) -> bool {
    matches!(
        name,
        "role" | "content" | "tool_calls" | "reasoning_content"
    )
}

/// Whether a field of a choice is Lyceum's own.
pub(super) fn is_own_choice_field(name: &str) -> bool {
    matches!(name, "index" | "message" | "delta" | "finish_reason")
}

/// Writes a usage with the provider's own details.
pub(super) fn usage(usage: Usage, extra: &Map<String, Value>, out: &mut BytesMut) {
    let mut details = match extra.get("prompt_tokens_details") {
        Some(Value::Object(details)) => details.clone(),
        _ => Map::new(),
    };
    details.insert("cached_tokens".to_owned(), json!(usage.cached_input.0));
    #[derive(Serialize)]
    struct Counts {
        prompt_tokens: u64,
        completion_tokens: u64,
        total_tokens: u64,
    }
    put(
        out,
        &Counts {
            prompt_tokens: usage.input.0,
            completion_tokens: usage.output.0,
            total_tokens: usage.total().0,
        },
    );
    out.truncate(out.len() - 1);
    out.put_slice(b",\"prompt_tokens_details\":");
    put(out, &details);
    put_fields(out, extra, |name| {
        matches!(
            name,
            "prompt_tokens" | "completion_tokens" | "total_tokens" | "prompt_tokens_details"
        )
    });
    out.put_u8(b'}');
}
