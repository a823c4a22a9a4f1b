//! Anthropic's messages format.
//!
//! Source: Anthropic API reference, "Messages", "Streaming messages", "Errors", "Count
//! message tokens" and "Rate limits". Checked by the official Python SDK in
//! `tests/sdk.rs`.

mod request;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Events, Identity, Problem, to_json};
use crate::{
    answer::{Answer, Finish},
    ask::Ask,
    tokens,
};

pub(crate) use request::{read, read_for_count};

#[derive(Serialize)]
struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: Usage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: &'a RawValue,
    },
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    service_tier: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart {
        message: Message<'a>,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block<'a>,
    },
    Ping,
    ContentBlockDelta {
        index: usize,
        delta: Delta<'a>,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: MessageDelta<'a>,
        usage: DeltaUsage,
    },
    MessageStop,
}

impl Event<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::Ping => "ping",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Delta<'a> {
    TextDelta { text: &'a str },
    InputJsonDelta { partial_json: &'a str },
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

#[derive(Serialize)]
struct DeltaUsage {
    output_tokens: u64,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ErrorObject<'a>,
    request_id: String,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct TokenCount {
    input_tokens: u64,
}

#[derive(Serialize)]
struct ModelList<'a> {
    data: Vec<Model<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'static str,
}

pub(crate) fn body(identity: &Identity, ask: &Ask, answer: &Answer) -> Bytes {
    let mut content = Vec::new();
    if !answer.text.is_empty() {
        content.push(Block::Text { text: &answer.text });
    }
    for (index, call) in answer.calls.iter().enumerate() {
        content.push(Block::ToolUse {
            id: tool_id(identity, index),
            name: &call.name,
            input: input(&call.arguments),
        });
    }
    to_json(&Message {
        content,
        stop_reason: Some(stop_reason(answer)),
        stop_sequence: stop_sequence(answer),
        usage: usage(ask, answer.tokens),
        ..opening(identity, ask)
    })
}

pub(crate) fn events(identity: &Identity, ask: &Ask, answer: &Answer) -> Events {
    let mut events = Events::default();
    let mut push = |event: &Event<'_>, tokens: u64| events.push(Some(event.name()), event, tokens);
    let message = opening(identity, ask);
    push(&Event::MessageStart { message }, 0);
    if !answer.text.is_empty() {
        let content_block = Block::Text { text: "" };
        push(
            &Event::ContentBlockStart {
                index: 0,
                content_block,
            },
            0,
        );
        push(&Event::Ping, 0);
        for text in tokens::pieces(&answer.text) {
            let delta = Delta::TextDelta { text };
            push(&Event::ContentBlockDelta { index: 0, delta }, 1);
        }
        push(&Event::ContentBlockStop { index: 0 }, 0);
    }
    for (index, call) in answer.calls.iter().enumerate() {
        let content_block = Block::ToolUse {
            id: tool_id(identity, index),
            name: &call.name,
            input: input("{}"),
        };
        let name_tokens = tokens::count(&call.name);
        push(
            &Event::ContentBlockStart {
                index,
                content_block,
            },
            name_tokens,
        );
        for partial_json in tokens::pieces(&call.arguments) {
            let delta = Delta::InputJsonDelta { partial_json };
            push(&Event::ContentBlockDelta { index, delta }, 1);
        }
        push(&Event::ContentBlockStop { index }, 0);
    }
    let delta = MessageDelta {
        stop_reason: stop_reason(answer),
        stop_sequence: stop_sequence(answer),
    };
    let usage = DeltaUsage {
        output_tokens: answer.tokens,
    };
    push(&Event::MessageDelta { delta, usage }, 0);
    push(&Event::MessageStop, 0);
    events
}

pub(crate) fn problem(identity: &Identity, problem: &Problem) -> (StatusCode, Bytes) {
    let (status, kind, message) = match problem {
        Problem::Invalid { message, param } => (
            400,
            "invalid_request_error",
            match param {
                Some(param) => format!("{param}: {message}"),
                None => message.clone(),
            },
        ),
        Problem::WrongKey => (401, "authentication_error", "invalid x-api-key".to_owned()),
        Problem::UnknownModel(model) => (404, "not_found_error", format!("model: {model}")),
        Problem::UnknownPath(_) => (404, "not_found_error", "Not Found".to_owned()),
        Problem::TooLarge => (
            413,
            "request_too_large",
            "Request exceeds the maximum size".to_owned(),
        ),
        Problem::RateLimited { limit, .. } => (
            429,
            "rate_limit_error",
            format!(
                "This request would exceed your rate limit: {}.",
                limit.label()
            ),
        ),
        Problem::ServerError => (500, "api_error", "Internal server error".to_owned()),
        Problem::Overloaded => (529, "overloaded_error", "Overloaded".to_owned()),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, to_json(&error_body(identity, kind, &message)))
}

pub(crate) fn error_event(events: &mut Events, identity: &Identity) {
    let body = error_body(identity, "overloaded_error", "Overloaded");
    events.push(Some("error"), &body, 0);
}

pub(crate) fn token_count(ask: &Ask) -> Bytes {
    to_json(&TokenCount {
        input_tokens: ask.input_tokens,
    })
}

pub(crate) fn models(names: &[String]) -> Bytes {
    let data = names.iter().map(|name| Model {
        kind: "model",
        id: name,
        display_name: name,
        created_at: "2024-01-01T00:00:00Z",
    });
    to_json(&ModelList {
        data: data.collect(),
        has_more: false,
        first_id: names.first().map(String::as_str),
        last_id: names.last().map(String::as_str),
    })
}

pub(crate) fn request_id(identity: &Identity) -> String {
    format!("req_{:016x}", identity.bits)
}

fn error_body<'a>(identity: &Identity, kind: &'a str, message: &'a str) -> ErrorBody<'a> {
    ErrorBody {
        kind: "error",
        error: ErrorObject { kind, message },
        request_id: request_id(identity),
    }
}

/// The message as a stream begins it: no content, one output token counted ahead.
fn opening<'a>(identity: &Identity, ask: &'a Ask) -> Message<'a> {
    Message {
        id: format!("msg_{:016x}", identity.bits),
        kind: "message",
        role: "assistant",
        model: &ask.model,
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        usage: usage(ask, 1),
    }
}

fn usage(ask: &Ask, output_tokens: u64) -> Usage {
    Usage {
        input_tokens: ask.input_tokens,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 0,
        output_tokens,
        service_tier: "standard",
    }
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::StopSequence(_) => "stop_sequence",
    }
}

fn stop_sequence(answer: &Answer) -> Option<&str> {
    match &answer.finish {
        Finish::StopSequence(stop) => Some(stop),
        Finish::Stop | Finish::Length | Finish::ToolCalls => None,
    }
}

/// Arguments are made by `serde_json` and so are JSON.
fn input(arguments: &str) -> &RawValue {
    serde_json::from_str(arguments).unwrap_or(RawValue::NULL)
}

fn tool_id(identity: &Identity, index: usize) -> String {
    format!("toolu_{:016x}{index}", identity.bits)
}
