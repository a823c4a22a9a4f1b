//! A real model answers: SmolLM2-135M-Instruct, small and silly.
//!
//! The assertions are such that a model of this size can meet them, greedily.

mod common;

use std::sync::{Arc, LazyLock};

use common::{answer, ask, call, open, real_model};
use futures::StreamExt;
use lyceum_core::{ChatEvent, ChatModel, ChatRequest, FinishReason, Message, Tokens};
use lyceum_llm_local::LocalModel;

static MODEL: LazyLock<LocalModel> = LazyLock::new(|| open(&real_model()));

/// A question whose answer an example has prepared: without one, this model's first two
/// choices are so close that the processor's rounding picks between them.
fn capital(country: &str) -> ChatRequest {
    let question = |country| Message::user(format!("What is the capital of {country}?"));
    ChatRequest {
        messages: vec![
            question("Germany"),
            Message::assistant("The capital of Germany is Berlin."),
            question(country),
        ],
        ..ask("")
    }
}

#[tokio::test]
async fn a_fact_streams_in_pieces_and_ends() {
    let request = Arc::new(capital("France"));
    let events: Vec<ChatEvent> = MODEL
        .stream(call(), request)
        .map(Result::unwrap)
        .collect()
        .await;
    let pieces: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            ChatEvent::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert!(pieces.len() > 3, "{pieces:?}");
    assert!(pieces.concat().contains("Paris"), "{pieces:?}");
    assert_eq!(
        events.last(),
        Some(&ChatEvent::Finished(FinishReason::Stop))
    );
}

#[tokio::test]
async fn greedy_answers_repeat_whatever_was_asked_between() {
    let question = || ask("Explain in one sentence why the sky is blue.");
    let first = answer(&MODEL, question()).await;
    assert!(first.text.len() > 20, "{:?}", first.text);
    answer(&MODEL, ask("Name a fruit.")).await;
    assert_eq!(answer(&MODEL, question()).await.text, first.text);
}

#[tokio::test]
async fn two_at_once_each_get_their_own_answer() {
    let (france, japan) = tokio::join!(
        answer(&MODEL, capital("France")),
        answer(&MODEL, capital("Japan")),
    );
    assert!(france.text.contains("Paris"), "{:?}", france.text);
    assert!(japan.text.contains("Tokyo"), "{:?}", japan.text);
}

/// On a model of its own, whose last conversation nobody else replaces.
#[tokio::test]
async fn a_conversation_goes_on_from_its_cached_prefix() {
    let model = open(&real_model());
    let opening = Message::user("Name three colours of the rainbow.");
    let of = |messages: Vec<Message>| ChatRequest {
        messages,
        ..ask("")
    };
    let first = answer(&model, of(vec![opening.clone()])).await;
    let read = first.usage.unwrap().input;
    let messages = vec![
        opening,
        first.into_message(),
        Message::user("Name three more."),
    ];
    let next = answer(&model, of(messages)).await;
    assert!(!next.text.is_empty());
    let usage = next.usage.unwrap();
    assert!(usage.cached_input > read, "{usage:?} after {read}");
}

#[tokio::test]
async fn limits_and_stop_texts_are_honoured() {
    let count = |request: ChatRequest| async { answer(&MODEL, request).await };
    let short = count(ChatRequest {
        max_output: Some(Tokens(5)),
        ..ask("Tell me a long story about a dragon.")
    })
    .await;
    assert_eq!(short.finish, FinishReason::Length);
    assert_eq!(short.usage.unwrap().output, Tokens(5));
    let stopped = count(ChatRequest {
        stop: vec!["Paris".into()],
        ..capital("France")
    })
    .await;
    assert_eq!(stopped.finish, FinishReason::Stop);
    assert!(
        stopped.text.starts_with("The capital of France is"),
        "{:?}",
        stopped.text
    );
    assert!(!stopped.text.contains("Paris"));
}

/// On a model of its own, so that its counters are.
#[tokio::test]
async fn dropped_streams_free_the_model_for_the_next() {
    let model = open(&real_model());
    // While it writes.
    let endless = ChatRequest {
        max_output: Some(Tokens(4000)),
        ..ask("Write a very long story about a dragon and a knight, with many chapters.")
    };
    let mut stream = model.stream(call(), Arc::new(endless));
    let mut pieces = 0;
    while pieces < 3 {
        if let ChatEvent::Text(_) = stream.next().await.unwrap().unwrap() {
            pieces += 1;
        }
    }
    drop(stream);
    // While it reads: thousands of tokens, of which it must not finish reading.
    let long = ask(&"The quick brown fox jumps over the lazy dog. ".repeat(600));
    let mut stream = model.stream(call(), Arc::new(long));
    while !matches!(
        stream.next().await.unwrap().unwrap(),
        ChatEvent::Started { .. }
    ) {}
    drop(stream);

    let answer = answer(&model, capital("France")).await;
    assert!(answer.text.contains("Paris"), "{:?}", answer.text);
    let counters = model.counters();
    assert_eq!((counters.abandoned, counters.finished), (2, 1));
    assert!(counters.read < Tokens(2000), "{counters:?}");
}
