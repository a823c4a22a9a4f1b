//! OpenAI's chat completions format.
//!
//! Source: OpenAI API reference, "Chat completions", "Streaming events", "Error codes"
//! and "Rate limits". Checked by the official Python SDK in `tests/sdk.rs`.

mod request;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::{Events, Identity, Problem, to_json};
use crate::{
    answer::{Answer, Call, Finish},
    ask::Ask,
    quota::Limit,
    tokens,
};

pub(crate) use request::read;

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Usage,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    annotations: [(); 0],
}

#[derive(Serialize)]
struct ToolCall<'a> {
    /// Present in streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    /// With `include_usage` it is null in every chunk but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

const TIER: &str = "default";
const FINGERPRINT: &str = "fp_lyceum_sim";

pub(crate) fn body(identity: &Identity, ask: &Ask, answer: &Answer) -> Bytes {
    let tool_calls = answer
        .calls
        .iter()
        .enumerate()
        .map(|(index, call)| ToolCall {
            index: None,
            id: Some(call_id(identity, index)),
            kind: Some("function"),
            function: Function {
                name: Some(&call.name),
                arguments: &call.arguments,
            },
        });
    to_json(&Completion {
        id: completion_id(identity),
        object: "chat.completion",
        created: identity.created,
        model: &ask.model,
        choices: [Choice {
            index: 0,
            message: Message {
                role: "assistant",
                content: answer.calls.is_empty().then_some(&answer.text),
                refusal: None,
                tool_calls: tool_calls.collect(),
                annotations: [],
            },
            logprobs: None,
            finish_reason: finish_reason(answer),
        }],
        usage: usage(ask, answer),
        service_tier: TIER,
        system_fingerprint: FINGERPRINT,
    })
}

pub(crate) fn events(identity: &Identity, ask: &Ask, answer: &Answer) -> Events {
    let id = completion_id(identity);
    let mut events = Events::default();
    let mut push = |choices: &[ChunkChoice<'_>], usage: Option<Usage>, tokens: u64| {
        let chunk = Chunk {
            id: &id,
            object: "chat.completion.chunk",
            created: identity.created,
            model: &ask.model,
            service_tier: TIER,
            system_fingerprint: FINGERPRINT,
            choices,
            usage: ask.stream_usage.then_some(usage),
        };
        events.push(None, &chunk, tokens);
    };
    let mut delta = |delta: Delta<'_>, finish_reason: Option<&'static str>, tokens: u64| {
        let choice = ChunkChoice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason,
        };
        push(&[choice], None, tokens);
    };
    delta(
        Delta {
            role: Some("assistant"),
            content: answer.calls.is_empty().then_some(""),
            ..Delta::default()
        },
        None,
        0,
    );
    for piece in tokens::pieces(&answer.text) {
        let text = Delta {
            content: Some(piece),
            ..Delta::default()
        };
        delta(text, None, 1);
    }
    for (index, call) in answer.calls.iter().enumerate() {
        delta(
            opening(identity, index, call),
            None,
            tokens::count(&call.name),
        );
        for piece in tokens::pieces(&call.arguments) {
            let arguments = ToolCall {
                index: Some(index),
                id: None,
                kind: None,
                function: Function {
                    name: None,
                    arguments: piece,
                },
            };
            let more = Delta {
                tool_calls: vec![arguments],
                ..Delta::default()
            };
            delta(more, None, 1);
        }
    }
    delta(Delta::default(), Some(finish_reason(answer)), 0);
    if ask.stream_usage {
        push(&[], Some(usage(ask, answer)), 0);
    }
    events.push_literal("[DONE]");
    events
}

fn opening<'a>(identity: &Identity, index: usize, call: &'a Call) -> Delta<'a> {
    let start = ToolCall {
        index: Some(index),
        id: Some(call_id(identity, index)),
        kind: Some("function"),
        function: Function {
            name: Some(&call.name),
            arguments: "",
        },
    };
    Delta {
        tool_calls: vec![start],
        ..Delta::default()
    }
}

pub(crate) fn problem(problem: &Problem) -> (StatusCode, Bytes) {
    const INVALID: &str = "invalid_request_error";
    let (status, message, kind, param, code) = match problem {
        Problem::Invalid { message, param } => (
            StatusCode::BAD_REQUEST,
            message.clone(),
            INVALID,
            *param,
            None,
        ),
        Problem::WrongKey => (
            StatusCode::UNAUTHORIZED,
            "Incorrect API key provided.".to_owned(),
            INVALID,
            None,
            Some("invalid_api_key"),
        ),
        Problem::UnknownModel(model) => (
            StatusCode::NOT_FOUND,
            format!("The model `{model}` does not exist or you do not have access to it."),
            INVALID,
            None,
            Some("model_not_found"),
        ),
        Problem::UnknownPath(path) => (
            StatusCode::NOT_FOUND,
            format!("Invalid URL ({path})"),
            INVALID,
            None,
            None,
        ),
        Problem::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request is larger than this server accepts.".to_owned(),
            INVALID,
            None,
            None,
        ),
        Problem::RateLimited { limit, retry_after } => (
            StatusCode::TOO_MANY_REQUESTS,
            match retry_after {
                Some(wait) => format!(
                    "Rate limit reached for {}. Please try again in {}.",
                    limit_kind(*limit),
                    super::limits::short(*wait)
                ),
                None => "Request too large for the rate limit of the model.".to_owned(),
            },
            limit_kind(*limit),
            None,
            Some("rate_limit_exceeded"),
        ),
        Problem::ServerError => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "The server had an error while processing your request.".to_owned(),
            "server_error",
            None,
            None,
        ),
        Problem::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The engine is currently overloaded, please try again later.".to_owned(),
            "server_error",
            None,
            Some("overloaded"),
        ),
    };
    let error = ErrorObject {
        message: &message,
        kind,
        param,
        code,
    };
    (status, to_json(&ErrorBody { error }))
}

pub(crate) fn error_event(events: &mut Events) {
    let error = ErrorObject {
        message: "The server had an error while processing your request.",
        kind: "server_error",
        param: None,
        code: None,
    };
    events.push(None, &ErrorBody { error }, 0);
}

pub(crate) fn models(names: &[String]) -> Bytes {
    let data = names.iter().map(|name| Model {
        id: name,
        object: "model",
        created: 1_700_000_000,
        owned_by: "lyceum-sim",
    });
    to_json(&ModelList {
        object: "list",
        data: data.collect(),
    })
}

fn usage(ask: &Ask, answer: &Answer) -> Usage {
    Usage {
        prompt_tokens: ask.input_tokens,
        completion_tokens: answer.tokens,
        total_tokens: ask.input_tokens + answer.tokens,
        prompt_tokens_details: PromptDetails {
            cached_tokens: 0,
            audio_tokens: 0,
        },
        completion_tokens_details: CompletionDetails {
            reasoning_tokens: 0,
            audio_tokens: 0,
            accepted_prediction_tokens: 0,
            rejected_prediction_tokens: 0,
        },
    }
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop | Finish::StopSequence(_) => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

fn limit_kind(limit: Limit) -> &'static str {
    match limit {
        Limit::Requests | Limit::Concurrency => "requests",
        Limit::InputTokens | Limit::OutputTokens | Limit::TotalTokens => "tokens",
    }
}

fn completion_id(identity: &Identity) -> String {
    format!("chatcmpl-{:016x}", identity.bits)
}

fn call_id(identity: &Identity, index: usize) -> String {
    format!("call_{:016x}{index}", identity.bits)
}
