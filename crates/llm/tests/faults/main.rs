//! What a provider and a network can do wrong, and what comes of it.
//!
//! The OpenAI dialect stands for both where the transport alone decides.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod connections;
#[path = "../support/mod.rs"]
mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use lyceum_core::{ChatAnswer, ChatError, ChatEvent, ChatModel, FinishReason, TimeoutStage};
use lyceum_llm::{Breaking, Metered, OpenAi, OpenAiConfig, Queued, Retrying, Timeouts};
use lyceum_queue::{BreakerConfig, Queue, QueueConfig, RetryPolicy};
use secrecy::SecretString;
use support::{
    END, KEY, Server, Step, ask, call, chunk, collect, drain, events, hello, plain, short,
    stream_head,
};

const HELLO: &str = r#"data: {"model":"m","choices":[{"index":0,"delta":{"content":"你好"}}]}

"#;
const STOP: &str = r#"data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

"#;
const DONE: &str = "data: [DONE]\n\n";

fn patient() -> Timeouts {
    Timeouts::default()
}

fn stage(error: &ChatError) -> Option<TimeoutStage> {
    match error {
        ChatError::Timeout { stage, .. } => Some(*stage),
        _ => None,
    }
}

fn texts(events: &[ChatEvent]) -> String {
    let text = |event: &ChatEvent| match event {
        ChatEvent::Text(text) => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

/// The stream's text and error when the server sends these steps after its head.
async fn after_head(timeouts: Timeouts, steps: Vec<Step>) -> (String, Option<ChatError>) {
    let mut script = vec![Step::Send(stream_head())];
    script.extend(steps);
    let server = Server::start(vec![script]).await;
    let (events, error) = drain(ask(&server.openai(timeouts))).await;
    (texts(&events), error)
}

#[tokio::test]
async fn refusals_carry_the_wait_and_the_providers_words() {
    let limited = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    let server = Server::saying(plain("429 Too Many", "retry-after: 107\r\n", limited)).await;
    for model in [
        &server.openai(patient()) as &dyn ChatModel,
        &server.anthropic(patient()),
    ] {
        let error = collect(model).await.unwrap_err();
        assert_eq!(error.label(), "rate_limited");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(107)));
        assert!(error.to_string().ends_with(": slow down"), "{error}");
    }
}

#[tokio::test]
async fn a_429_with_a_date_waits_until_then() {
    // 30 s by the provider's own clock, whatever this machine's says.
    let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                   retry-after: Sun, 06 Nov 1994 08:50:07 GMT\r\n";
    let server = Server::saying(plain("429 Too Many", headers, "")).await;
    for model in [
        &server.openai(patient()) as &dyn ChatModel,
        &server.anthropic(patient()),
    ] {
        let error = collect(model).await.unwrap_err();
        assert_eq!(error.label(), "rate_limited");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    }
}

#[tokio::test]
async fn a_429_without_retry_after_names_no_wait() {
    let server = Server::saying(plain("429 Too Many", "", "")).await;
    let error = collect(&server.openai(patient())).await.unwrap_err();
    assert_eq!((error.label(), error.retry_after()), ("rate_limited", None));
    assert!(error.is_retryable());
}

/// The error of both dialects for an answer with this status.
async fn unavailable(status_line: &str, status: u16) {
    let server = Server::saying(plain(status_line, "retry-after: 3\r\n", "not JSON")).await;
    for model in [
        &server.openai(patient()) as &dyn ChatModel,
        &server.anthropic(patient()),
    ] {
        let error = collect(model).await.unwrap_err();
        assert!(
            matches!(error, ChatError::Unavailable { status: seen, .. } if seen == status),
            "{error:?}"
        );
        assert!(error.is_retryable() && error.to_string().ends_with(": not JSON"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    }
}

#[tokio::test]
async fn a_500_may_be_asked_again() {
    unavailable("500 Oops", 500).await;
}

#[tokio::test]
async fn a_529_may_be_asked_again() {
    unavailable("529 Overloaded", 529).await;
}

#[tokio::test]
async fn a_hang_before_the_headers_ends_with_the_time_to_the_first_token() {
    let server = Server::start(vec![vec![Step::Hang]]).await;
    let error = collect(&server.openai(short())).await.unwrap_err();
    assert_eq!(stage(&error), Some(TimeoutStage::FirstToken));
}

#[tokio::test]
async fn a_hang_after_the_headers_ends_with_the_time_to_the_first_token() {
    let (text, error) = after_head(short(), vec![Step::Hang]).await;
    assert_eq!(stage(&error.unwrap()), Some(TimeoutStage::FirstToken));
    assert_eq!(text, "");
}

#[tokio::test]
async fn comments_are_no_first_token() {
    let comments = Step::Trickle(
        chunk(": still thinking\n\n").repeat(1000),
        Duration::from_millis(1),
    );
    let (_, error) = after_head(short(), vec![comments, Step::Hang]).await;
    assert_eq!(stage(&error.unwrap()), Some(TimeoutStage::FirstToken));
}

#[tokio::test]
async fn a_hang_in_the_middle_ends_with_the_time_between_chunks() {
    let (text, error) = after_head(short(), vec![Step::Send(chunk(HELLO)), Step::Hang]).await;
    assert_eq!(stage(&error.unwrap()), Some(TimeoutStage::BetweenChunks));
    assert_eq!(text, "你好", "what came before the hang is kept");
}

#[tokio::test]
async fn bytes_that_make_no_event_are_no_progress() {
    let trickle = Step::Trickle(chunk("x").repeat(10_000), Duration::from_millis(5));
    let (text, error) = after_head(short(), vec![Step::Send(chunk(HELLO)), trickle]).await;
    assert_eq!(stage(&error.unwrap()), Some(TimeoutStage::BetweenChunks));
    assert_eq!(text, "你好");
}

#[tokio::test]
async fn a_flood_without_meaning_ends_with_the_total_time() {
    let timeouts = Timeouts {
        first_token: Duration::from_secs(20),
        total: Duration::from_millis(200),
        ..patient()
    };
    let flood = Step::Flood(chunk(": x\n\n".repeat(1000)));
    let (_, error) = after_head(timeouts, vec![flood]).await;
    assert_eq!(stage(&error.unwrap()), Some(TimeoutStage::Total));
}

#[tokio::test]
async fn a_callers_deadline_ends_the_call() {
    let server = Server::start(vec![vec![Step::Hang]]).await;
    let mut call = call();
    call.deadline = Some(Instant::now() + Duration::from_millis(50));
    let stream = server.openai(patient()).stream(call, hello());
    let error = ChatAnswer::collect(stream).await.unwrap_err();
    assert_eq!(stage(&error), Some(TimeoutStage::Total));
}

#[tokio::test]
async fn a_call_past_its_deadline_is_not_sent() {
    let server = Server::saying(events(DONE)).await;
    let mut call = call();
    call.deadline = Some(Instant::now());
    let stream = server.openai(patient()).stream(call, hello());
    let error = ChatAnswer::collect(stream).await.unwrap_err();
    assert_eq!(stage(&error), Some(TimeoutStage::Total));
    // Connections are accepted in order, so an earlier one would be seen by now.
    assert!(collect(&server.openai(patient())).await.is_err());
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_listens() {
    let server = Server::saying("").await;
    let mut config = server.openai_config(patient());
    config.base_url = "http://127.0.0.1:1/v1".into();
    let error = collect(&OpenAi::new(config).unwrap()).await.unwrap_err();
    assert_eq!(error.label(), "connect");
    assert!(
        !format!("{error:?}").contains("127.0.0.1:1/v1"),
        "no address: {error:?}"
    );
}

#[tokio::test]
async fn an_answer_is_the_same_split_at_every_byte() {
    let body = [HELLO, &STOP.replace('\n', "\r\n"), DONE].concat();
    let mut bytes = stream_head();
    for byte in body.as_bytes() {
        bytes.extend(chunk([*byte]));
    }
    bytes.extend_from_slice(END);
    let server = Server::saying(bytes).await;
    let answer = collect(&server.openai(patient())).await.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish),
        ("你好", FinishReason::Stop)
    );
}

#[tokio::test]
async fn a_broken_connection_is_never_a_short_answer() {
    for end in [Step::Reset, Step::Close] {
        let steps = vec![Step::Send(chunk(HELLO)), end.clone()];
        let (text, error) = after_head(patient(), steps).await;
        let error = error.expect("an error");
        assert_eq!(error.label(), "interrupted", "{end:?}: {error:?}");
        // A reset may overtake bytes that were sent before it.
        assert!(matches!(end, Step::Reset) || text == "你好");
    }
    // The stream itself ends properly, the answer does not.
    let ended = vec![Step::Send([chunk(HELLO), END.to_vec()].concat())];
    let (text, error) = after_head(patient(), ended).await;
    assert_eq!(
        (text.as_str(), error.unwrap().label()),
        ("你好", "truncated")
    );
    // The last event is cut.
    let cut = [chunk(HELLO), chunk(&STOP[..40]), END.to_vec()].concat();
    let (_, error) = after_head(patient(), vec![Step::Send(cut)]).await;
    assert_eq!(error.unwrap().label(), "truncated");
}

#[tokio::test]
async fn a_missing_done_after_a_finish_reason_is_fine() {
    let whole = || Step::Send(chunk([HELLO, STOP].concat()));
    for end in [Step::Send(END.to_vec()), Step::Close, Step::Hang] {
        let (text, error) = after_head(short(), vec![whole(), end]).await;
        assert_eq!((text.as_str(), error.map(|e| e.label())), ("你好", None));
    }
    // Not even the last blank line.
    let bare = [chunk(HELLO), chunk(STOP.trim_end()), END.to_vec()].concat();
    let (_, error) = after_head(patient(), vec![Step::Send(bare)]).await;
    assert_eq!(error.map(|e| e.label()), None);
}

#[tokio::test]
async fn done_without_any_answer_is_none() {
    let server = Server::saying(events(DONE)).await;
    let error = collect(&server.openai(patient())).await.unwrap_err();
    assert_eq!(error.label(), "truncated");
}

#[tokio::test]
async fn malformed_events_are_an_error_after_what_came_before() {
    let body = [HELLO, "data: {\"choices\":[{]}\n\n", STOP, DONE].concat();
    let server = Server::saying(events(&body)).await;
    let (seen, error) = drain(ask(&server.openai(patient()))).await;
    assert_eq!(
        (texts(&seen).as_str(), error.unwrap().label()),
        ("你好", "protocol")
    );

    let server = Server::saying(plain("200 OK", "content-type: text/html\r\n", "x")).await;
    let error = collect(&server.openai(patient())).await.unwrap_err();
    assert_eq!(error.label(), "protocol");
}

/// Compression is never asked for. A server or proxy that compresses all the same is told
/// apart from a broken stream at once, whether its gzip is cut or not: no byte is read.
#[tokio::test]
async fn a_truncated_gzip_is_refused_by_its_header() {
    // RFC 1952: the fixed header of ten bytes, then the beginning of a deflate block.
    const CUT: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x49, 0x2c, 0x49, 0xb4,
    ];
    for kind in ["text/event-stream", "application/json"] {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: gzip\r\n\
             content-length: 100\r\n\r\n"
        );
        let script = vec![Step::Send([head.as_bytes(), CUT].concat()), Step::Close];
        let mut server = Server::start(vec![script]).await;
        let (seen, error) = drain(ask(&server.openai(patient()))).await;
        assert!(seen.is_empty(), "{seen:?}");
        let error = error.unwrap();
        assert_eq!(error.label(), "protocol", "{kind}");
        assert!(error.to_string().contains("gzip"), "{error}");
        let head = server.requests.recv().await.unwrap().head;
        assert!(!head.contains("accept-encoding"), "{head}");
    }
}

#[tokio::test]
async fn a_line_of_100_megabytes_is_given_up_early() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ".to_vec();
    let mut script = vec![Step::Send(head)];
    script.extend(std::iter::repeat_n(Step::Send(vec![b'x'; 1 << 20]), 100));
    let mut server = Server::start(vec![script]).await;
    let error = collect(&server.openai(patient())).await.unwrap_err();
    assert_eq!(error.label(), "protocol");
    server.client_gone().await;
    let sent = server.sent.load(Ordering::SeqCst);
    assert!(sent < 50 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn a_whole_answer_of_any_size_is_bounded() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    let flood = Step::Flood(vec![b' '; 1 << 20]);
    let mut server = Server::start(vec![vec![Step::Send(head), flood]]).await;
    let error = collect(&server.openai(patient())).await.unwrap_err();
    assert_eq!(error.label(), "protocol");
    server.client_gone().await;
}
