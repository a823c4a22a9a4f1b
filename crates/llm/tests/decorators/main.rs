//! Retrying, falling back, metering and the whole stack, over a model that does as it is
//! told, in paused time.

#[path = "../actor/mod.rs"]
mod actor;
mod balanced;
mod breaking;
mod cached;
mod hedged;
mod priced;
#[path = "../recorder/mod.rs"]
mod recorder;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actor::{
    Actor, Do, SECOND, answer, ask, call, collect, events, hello, limited, one_at_a_time, started,
    starts, text,
};
use futures_util::StreamExt;
use lyceum_core::{ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, MicroUsd, Origin};
use lyceum_llm::{Fallback, FixedAnswer, Metered, Queued, Retrying};
use lyceum_queue::RetryPolicy;
use recorder::Recorder;
use tokio::time::Instant;

fn down() -> ChatError {
    ChatError::Unavailable {
        status: 500,
        retry_after: None,
        message: "oops".into(),
    }
}

fn retrying(model: &Actor) -> Retrying {
    Retrying::new(model.clone(), RetryPolicy::default())
}

// === Retrying ===

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_leaves_no_trace() {
    let half = vec![started(), Do::Fail(down())];
    let actor = Actor::new("a", [half, answer("hi")]);
    let began = Instant::now();
    let (seen, error) = events(ask(&retrying(&actor))).await;
    assert!(error.is_none());
    assert_eq!(starts(&seen), 1);
    assert_eq!(actor.calls(), 2);
    assert!((2 * SECOND..=4 * SECOND).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_once_content_was_shown() {
    let broken = vec![started(), text("half"), Do::Fail(ChatError::Truncated)];
    let actor = Actor::new("a", [broken]);
    let (seen, error) = events(ask(&retrying(&actor))).await;
    assert_eq!(error.unwrap().label(), "truncated");
    assert!(seen.contains(&ChatEvent::Text("half".into())));
    assert_eq!(actor.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_and_final_errors_are_not_repeated() {
    let fail = || vec![Do::Fail(down())];
    let actor = Actor::new("a", [fail(), fail(), fail()]);
    let model = retrying(&actor);
    // The budget of a first call allows one retry; more are saved up by calls that succeed.
    assert_eq!(collect(&model).await.unwrap_err().label(), "unavailable");
    assert_eq!(actor.calls(), 2);

    let refused = ChatError::Rejected {
        status: 400,
        message: String::new(),
    };
    let actor = Actor::new("a", [vec![Do::Fail(refused)]]);
    assert!(collect(&retrying(&actor)).await.is_err());
    assert_eq!(actor.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_a_fifth_of_all_calls() {
    let actor = Actor::new("a", (0..2_000).map(|_| vec![Do::Fail(down())]));
    let policy = RetryPolicy {
        min: Duration::ZERO,
        max: Duration::ZERO,
        ..RetryPolicy::default()
    };
    let model = Retrying::new(actor.clone(), policy);
    for _ in 0..1_000 {
        assert!(collect(&model).await.is_err());
    }
    assert!(
        (1_195..=1_205).contains(&actor.calls()),
        "{}",
        actor.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn the_providers_wait_is_honoured_within_reason() {
    let actor = Actor::new("a", [limited(Some(107 * SECOND)), answer("hi")]);
    let began = Instant::now();
    collect(&retrying(&actor)).await.unwrap();
    assert!(began.elapsed() >= 107 * SECOND);

    let actor = Actor::new("a", [limited(Some(3_600 * SECOND))]);
    let began = Instant::now();
    let error = collect(&retrying(&actor)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(3_600 * SECOND));
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "the caller is told at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_bounds_how_long_the_providers_wait_is_honoured() {
    for (patience, sent) in [(400 * SECOND, 2), (299 * SECOND, 1)] {
        let actor = Actor::new("a", [limited(Some(300 * SECOND)), answer("hi")]);
        let mut call = call();
        call.deadline = Some((Instant::now() + patience).into_std());
        let answer = ChatAnswer::collect(retrying(&actor).stream(call, hello())).await;
        assert_eq!(answer.is_ok(), sent == 2);
        assert_eq!(actor.calls(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline() {
    let actor = Actor::new("a", [vec![Do::Fail(down())]]);
    let mut call = call();
    call.deadline = Some((Instant::now() + SECOND).into_std());
    let stream = retrying(&actor).stream(call, hello());
    assert!(ChatAnswer::collect(stream).await.is_err());
    assert_eq!(actor.calls(), 1);
}

// === Fallback ===

#[tokio::test(start_paused = true)]
async fn the_next_model_answers_under_its_own_name() {
    let first = Actor::new("a", [vec![started(), Do::Fail(down())]]);
    let second = Actor::new("b", [limited(None)]);
    let third = Actor::new("c", [answer("hi")]);
    let others: [Arc<dyn ChatModel>; 2] = [Arc::new(second), Arc::new(third.clone())];
    let model = Fallback::new(Arc::new(first.clone()), others);
    let request = ChatRequest {
        model: Some("a-large".into()),
        ..(*hello()).clone()
    };
    let answer = ChatAnswer::collect(model.stream(call(), Arc::new(request))).await;
    assert_eq!(answer.unwrap().text, "hi");
    assert_eq!(
        first.calls.lock().unwrap()[0].1.model.as_deref(),
        Some("a-large")
    );
    assert_eq!(third.calls.lock().unwrap()[0].1.model, None);
    assert_eq!(model.name(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_not_continued_by_another_model() {
    let first = Actor::new("a", [vec![text("half"), Do::Fail(down())]]);
    let second = Actor::new("b", [answer("hi")]);
    let model = Fallback::new(
        Arc::new(first),
        [Arc::new(second.clone()) as Arc<dyn ChatModel>],
    );
    let (seen, error) = events(ask(&model)).await;
    assert_eq!(seen, [ChatEvent::Text("half".into())]);
    assert_eq!(error.unwrap().label(), "unavailable");
    assert_eq!(second.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_models_error_is_the_chains() {
    let first = Actor::new("a", [vec![Do::Fail(down())]]);
    let second = Actor::new("b", [limited(None)]);
    let model = Fallback::new(Arc::new(first), [Arc::new(second) as Arc<dyn ChatModel>]);
    assert_eq!(collect(&model).await.unwrap_err().label(), "rate_limited");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_after_the_deadline() {
    let slow = vec![Do::Take(2 * SECOND), Do::Fail(down())];
    let second = Actor::new("b", []);
    let others = [Arc::new(second.clone()) as Arc<dyn ChatModel>];
    let model = Fallback::new(Arc::new(Actor::new("a", [slow])), others);
    let mut call = call();
    call.deadline = Some((Instant::now() + SECOND).into_std());
    let error = ChatAnswer::collect(model.stream(call, hello())).await;
    assert_eq!(error.unwrap_err().label(), "unavailable");
    assert_eq!(second.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_answer_is_marked_and_stands_for_outages_only() {
    let sorry = || FixedAnswer::new("Sorry, try again later.");
    let first = Actor::new("a", [vec![Do::Fail(down())]]);
    let second = Actor::new("b", [limited(None)]);
    let others = [Arc::new(second) as Arc<dyn ChatModel>];
    let model = Fallback::new(Arc::new(first), others).with_last_resort(sorry());
    let answer = collect(&model).await.unwrap();
    assert_eq!(answer.text, "Sorry, try again later.");
    assert_eq!(answer.origin, Some(Origin::Degraded));
    assert_eq!(answer.provider.as_deref(), Some("degraded"));

    let final_errors = [
        ChatError::Rejected {
            status: 400,
            message: String::new(),
        },
        ChatError::Shed {
            retry_after: SECOND,
        },
        ChatError::OverBudget {
            budget: "session",
            needed: MicroUsd(2),
            left: MicroUsd(1),
            retry_after: None,
        },
    ];
    for error in final_errors {
        let label = error.label();
        let first = Actor::new("a", [vec![Do::Fail(error)]]);
        let model = Fallback::new(Arc::new(first), []).with_last_resort(sorry());
        assert_eq!(collect(&model).await.unwrap_err().label(), label);
    }

    let broken = vec![text("half"), Do::Fail(down())];
    let model = Fallback::new(Arc::new(Actor::new("a", [broken])), []).with_last_resort(sorry());
    let (seen, error) = events(ask(&model)).await;
    assert_eq!(seen, [ChatEvent::Text("half".into())]);
    assert_eq!(error.unwrap().label(), "unavailable");
}

// === Metered, and all together ===

#[test]
fn every_end_of_a_call_is_counted_once() {
    let recorder = Recorder::default();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let scripts = [
                answer("hi"),
                vec![Do::Fail(down())],
                vec![text("x"), Do::Hang],
            ];
            let model = Metered::new(Actor::new("actor", scripts));
            collect(&model).await.unwrap();
            collect(&model).await.unwrap_err();
            let mut dropped = ask(&model);
            dropped.next().await;
            drop(dropped);
            drop(ask(&model));
        });
    });
    let expected = [
        ("llm_request_duration_seconds{provider=actor}", 3.0),
        ("llm_requests_total{provider=actor,status=cancelled}", 1.0),
        ("llm_requests_total{provider=actor,status=ok}", 1.0),
        ("llm_requests_total{provider=actor,status=unavailable}", 1.0),
        ("llm_time_to_first_token_seconds{provider=actor}", 2.0),
        ("llm_tokens_total{provider=actor,kind=input}", 10.0),
        ("llm_tokens_total{provider=actor,kind=output}", 5.0),
    ];
    let (by_convention, own): (BTreeMap<String, f64>, BTreeMap<String, f64>) = recorder
        .seen()
        .into_iter()
        .partition(|(name, _)| name.starts_with("gen_ai_"));
    assert_eq!(
        own,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
    let count = |metric: &str, label: &str| -> f64 {
        let is_meant = |name: &str| {
            name.starts_with(&format!("gen_ai_client_{metric}{{")) && name.contains(label)
        };
        let found = by_convention.iter().filter(|(name, _)| is_meant(name));
        found.map(|(_, value)| value).sum()
    };
    for (metric, label, times) in [
        (
            "operation_duration_seconds",
            "gen_ai_provider_name=actor",
            3.0,
        ),
        ("operation_duration_seconds", "error_type=}", 1.0),
        ("operation_duration_seconds", "error_type=unavailable", 1.0),
        ("operation_duration_seconds", "error_type=cancelled", 1.0),
        (
            "operation_time_to_first_chunk_seconds",
            "gen_ai_operation_name=chat",
            2.0,
        ),
        ("token_usage", "gen_ai_token_type=input", 1.0),
        ("token_usage", "gen_ai_token_type=output", 1.0),
    ] {
        assert_eq!(
            count(metric, label),
            times,
            "{metric} {label}: {by_convention:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_whole_stack_waits_retries_and_falls_back() {
    let first = Actor::new(
        "a",
        [
            limited(Some(SECOND)),
            vec![started(), Do::Fail(down())],
            vec![Do::Fail(down())],
        ],
    );
    let second = Actor::new("b", [answer("hi")]);
    let main = retrying_over(Queued::new(first.clone(), one_at_a_time()));
    let other = retrying_over(Queued::new(second, one_at_a_time()));
    let model = Metered::new(Fallback::new(main, [other]));
    let (seen, error) = events(ask(&model)).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(first.calls(), 3);
    let kinds: Vec<&str> = seen
        .iter()
        .map(|event| match event {
            ChatEvent::Queued(_) => "queued",
            ChatEvent::Started { .. } => "started",
            ChatEvent::Text(_) => "text",
            ChatEvent::Usage(_) => "usage",
            ChatEvent::Finished(_) => "finished",
            other => panic!("{other:?}"),
        })
        .filter(|kind| *kind != "queued")
        .collect();
    assert_eq!(kinds, ["started", "text", "usage", "finished"]);
}

fn retrying_over(model: Queued) -> Arc<dyn ChatModel> {
    Arc::new(Retrying::new(model, RetryPolicy::default()))
}
