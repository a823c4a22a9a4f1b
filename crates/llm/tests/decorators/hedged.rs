//! A second attempt beside a slow first one.

use std::{sync::Arc, time::Duration};

use lyceum_core::{ChatEvent, Usage};
use lyceum_llm::{HedgeConfig, HedgeDelay, Hedged, Queued};
use lyceum_queue::Quotas;
use tokio::time::Instant;

use crate::{
    actor::{Actor, Do, SECOND, answer, ask, collect, events, queue, started, starts, text},
    down,
};

fn after(wait: Duration, then: Vec<Do>) -> Vec<Do> {
    std::iter::once(Do::Take(wait)).chain(then).collect()
}

fn hedged(first: &Actor, second: &Actor, config: HedgeConfig) -> Hedged {
    Hedged::new(Arc::new(first.clone()), Arc::new(second.clone()), config)
}

fn always(delay: Duration) -> HedgeConfig {
    HedgeConfig {
        delay: HedgeDelay::Fixed(delay),
        max_share: 1.0,
    }
}

#[tokio::test(start_paused = true)]
async fn the_quicker_of_two_answers_alone() {
    let slow = [vec![started()], after(10 * SECOND, answer("slow"))]
        .into_iter()
        .flatten();
    let first = Actor::new("a", [slow.collect::<Vec<_>>()]);
    let second = Actor::new("b", [after(SECOND, answer("quick"))]);
    let began = Instant::now();
    let (seen, error) = events(ask(&hedged(&first, &second, always(2 * SECOND)))).await;
    assert!(error.is_none());
    assert_eq!(began.elapsed(), 3 * SECOND);
    assert_eq!(starts(&seen), 1, "the loser leaves no trace");
    assert!(seen.contains(&ChatEvent::Text("quick".into())));
}

#[tokio::test(start_paused = true)]
async fn a_quick_call_and_a_failed_one_are_not_hedged() {
    let first = Actor::new("a", [answer("hi"), vec![Do::Fail(down())]]);
    let second = Actor::new("b", []);
    let model = hedged(&first, &second, always(SECOND));
    assert_eq!(collect(&model).await.unwrap().text, "hi");
    assert_eq!(collect(&model).await.unwrap_err().label(), "unavailable");
    assert_eq!(second.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_attempt_that_fails_leaves_the_other() {
    let first = Actor::new("a", [after(3 * SECOND, answer("first"))]);
    let second = Actor::new("b", [vec![Do::Fail(down())]]);
    let model = hedged(&first, &second, always(SECOND));
    assert_eq!(collect(&model).await.unwrap().text, "first");

    let first = Actor::new("a", [after(2 * SECOND, vec![Do::Fail(down())])]);
    let second = Actor::new("b", [after(3 * SECOND, answer("second"))]);
    let model = hedged(&first, &second, always(SECOND));
    assert_eq!(collect(&model).await.unwrap().text, "second");

    let fail = |wait| Actor::new("a", [after(wait, vec![Do::Fail(down())])]);
    let model = hedged(&fail(3 * SECOND), &fail(SECOND), always(SECOND));
    assert_eq!(collect(&model).await.unwrap_err().label(), "unavailable");
}

#[tokio::test(start_paused = true)]
async fn second_attempts_keep_their_share() {
    let slow = |_| after(10 * SECOND, answer("slow"));
    let first = Actor::new("a", (0..1_000).map(slow));
    let second = Actor::new("b", (0..1_000).map(slow));
    let config = HedgeConfig {
        delay: HedgeDelay::Fixed(SECOND),
        max_share: 0.05,
    };
    let model = hedged(&first, &second, config);
    let calls = (0..1_000).map(|_| collect(&model));
    futures_util::future::join_all(calls).await;
    for _ in 0..19 {
        // Not one more than the share allows, whatever was saved up.
        assert!(second.calls() * 20 <= first.calls(), "{}", second.calls());
        if first.calls() < 1_000 {
            break;
        }
    }
    assert!(second.calls() > 0);
}

#[tokio::test(start_paused = true)]
async fn the_delay_is_learned() {
    let quick = |_| after(SECOND, answer("quick"));
    let scripts = (0..40)
        .map(quick)
        .chain([after(60 * SECOND, answer("slow"))]);
    let first = Actor::new("a", scripts);
    let second = Actor::new("b", [answer("second")]);
    let model = hedged(&first, &second, HedgeConfig::default());
    for _ in 0..40 {
        collect(&model).await.unwrap();
    }
    assert_eq!(second.calls(), 0);
    let began = Instant::now();
    assert_eq!(collect(&model).await.unwrap().text, "second");
    assert_eq!(began.elapsed(), SECOND, "the 95th percentile");
}

#[tokio::test(start_paused = true)]
async fn the_losers_reservation_is_settled_and_its_place_is_free() {
    let quotas = Quotas {
        input_tokens: Some(100_000),
        concurrency: Some(1),
        ..Quotas::default()
    };
    let loser = queue(quotas);
    let first = Actor::new("a", [after(60 * SECOND, vec![text("late")])]);
    let second = Actor::new("b", [answer("hi")]);
    let model = Hedged::new(
        Arc::new(Queued::new(first, loser.clone())),
        Arc::new(second),
        always(SECOND),
    );
    let answer = collect(&model).await.unwrap();
    assert_ne!(answer.usage, Some(Usage::default()));
    let after = loser.snapshot();
    assert_eq!(after.running, 0, "the slot is free");
    assert!(
        after.input_tokens.unwrap().used > 0,
        "what may have been used counts"
    );
}
