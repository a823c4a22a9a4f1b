//! The OpenAI dialect on the wire.
//!
//! The fixtures were written for this file after the shapes described in the OpenAI
//! API reference ("Create chat completion", "Streaming events", "Error codes"), the
//! DeepSeek API reference ("Create Chat Completion") and Alibaba Cloud Model Studio
//! ("OpenAI compatible - Chat").

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod requests;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use lyceum_core::{
    ChatAnswer, ChatEvent, ChatModel, ChatRequest, Content, Extra, ExtraPlace, FinishReason,
    Message, Part, Reasoning, ResponseFormat, Tokens, ToolCall, ToolChoice, ToolSpec, Usage,
};
use lyceum_llm::{OpenAi, OpenAiConfig, Preset, Timeouts};
use serde_json::{Map, Value, json};
use support::{Server, ask, call, collect, drain, events, plain};

fn stream_of(chunks: &[Value]) -> String {
    let data: String = chunks.iter().map(|c| format!("data: {c}\n\n")).collect();
    data + "data: [DONE]\n\n"
}

fn extra(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

/// A chunk with one choice.
fn delta(delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-2026",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
        "usage": null,
    })
}

async fn answer(chunks: &[Value]) -> ChatAnswer {
    let server = Server::saying(events(&stream_of(chunks))).await;
    collect(&server.openai(Timeouts::default())).await.unwrap()
}

/// What is sent for a request.
async fn sent(request: ChatRequest, preset: &str) -> Value {
    let mut server = Server::saying(events("data: [DONE]\n\n")).await;
    let preset = Preset::by_name(preset).unwrap();
    let mut config = OpenAiConfig::from_preset(preset, "configured-model");
    config.base_url.clone_from(&server.url);
    let model = OpenAi::new(config).unwrap();
    drain(model.stream(call(), Arc::new(request))).await;
    server.requests.recv().await.unwrap().body
}

#[tokio::test]
async fn text_reasoning_and_usage() {
    let usage = json!({
        "model": "m-2026", "choices": [],
        "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 9}},
    });
    let chunks = [
        delta(&json!({"role": "assistant", "content": ""}), None),
        delta(
            &json!({"reasoning_content": "Leaves ", "content": null}),
            None,
        ),
        delta(&json!({"reasoning": "matter."}), None),
        delta(&json!({"content": "光合\n"}), None),
        delta(&json!({"content": "作用"}), None),
        delta(&json!({}), Some("stop")),
        usage,
    ];
    let answer = answer(&chunks).await;
    assert_eq!(answer.provider.as_deref(), Some("openai"));
    assert_eq!(answer.model.as_deref(), Some("m-2026"));
    assert_eq!(answer.text, "光合\n作用");
    assert_eq!(answer.reasoning_text(), "Leaves matter.");
    assert_eq!(answer.finish, FinishReason::Stop);
    let usage = Usage {
        input: Tokens(120),
        output: Tokens(30),
        cached_input: Tokens(64),
        cache_write: Tokens(0),
    };
    assert_eq!(answer.usage, Some(usage));
}

#[tokio::test]
async fn events_come_in_the_promised_order() {
    let chunks = [
        delta(&json!({"content": "x"}), None),
        // Some servers repeat the whole message at the end.
        json!({"choices": [
            {"index": 0, "message": {"content": "x"}, "finish_reason": "length"},
            {"index": 1, "delta": {"content": "another choice"}},
        ]}),
    ];
    let server = Server::saying(events(&stream_of(&chunks))).await;
    let (seen, error) = drain(ask(&server.openai(Timeouts::default()))).await;
    assert!(error.is_none());
    let expected = [
        ChatEvent::Started {
            provider: "openai".into(),
            model: "m-2026".into(),
        },
        ChatEvent::Extra(Extra {
            place: ExtraPlace::Answer,
            fields: extra(json!({"id": "chatcmpl-1", "created": 1})),
        }),
        ChatEvent::Text("x".into()),
        ChatEvent::Choice {
            index: 1,
            event: Box::new(ChatEvent::Text("another choice".into())),
        },
        ChatEvent::Finished(FinishReason::Length),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn unknown_fields_survive() {
    let logprobs = |n: i32| json!({"content": [{"token": "x", "logprob": -n}], "refusal": null});
    let chunk = |mut chunk: Value, n: i32, fingerprint: &str| {
        chunk["choices"][0]["logprobs"] = logprobs(n);
        chunk["system_fingerprint"] = json!(fingerprint);
        chunk["service_tier"] = json!("default");
        chunk["obfuscation"] = json!("x".repeat(n as usize));
        chunk
    };
    let cite = json!({"content": "b", "annotations": [{"url": "u"}]});
    let usage = json!({"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2}, "cost": 0.5});
    let answer = answer(&[
        chunk(
            delta(&json!({"role": "assistant", "content": "a"}), None),
            1,
            "fp_1",
        ),
        chunk(delta(&cite, None), 2, "fp_1"),
        chunk(delta(&json!({}), Some("stop")), 3, "fp_2"),
        json!({"id": "chatcmpl-1", "choices": [], "usage": usage}),
    ])
    .await;
    assert_eq!(answer.text, "ab");
    let whole = json!({"id": "chatcmpl-1", "created": 1, "system_fingerprint": "fp_2",
        "service_tier": "default"});
    assert_eq!(json!(answer.extra.answer), whole);
    let tokens = answer.extra.choice["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(tokens.len(), 3);
    assert_eq!(
        json!(answer.extra.message),
        json!({"annotations": [{"url": "u"}]})
    );
    let details = json!({"total_tokens": 15, "cost": 0.5,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2}});
    assert_eq!(json!(answer.extra.usage), details);
    assert_eq!(answer.usage.unwrap().cached_input, Tokens(4));
}

#[tokio::test]
async fn several_choices_are_told_apart() {
    let of = |index: u32, delta: Value, finish: Value| json!({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]});
    let chunks = [
        of(0, json!({"content": "a"}), json!(null)),
        of(1, json!({"content": "b"}), json!(null)),
        of(0, json!({"content": "c"}), json!("stop")),
        of(1, json!({"content": "d"}), json!("length")),
    ];
    let answer = answer(&chunks).await;
    assert_eq!((answer.text.as_str(), answer.others.len()), ("ac", 1));
    let other = &answer.others[0];
    assert_eq!(
        (other.text.as_str(), &other.finish),
        ("bd", &FinishReason::Length)
    );

    // The second choice was cut.
    let server = Server::saying(events(
        &stream_of(&chunks[..3]).replace("data: [DONE]\n\n", ""),
    ))
    .await;
    let error = collect(&server.openai(Timeouts::default()))
        .await
        .unwrap_err();
    assert_eq!(error.label(), "truncated");
}

#[tokio::test]
async fn texts_with_and_without_escapes_are_read_the_same() {
    let texts = [
        "Hel",
        "lo",
        ", \"",
        "wor\n",
        "ld\u{1F30D}",
        "",
        "\\",
        "!",
        "}]}",
        "\u{e9}",
    ];
    let chunks: Vec<Value> = texts
        .iter()
        .map(|text| delta(&json!({"content": text}), None))
        .chain([delta(&json!({}), Some("stop"))])
        .collect();
    assert_eq!(answer(&chunks).await.text, texts.concat());
}

#[tokio::test]
async fn forms_of_other_servers_are_read() {
    let thinking = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]});
    let answer = answer(&[
        // Mistral.
        delta(
            &json!({"content": [thinking, {"type": "text", "text": "So."}]}),
            None,
        ),
        // Gemini's signature, and arguments that are no text.
        delta(
            &json!({"tool_calls": [{"index": 0, "id": "a", "type": "function",
            "function": {"name": "f", "arguments": {"x": 1}},
            "extra_content": {"google": {"thought_signature": "sig"}}}]}),
            None,
        ),
        // Moonshot.
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls",
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 8}}]}),
    ])
    .await;
    assert_eq!(
        (answer.text.as_str(), answer.reasoning_text()),
        ("So.", "Hm.".into())
    );
    let call = &answer.tool_calls[0];
    assert_eq!(call.arguments, "{\"x\":1}");
    assert_eq!(
        call.extra["extra_content"]["google"]["thought_signature"],
        "sig"
    );
    let usage = answer.usage.unwrap();
    assert_eq!((usage.input, usage.cached_input), (Tokens(9), Tokens(8)));
}

#[tokio::test]
async fn parallel_tool_calls_are_told_apart() {
    let piece = |index: u32, id: Value, name: Value, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        let call = json!({"index": index, "id": id, "type": "function", "function": function});
        delta(&json!({"tool_calls": [call]}), None)
    };
    let answer = answer(&[
        piece(0, json!("call_a"), json!("search"), ""),
        piece(0, json!(null), json!(null), "{\"q\":"),
        piece(1, json!("call_b"), json!("calculate"), "{}"),
        // Some servers repeat fields as empty texts.
        piece(0, json!(""), json!(""), "\"x\"}"),
        delta(&json!({}), Some("tool_calls")),
    ])
    .await;
    let expected = [
        ("call_a", "search", "{\"q\":\"x\"}"),
        ("call_b", "calculate", "{}"),
    ];
    let calls: Vec<_> = answer.tool_calls.iter().map(of_call).collect();
    assert_eq!(calls, expected);
    assert_eq!(answer.finish, FinishReason::ToolCalls);
}

fn of_call(call: &ToolCall) -> (&str, &str, &str) {
    (&call.id, &call.name, &call.arguments)
}

#[tokio::test]
async fn tool_calls_without_numbers_are_told_apart_by_their_ids() {
    let piece = |call: Value| delta(&json!({"tool_calls": [call]}), None);
    let answer = answer(&[
        piece(json!({"id": "a", "function": {"name": "f", "arguments": "{\"x\""}})),
        piece(json!({"function": {"arguments": ":1}"}})),
        piece(json!({"id": "b", "function": {"name": "g", "arguments": "{}"}})),
        delta(&json!({}), Some("stop")),
    ])
    .await;
    let calls: Vec<_> = answer.tool_calls.iter().map(of_call).collect();
    assert_eq!(calls, [("a", "f", "{\"x\":1}"), ("b", "g", "{}")]);
    assert_eq!(
        answer.finish,
        FinishReason::ToolCalls,
        "although it said stop"
    );
}

#[tokio::test]
async fn a_whole_answer_in_json_is_accepted() {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me see.", "refusal": null,
            "tool_calls": [{"id": "a", "type": "function",
                "function": {"name": "f", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_cache_hit_tokens": 3},
    });
    let headers = "content-type: application/json; charset=utf-8\r\n";
    let server = Server::saying(plain("200 OK", headers, &body.to_string())).await;
    let answer = collect(&server.openai(Timeouts::default())).await.unwrap();
    assert_eq!(answer.text, "Let me see.");
    assert_eq!(of_call(&answer.tool_calls[0]), ("a", "f", "{}"));
    assert_eq!(answer.usage.unwrap().cached_input, Tokens(3));

    let cut = &body.to_string()[..40];
    let server = Server::saying(plain("200 OK", headers, cut)).await;
    let error = collect(&server.openai(Timeouts::default()))
        .await
        .unwrap_err();
    assert_eq!(error.label(), "protocol");
}

#[tokio::test]
async fn errors_inside_the_stream_are_classified() {
    let table = [
        (
            json!({"message": "m", "code": "rate_limit_exceeded"}),
            "rate_limited",
        ),
        (
            json!({"message": "m", "type": "server_error"}),
            "unavailable",
        ),
        (
            json!({"message": "m", "type": "invalid_request_error"}),
            "rejected",
        ),
        (json!("m"), "unavailable"),
    ];
    for (error, label) in table {
        let body = format!("data: {}\n\n", json!({"error": error}));
        let server = Server::saying(events(&body)).await;
        let error = collect(&server.openai(Timeouts::default()))
            .await
            .unwrap_err();
        assert_eq!(error.label(), label, "{error}");
    }
}
