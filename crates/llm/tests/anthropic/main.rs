//! The Anthropic dialect on the wire.
//!
//! The fixtures were written for this file after the shapes described in the Claude API
//! documentation: "Messages", "Streaming messages", "Errors", "Structured outputs".

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod requests;
#[path = "../support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use lyceum_core::{
    ChatAnswer, ChatEvent, ChatModel, ChatRequest, Content, FinishReason, Message, Part, Reasoning,
    ReasoningSeal, ResponseFormat, Tokens, ToolCall, ToolChoice, ToolSpec, Usage,
};
use lyceum_llm::{Anthropic, Timeouts};
use lyceum_queue::{Queue, QueueConfig};
use serde_json::{Map, Value, json};
use support::{END, Server, ask, call, chunk, collect, drain, events, plain, stream_head};

fn stream_of(body: &[Value]) -> String {
    let event = |data: &Value| {
        let name = data["type"].as_str().unwrap();
        format!("event: {name}\ndata: {data}\n\n")
    };
    body.iter().map(event).collect()
}

fn start() -> Value {
    json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test",
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 20, "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 5, "output_tokens": 1}}})
}

fn block(index: u32, content_block: &Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": content_block})
}

fn delta(index: u32, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u32) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn end(reason: &str) -> [Value; 2] {
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    [
        json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 42}}),
        json!({"type": "message_stop"}),
    ]
}

async fn answer(body: &[Value]) -> ChatAnswer {
    let server = Server::saying(events(&stream_of(body))).await;
    collect(&server.anthropic(Timeouts::default()))
        .await
        .unwrap()
}

async fn sent(model: &Anthropic, server: &mut Server, request: ChatRequest) -> Value {
    drain(model.stream(call(), Arc::new(request))).await;
    server.requests.recv().await.unwrap().body
}

#[tokio::test]
async fn thinking_text_and_usage() {
    let [message_delta, message_stop] = end("end_turn");
    let answer = answer(&[
        start(),
        block(
            0,
            &json!({"type": "thinking", "thinking": "", "signature": ""}),
        ),
        json!({"type": "ping"}),
        delta(0, &json!({"type": "thinking_delta", "thinking": "Leaves."})),
        delta(0, &json!({"type": "signature_delta", "signature": "EqQB"})),
        stop(0),
        block(1, &json!({"type": "text", "text": ""})),
        delta(1, &json!({"type": "text_delta", "text": "光合"})),
        delta(1, &json!({"type": "text_delta", "text": "作用"})),
        stop(1),
        json!({"type": "an_event_of_the_future", "index": 3}),
        message_delta,
        message_stop,
    ])
    .await;
    assert_eq!(answer.provider.as_deref(), Some("anthropic"));
    assert_eq!(answer.model.as_deref(), Some("claude-test"));
    assert_eq!(
        (answer.text.as_str(), answer.reasoning_text().as_str()),
        ("光合作用", "Leaves.")
    );
    assert_eq!(answer.finish, FinishReason::Stop);
    let usage = Usage {
        input: Tokens(125),
        output: Tokens(42),
        cached_input: Tokens(100),
        cache_write: Tokens(5),
    };
    assert_eq!(answer.usage, Some(usage));
}

#[tokio::test]
async fn sealed_reasoning_and_unknown_fields_survive() {
    let [mut message_delta, message_stop] = end("stop_sequence");
    message_delta["delta"]["stop_sequence"] = json!("END");
    message_delta["usage"]["server_tool_use"] = json!({"web_search_requests": 1});
    let search = json!({"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}});
    let result = json!({"type": "web_search_tool_result", "tool_use_id": "srv", "content": []});
    let answer = answer(&[
        start(),
        block(
            0,
            &json!({"type": "thinking", "thinking": "", "signature": ""}),
        ),
        delta(0, &json!({"type": "thinking_delta", "thinking": "Leaves."})),
        delta(0, &json!({"type": "signature_delta", "signature": "EqQB"})),
        stop(0),
        block(1, &json!({"type": "redacted_thinking", "data": "sealed"})),
        stop(1),
        block(2, &search),
        delta(
            2,
            &json!({"type": "input_json_delta", "partial_json": "{\"q\":"}),
        ),
        delta(
            2,
            &json!({"type": "input_json_delta", "partial_json": "\"x\"}"}),
        ),
        stop(2),
        block(3, &result),
        stop(3),
        block(4, &json!({"type": "text", "text": ""})),
        delta(4, &json!({"type": "text_delta", "text": "So."})),
        delta(
            4,
            &json!({"type": "citations_delta", "citation": {"url": "u"}}),
        ),
        stop(4),
        message_delta,
        message_stop,
    ])
    .await;
    let sealed = |text: &str, seal| Reasoning {
        text: text.into(),
        seal: Some(seal),
    };
    let expected = [
        sealed("Leaves.", ReasoningSeal::Signature("EqQB".into())),
        sealed("", ReasoningSeal::Redacted("sealed".into())),
    ];
    assert_eq!(answer.reasoning, expected);
    assert_eq!(
        (answer.text.as_str(), &answer.finish),
        ("So.", &FinishReason::Stop)
    );
    let searched = json!({"type": "server_tool_use", "id": "srv", "name": "web_search",
        "input": {"q": "x"}});
    let message = json!({"content_blocks": [searched, result], "citations": [{"url": "u"}]});
    assert_eq!(json!(answer.extra.message), message);
    assert_eq!(json!(answer.extra.choice), json!({"stop_sequence": "END"}));
    let usage = json!({"server_tool_use": {"web_search_requests": 1}});
    assert_eq!(json!(answer.extra.usage), usage);
    assert_eq!(answer.extra.answer["id"], "msg_1");

    // It goes back in front of what was said.
    let mut server = Server::saying(plain("400 No", "", "")).await;
    let model = server.anthropic(Timeouts::default());
    let request = ChatRequest::new([Message::user("Why?"), answer.into_message()]);
    let body = sent(&model, &mut server, request).await;
    let content = json!([
        {"type": "thinking", "thinking": "Leaves.", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "text", "text": "So."},
    ]);
    assert_eq!(
        body["messages"][1],
        json!({"role": "assistant", "content": content})
    );
}

#[tokio::test]
async fn tool_calls_are_numbered_among_themselves() {
    let tool =
        |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
    let json_delta = |index, text: &str| {
        delta(
            index,
            &json!({"type": "input_json_delta", "partial_json": text}),
        )
    };
    let [message_delta, message_stop] = end("tool_use");
    let body = [
        start(),
        block(0, &json!({"type": "text", "text": ""})),
        delta(0, &json!({"type": "text_delta", "text": "Let me see."})),
        stop(0),
        block(1, &tool("toolu_a", "search")),
        json_delta(1, ""),
        json_delta(1, "{\"q\": \"x"),
        json_delta(1, "\"}"),
        stop(1),
        block(2, &tool("toolu_b", "now")),
        json_delta(2, ""),
        stop(2),
        message_delta,
        message_stop,
    ];
    let answer = answer(&body).await;
    let call = |id: &str, name: &str, arguments: &str| ToolCall::new(id, name, arguments);
    let expected = [
        call("toolu_a", "search", "{\"q\": \"x\"}"),
        call("toolu_b", "now", "{}"),
    ];
    assert_eq!(answer.tool_calls, expected);
    assert_eq!(answer.finish, FinishReason::ToolCalls);
}

#[tokio::test]
async fn an_answer_is_the_same_split_at_every_byte() {
    let [message_delta, message_stop] = end("max_tokens");
    let text = delta(0, &json!({"type": "text_delta", "text": "学生"}));
    let body = stream_of(&[start(), text, message_delta, message_stop]);
    let bytes: Vec<u8> = body.bytes().flat_map(|byte| chunk([byte])).collect();
    let server = Server::saying([stream_head(), bytes, END.to_vec()].concat()).await;
    let answer = collect(&server.anthropic(Timeouts::default()))
        .await
        .unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish),
        ("学生", FinishReason::Length)
    );
}

#[tokio::test]
async fn a_stream_without_its_end_is_truncated() {
    let text = delta(0, &json!({"type": "text_delta", "text": "half"}));
    let server = Server::saying(events(&stream_of(&[start(), text.clone()]))).await;
    let (seen, error) = drain(ask(&server.anthropic(Timeouts::default()))).await;
    assert_eq!(error.unwrap().label(), "truncated");
    let usage = |event: &ChatEvent| matches!(event, ChatEvent::Usage(u) if u.input == Tokens(125));
    assert!(
        seen.iter().any(usage),
        "what is known of the usage is told early"
    );

    let [message_delta, _] = end("end_turn");
    let server = Server::saying(events(&stream_of(&[start(), text, message_delta]))).await;
    let answer = collect(&server.anthropic(Timeouts::default()))
        .await
        .unwrap();
    assert_eq!(answer.text, "half", "only message_stop is missing");
}

#[tokio::test]
async fn errors_inside_the_stream_are_classified() {
    let table = [
        ("overloaded_error", "unavailable"),
        ("rate_limit_error", "rate_limited"),
        ("api_error", "unavailable"),
        ("authentication_error", "authentication"),
        ("invalid_request_error", "rejected"),
    ];
    for (kind, label) in table {
        let error = json!({"type": "error", "error": {"type": kind, "message": "m"}});
        let server = Server::saying(events(&stream_of(&[start(), error]))).await;
        let error = collect(&server.anthropic(Timeouts::default()))
            .await
            .unwrap_err();
        assert_eq!(error.label(), label, "{kind}");
    }
}

#[tokio::test]
async fn a_whole_answer_in_json_is_accepted() {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test",
        "content": [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1, 2]}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    });
    let headers = "content-type: application/json\r\n";
    let server = Server::saying(plain("200 OK", headers, &body.to_string())).await;
    let answer = collect(&server.anthropic(Timeouts::default()))
        .await
        .unwrap();
    assert_eq!(answer.text, "Let me see.");
    assert_eq!(answer.tool_calls[0].arguments, "{\"x\":[1,2]}");
    assert_eq!(answer.tool_calls[1].arguments, "{}");
    assert_eq!(answer.usage.unwrap().total(), Tokens(7));
}
