//! One model behind several endpoints.

use std::sync::Arc;

use lyceum_core::{ChatError, ChatEvent, ChatModel};
use lyceum_llm::{Balanced, Breaking, Endpoint, Queued, Strategy};
use lyceum_queue::{BreakerConfig, BreakerState};
use tokio::time::Instant;

use crate::{
    actor::{Actor, Do, SECOND, answer, ask, collect, events, one_at_a_time, text},
    down,
};

fn endpoint(actor: &Actor) -> Endpoint {
    Endpoint::new(Arc::new(actor.clone()))
}

fn good(name: &'static str, calls: usize) -> Actor {
    Actor::new(name, (0..calls).map(|_| answer(name)))
}

fn refused_key() -> ChatError {
    ChatError::Authentication {
        status: 401,
        message: String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_spread_by_weight() {
    let (a, b) = (good("a", 100), good("b", 100));
    let heavy = Endpoint {
        weight: 3,
        ..endpoint(&a)
    };
    let model = Balanced::new(Strategy::Weighted, heavy, [endpoint(&b)]);
    for _ in 0..100 {
        collect(&model).await.unwrap();
    }
    assert_eq!((a.calls(), b.calls()), (75, 25));
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_gets_few_calls() {
    let slow = |_| {
        [vec![Do::Take(10 * SECOND)], answer("slow")]
            .into_iter()
            .flatten()
            .collect()
    };
    let quick = |_| {
        [vec![Do::Take(SECOND)], answer("quick")]
            .into_iter()
            .flatten()
            .collect()
    };
    let a = Actor::new("a", (0..200).map(slow));
    let b = Actor::new("b", (0..200).map(quick));
    let model = Balanced::new(Strategy::PeakEwma, endpoint(&a), [endpoint(&b)]);
    let calls = (0..200).map(|at| {
        let model = model.clone();
        async move {
            tokio::time::sleep(SECOND * at / 4).await;
            collect(&model).await.unwrap();
        }
    });
    futures_util::future::join_all(calls).await;
    assert!(b.calls() > 3 * a.calls(), "{} and {}", a.calls(), b.calls());
    assert!(a.calls() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_left_out_and_tried_again_later() {
    let scripts = [vec![Do::Fail(refused_key())], answer("a")];
    let (a, b) = (Actor::new("a", scripts), good("b", 10));
    let model = Balanced::new(Strategy::Weighted, endpoint(&a), [endpoint(&b)]);
    for _ in 0..5 {
        assert_eq!(collect(&model).await.unwrap().text, "b");
    }
    assert_eq!((a.calls(), b.calls()), (1, 5));
    tokio::time::advance(300 * SECOND).await;
    for _ in 0..2 {
        collect(&model).await.unwrap();
    }
    assert_eq!(a.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_left_out_and_the_last_error_is_said() {
    let a = Actor::new("a", (0..5).map(|_| vec![Do::Fail(down())]));
    let guarded = Breaking::new(a.clone(), "a", BreakerConfig::default());
    let circuit = guarded.circuit();
    for _ in 0..5 {
        assert!(collect(&guarded).await.is_err());
    }
    assert_eq!(circuit.state(), BreakerState::Open);
    let first = Endpoint {
        circuit: Some(circuit),
        ..Endpoint::new(Arc::new(guarded))
    };
    let b = good("b", 4);
    let model = Balanced::new(Strategy::Weighted, first.clone(), [endpoint(&b)]);
    for _ in 0..4 {
        assert_eq!(collect(&model).await.unwrap().text, "b");
    }
    assert_eq!(a.calls(), 5);
    let alone = Balanced::new(Strategy::Weighted, first, []);
    assert_eq!(collect(&alone).await.unwrap_err().label(), "breaker_open");
}

#[tokio::test(start_paused = true)]
async fn a_failure_goes_elsewhere_within_the_budget_and_never_after_content() {
    let a = Actor::new("a", (0..50).map(|_| vec![Do::Fail(down())]));
    let b = Actor::new("b", (0..100).map(|_| vec![Do::Fail(down())]));
    let model = Balanced::new(Strategy::Weighted, endpoint(&a), [endpoint(&b)]);
    for _ in 0..40 {
        assert_eq!(collect(&model).await.unwrap_err().label(), "unavailable");
    }
    let sent = a.calls() + b.calls();
    assert!((41..=49).contains(&sent), "{sent}");

    let a = Actor::new("a", [vec![text("half"), Do::Fail(down())]]);
    let b = good("b", 1);
    let model = Balanced::new(Strategy::Weighted, endpoint(&a), [endpoint(&b)]);
    let (seen, error) = events(ask(&model)).await;
    assert_eq!(seen, [ChatEvent::Text("half".into())]);
    assert!(error.is_some());
    assert_eq!(b.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_endpoint_has_its_own_queue() {
    let long = || {
        [vec![Do::Take(SECOND)], answer("hi")]
            .into_iter()
            .flatten()
            .collect()
    };
    let (a, b) = (
        Actor::new("a", [long(), long()]),
        Actor::new("b", [long(), long()]),
    );
    let queued = |actor: &Actor| -> Endpoint {
        let model: Arc<dyn ChatModel> = Arc::new(Queued::new(actor.clone(), one_at_a_time()));
        Endpoint::new(model)
    };
    let model = Balanced::new(Strategy::LeastBusy, queued(&a), [queued(&b)]);
    let began = Instant::now();
    let calls = (0..4).map(|_| collect(&model));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!((a.calls(), b.calls()), (2, 2));
    assert_eq!(began.elapsed(), 2 * SECOND);
}
