//! A circuit breaker around a provider.

use std::time::Duration;

use lyceum_core::{ChatAnswer, ChatError, ChatModel};
use lyceum_llm::{Breaking, RateLimits};
use lyceum_queue::{BreakerConfig, BreakerState};
use tokio::time::Instant;

use crate::{
    actor::{Actor, Do, SECOND, answer, ask, call, collect, hello, limited, text},
    down,
};
use futures_util::StreamExt;

fn breaking(actor: &Actor) -> Breaking {
    Breaking::new(actor.clone(), "main", BreakerConfig::default())
}

fn failures(times: usize) -> Vec<Vec<Do>> {
    (0..times).map(|_| vec![Do::Fail(down())]).collect()
}

#[tokio::test(start_paused = true)]
async fn five_failures_open_it_and_a_probe_closes_it() {
    let scripts = failures(5).into_iter().chain([answer("hi")]);
    let actor = Actor::new("a", scripts);
    let model = breaking(&actor);
    for _ in 0..5 {
        assert_eq!(collect(&model).await.unwrap_err().label(), "unavailable");
    }
    let refused = collect(&model).await.unwrap_err();
    assert_eq!(refused.label(), "breaker_open");
    assert_eq!(refused.retry_after(), Some(60 * SECOND));
    assert!(!refused.is_retryable());
    assert_eq!(actor.calls(), 5, "nothing was sent");
    assert_eq!(model.circuit().state(), BreakerState::Open);

    tokio::time::advance(60 * SECOND).await;
    assert_eq!(model.circuit().state(), BreakerState::HalfOpen);
    collect(&model).await.unwrap();
    assert_eq!(model.circuit().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_providers_fault_does_not_open_it() {
    let rejected = || ChatError::Rejected {
        status: 400,
        message: String::new(),
    };
    let conflict = || ChatError::Unavailable {
        status: 409,
        retry_after: None,
        message: String::new(),
    };
    let scripts = (0..6).flat_map(|_| {
        [
            vec![Do::Fail(rejected())],
            vec![Do::Fail(conflict())],
            limited(None),
            vec![Do::Hang],
            vec![text("x"), Do::Hang],
        ]
    });
    let model = breaking(&Actor::new("a", scripts));
    for _ in 0..6 {
        for _ in 0..3 {
            assert!(collect(&model).await.is_err());
        }
        // The caller leaves, before the content and after it.
        for _ in 0..2 {
            let left = tokio::time::timeout(SECOND, collect(&model)).await;
            assert!(left.is_err());
        }
    }
    assert_eq!(model.circuit().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn rate_limits_count_where_that_is_wanted() {
    let actor = Actor::new("a", (0..5).map(|_| limited(None)));
    let model = breaking(&actor).with_rate_limits(RateLimits::Counted);
    for _ in 0..5 {
        assert!(collect(&model).await.is_err());
    }
    assert_eq!(model.circuit().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_is_not_the_providers_fault() {
    let late = || {
        vec![
            Do::Take(2 * SECOND),
            Do::Fail(ChatError::Timeout {
                stage: lyceum_core::TimeoutStage::Total,
                after: SECOND,
            }),
        ]
    };
    let model = breaking(&Actor::new("a", (0..10).map(|_| late())));
    for deadline in [Some(SECOND), None] {
        for _ in 0..5 {
            let mut call = call();
            call.deadline = deadline.map(|after| (Instant::now() + after).into_std());
            let answer = ChatAnswer::collect(model.stream(call, hello())).await;
            assert_eq!(answer.unwrap_err().label(), "timeout");
        }
        let expected = match deadline {
            Some(_) => BreakerState::Closed,
            None => BreakerState::Open,
        };
        assert_eq!(model.circuit().state(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_break_open_it_and_lost_probes_are_replaced() {
    let broken = || vec![text("half"), Do::Fail(ChatError::Truncated)];
    let cut = || vec![text("half")];
    let scripts = [broken(), cut(), broken(), cut(), broken(), vec![Do::Hang]];
    let actor = Actor::new("a", scripts.into_iter().chain([answer("hi")]));
    let model = breaking(&actor);
    for _ in 0..5 {
        assert!(collect(&model).await.is_err());
    }
    assert_eq!(model.circuit().state(), BreakerState::Open);
    tokio::time::advance(60 * SECOND).await;
    let mut probe = ask(&model);
    let nothing = tokio::time::timeout(Duration::from_millis(1), probe.next()).await;
    assert!(nothing.is_err());
    assert_eq!(collect(&model).await.unwrap_err().label(), "breaker_open");
    drop(probe);
    collect(&model).await.unwrap();
    assert_eq!(model.circuit().state(), BreakerState::Closed);
}
