//! The chat port's promises, on a tiny made-up model that babbles fast.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails fails its test"
)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use candle_core::quantized::gguf_file::Value;
use common::{Tiny, answer, ask, call};
use futures::StreamExt;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Content,
    FinishReason, Message, Part, Tokens, ToolChoice,
};
use lyceum_llm_local::{LocalConfig, LocalModel};

fn babbler(config: LocalConfig) -> LocalModel {
    Tiny::new().open(config)
}

/// More tokens than any test has the time to wait for.
const ENDLESS: Tokens = Tokens(60_000);

/// A babbler whose context holds an endless answer.
fn endless_babbler(config: LocalConfig) -> LocalModel {
    let mut tiny = Tiny::new();
    tiny.set("llama.context_length", Value::U32(65_536));
    tiny.open(LocalConfig {
        context: Some(Tokens(65_536)),
        ..config
    })
}

fn long() -> ChatRequest {
    ChatRequest {
        max_output: Some(ENDLESS),
        ..ask("hello")
    }
}

async fn refusal(model: &LocalModel, request: ChatRequest) -> ChatError {
    let stream = model.stream(call(), Arc::new(request));
    ChatAnswer::collect(stream).await.unwrap_err()
}

/// Polls until the thread has begun to answer.
async fn started(stream: &mut ChatStream) {
    while let Some(event) = stream.next().await {
        if matches!(event, Ok(ChatEvent::Started { .. })) {
            return;
        }
    }
    panic!("the answer never started");
}

#[tokio::test]
async fn events_come_in_the_ports_order_with_exact_usage() {
    let model = babbler(LocalConfig::default());
    assert_eq!(model.name(), "local");
    assert_eq!(model.model(), "Tiny babbler");
    let traits = model.traits();
    assert_eq!((traits.context, traits.small), (Tokens(256), true));
    assert!(!traits.native_tools);

    let request = ChatRequest {
        max_output: Some(Tokens(20)),
        ..ask("hello")
    };
    let events: Vec<ChatEvent> = model
        .stream(call(), Arc::new(request))
        .map(Result::unwrap)
        .collect()
        .await;
    assert!(matches!(&events[0], ChatEvent::Started { provider, .. } if &**provider == "local"));
    let [
        ..,
        ChatEvent::Usage(usage),
        ChatEvent::Finished(FinishReason::Length),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    // Two turns: control token, role, line break, text ("hel" + "lo"), control token, break.
    let expected = (1 + "user\n".len() + 2 + 2) + (1 + "assistant\n".len());
    assert_eq!(usage.input, Tokens(expected as u64));
    assert_eq!(usage.output, Tokens(20));
    assert_eq!(model.counters().written, Tokens(20));
}

#[tokio::test]
async fn nothing_happens_before_the_stream_is_polled() {
    let model = babbler(LocalConfig::default());
    drop(model.stream(call(), Arc::new(long())));
    answer(&model, ask("hello")).await;
    assert_eq!(model.counters().abandoned, 0);
}

#[tokio::test]
async fn a_dropped_stream_stops_the_tokens_and_frees_the_thread() {
    let model = endless_babbler(LocalConfig::default());
    let mut stream = model.stream(call(), Arc::new(long()));
    started(&mut stream).await;
    drop(stream);
    answer(&model, ask("hello")).await;
    let counters = model.counters();
    assert_eq!((counters.abandoned, counters.finished), (1, 1));
    assert!(counters.written < ENDLESS, "{counters:?}");
}

#[tokio::test]
async fn a_full_line_sheds_and_a_late_call_is_not_sent() {
    let config = LocalConfig {
        waiting: 1,
        ..LocalConfig::default()
    };
    let model = endless_babbler(config);
    let mut first = model.stream(call(), Arc::new(long()));
    started(&mut first).await;
    let late = CallContext {
        deadline: Some(Instant::now()),
        ..call()
    };
    let mut second = model.stream(late, Arc::new(ask("hello")));
    let queued = second.next().await.unwrap().unwrap();
    assert!(matches!(queued, ChatEvent::Queued(place) if place.position == 1));
    let third = refusal(&model, ask("hello")).await;
    assert!(matches!(third, ChatError::Shed { retry_after } if retry_after > Duration::ZERO));
    drop(first);
    let late = ChatAnswer::collect(second).await.unwrap_err();
    assert!(matches!(late, ChatError::Shed { .. }), "{late}");
}

#[tokio::test]
async fn stop_texts_cut_the_answer_and_are_not_shown() {
    let model = babbler(LocalConfig::default());
    let whole = answer(&model, ask("hello")).await;
    let middle: Vec<char> = whole.text.chars().collect();
    let stop: String = middle[middle.len() / 2..].iter().take(3).collect();
    let cut = answer(
        &model,
        ChatRequest {
            stop: vec![stop.clone()],
            ..ask("hello")
        },
    )
    .await;
    assert_eq!(cut.finish, FinishReason::Stop);
    assert_eq!(whole.text.split(&stop).next(), Some(cut.text.as_str()));
}

#[tokio::test]
async fn the_cache_is_reused_and_changes_nothing() {
    let model = babbler(LocalConfig::default());
    let first = answer(&model, ask("hello there")).await;
    let again = answer(&model, ask("hello there")).await;
    assert_eq!(first.text, again.text);
    let usage = again.usage.unwrap();
    assert_eq!(usage.cached_input, usage.input - Tokens(1));
    let other = answer(&model, ask("something else")).await;
    let fresh = answer(&babbler(LocalConfig::default()), ask("something else")).await;
    assert_eq!(other.text, fresh.text);
    assert!(other.usage.unwrap().cached_input > Tokens(0));
}

#[tokio::test]
async fn seeds_repeat_and_temperatures_differ() {
    let model = babbler(LocalConfig::default());
    let draw = |seed| ChatRequest {
        temperature: Some(1.5),
        seed: Some(seed),
        ..ask("hello")
    };
    let first = answer(&model, draw(1)).await;
    assert_eq!(first.text, answer(&model, draw(1)).await.text);
    assert_ne!(first.text, answer(&model, draw(2)).await.text);
}

#[tokio::test]
async fn what_cannot_be_answered_is_rejected_with_the_reason() {
    let model = babbler(LocalConfig::default());
    let image = Part::Image {
        url: "data:,".into(),
        extra: serde_json::Map::new(),
    };
    for (request, reason) in [
        (
            ask(&"hello ".repeat(300)),
            "tokens and the local model's context holds 256",
        ),
        (ChatRequest::default(), "no message"),
        (
            ChatRequest::new([Message::user(Content::Parts(vec![image]))]),
            "text only",
        ),
        (
            ChatRequest {
                tool_choice: ToolChoice::Required,
                ..ask("hello")
            },
            "tool",
        ),
    ] {
        let error = refusal(&model, request).await;
        assert!(
            matches!(error, ChatError::Rejected { status: 400, .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(reason), "{error}");
    }
    // A full context ends the answer instead.
    let most = answer(&model, long()).await;
    assert_eq!(most.finish, FinishReason::Length);
    assert_eq!(most.usage.unwrap().total(), Tokens(256));
}

#[tokio::test]
async fn control_tokens_in_a_message_are_only_text() {
    let model = babbler(LocalConfig::default());
    let plain = answer(&model, ask("<|im_end|>")).await.usage.unwrap();
    // As a control token it would be one token, as text it is one for each byte.
    let bytes = "< |im_end|>".len() as u64;
    let frame = answer(&model, ask("")).await.usage.unwrap();
    assert_eq!(plain.input - frame.input, Tokens(bytes));
}
