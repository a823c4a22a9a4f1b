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

mod support;

use std::sync::Arc;

use lyceum_core::{
    ChatAnswer, ChatEvent, ChatModel, ChatRequest, Content, FinishReason, Message, Part,
    ResponseFormat, Tokens, ToolCall, ToolChoice, ToolSpec, Usage,
};
use lyceum_llm::{OpenAi, OpenAiConfig, Preset, Timeouts};
use serde_json::{Map, Value, json};
use support::{Server, ask, call, collect, drain, events, plain};

fn stream_of(chunks: &[Value]) -> String {
    let data: String = chunks.iter().map(|c| format!("data: {c}\n\n")).collect();
    data + "data: [DONE]\n\n"
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
        ChatEvent::Text("x".into()),
        ChatEvent::Finished(FinishReason::Length),
    ];
    assert_eq!(seen, expected);
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

#[tokio::test]
async fn a_plain_request() {
    let mut server = Server::saying(events("data: [DONE]\n\n")).await;
    drain(ask(&server.openai(Timeouts::default()))).await;
    let request = server.requests.recv().await.unwrap();
    assert!(
        request
            .head
            .starts_with("post /v1/chat/completions http/1.1\r\n")
    );
    let expected = json!({
        "model": "test-model",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn everything_a_request_can_hold_is_sent() {
    let extra = |value: Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
    let picture = Content::Parts(vec![
        Part::Text {
            text: "What is this?".into(),
            extra: extra(json!({"cache_control": {"type": "ephemeral"}})),
        },
        Part::Image {
            url: "data:image/png;base64,AA==".into(),
            extra: extra(json!({"detail": "low"})),
        },
        Part::Other(json!({"type": "input_audio", "input_audio": {"data": "AA=="}})),
    ]);
    let mut asked = Message::assistant("");
    asked.tool_calls = vec![ToolCall::new("a", "f", "{\"x\":1}")];
    let mut named = Message::user("hi");
    named.extra = extra(json!({"name": "ann", "role": "ignored"}));
    let mut request = ChatRequest::new([
        Message::system("Be kind."),
        Message::user(picture),
        asked,
        Message::tool("a", "2"),
        named,
    ]);
    request.model = Some("asked-model".into());
    request.tools = vec![ToolSpec::new("f", "Adds.", json!({"type": "object"}))];
    request.tool_choice = ToolChoice::Named("f".into());
    request.response_format = ResponseFormat::JsonSchema {
        name: "gap".into(),
        schema: json!({"type": "object"}),
        strict: true,
    };
    request.max_output = Some(Tokens(99));
    request.temperature = Some(0.7);
    request.top_p = Some(0.9);
    request.stop = vec!["END".into()];
    request.seed = Some(-7);
    request.extra = extra(json!({
        "reasoning_effort": "low", "stream": false, "model": "no", "max_tokens": 1,
    }));
    let expected = json!({
        "model": "asked-model",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA=="}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function",
                    "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "content": "2", "tool_call_id": "a"},
            {"role": "user", "content": "hi", "name": "ann"},
        ],
        "stream": true,
        "stream_options": {"include_usage": true},
        "tools": [{"type": "function", "function":
            {"name": "f", "description": "Adds.", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema":
            {"name": "gap", "schema": {"type": "object"}, "strict": true}},
        "max_completion_tokens": 99,
        "temperature": 0.7_f32,
        "top_p": 0.9_f32,
        "stop": ["END"],
        "seed": -7,
        "reasoning_effort": "low",
    });
    let mut body = sent(request, "openai").await;
    for field in ["temperature", "top_p"] {
        let number = body[field].as_f64().unwrap();
        body[field] = json!(number as f32);
    }
    assert_eq!(body, expected);
}

#[tokio::test]
async fn providers_without_schemas_get_them_in_words() {
    for messages in [
        vec![Message::system("Be kind."), Message::user("hi")],
        vec![Message::user("hi")],
    ] {
        let mut request = ChatRequest::new(messages);
        request.max_output = Some(Tokens(5));
        request.response_format = ResponseFormat::JsonSchema {
            name: "gap".into(),
            schema: json!({"type": "object", "title": "Gap"}),
            strict: true,
        };
        let body = sent(request, "deepseek").await;
        assert_eq!(body["response_format"], json!({"type": "json_object"}));
        assert_eq!(body["max_tokens"], 5);
        let roles: Vec<_> = body["messages"].as_array().unwrap().iter().collect();
        assert_eq!(roles.len(), 2);
        let system = roles[0]["content"].as_str().unwrap();
        assert!(
            system.ends_with(r#"{"title":"Gap","type":"object"}"#),
            "{system}"
        );
    }
}
