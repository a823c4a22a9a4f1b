//! A model behind a queue, in paused time.

mod actor;

use actor::{
    Actor, Do, SECOND, answer, ask, collect, events, hello, limited, one_at_a_time, queue, started,
    starts, text, used,
};
use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, FinishReason, Scope, SessionId,
};
use lyceum_llm::{Queued, Retrying, SharedRetryBudget};
use lyceum_queue::{Queue, QueueConfig, Quotas, RetryPolicy};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_waiting_call_says_where_it_stands() {
    let actor = Actor::new("a", [vec![text("slow"), Do::Hang], answer("hi")]);
    let queue = one_at_a_time();
    let model = Queued::new(actor.clone(), queue.clone());
    let mut first = ask(&model);
    assert_eq!(
        first.next().await.unwrap().unwrap(),
        ChatEvent::Text("slow".into())
    );

    let mut second = ask(&model);
    let Some(Ok(ChatEvent::Queued(place))) = second.next().await else {
        panic!("it waits");
    };
    assert_eq!((place.position, actor.calls()), (1, 1));
    drop(first);
    let answer = ChatAnswer::collect(second).await.unwrap();
    assert_eq!((answer.text.as_str(), queue.snapshot().running), ("hi", 0));
}

#[tokio::test(start_paused = true)]
async fn usage_settles_the_reservation_and_a_drop_does_not() {
    let quotas = Quotas {
        tokens: Some(100_000),
        ..Quotas::default()
    };
    let used_after = async |script: Vec<Do>| {
        let queue = queue(quotas);
        let model = Queued::new(Actor::new("a", [script]), queue.clone());
        let mut stream = ask(&model);
        while let Some(Ok(event)) = stream.next().await {
            if matches!(event, ChatEvent::Finished(_) | ChatEvent::Text(_)) {
                break;
            }
        }
        drop(stream);
        queue.snapshot().tokens.unwrap().used
    };
    let usage = || Do::Say(ChatEvent::Usage(used()));
    let finished = || Do::Say(ChatEvent::Finished(FinishReason::Stop));
    assert_eq!(used_after(vec![usage(), finished()]).await, 15);
    let reserved = used_after(vec![finished()]).await;
    assert!(reserved > 1_000, "nobody knows what was used: {reserved}");
    let seen = used_after(vec![usage(), text("x"), Do::Hang]).await;
    assert_eq!(seen, reserved + 2, "10 input tokens were seen, 8 reserved");
    let unreachable = ChatError::Connect {
        provider: "a".into(),
        source: "refused".into(),
    };
    assert_eq!(used_after(vec![Do::Fail(unreachable)]).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_gives_its_tokens_back() {
    let quotas = Quotas {
        tokens: Some(100_000),
        ..Quotas::default()
    };
    let queue = queue(quotas);
    let served = vec![
        Do::Say(ChatEvent::Usage(used())),
        Do::Say(ChatEvent::Finished(FinishReason::Stop)),
    ];
    let refused = limited(Some(SECOND));
    let model = Queued::new(Actor::new("a", [refused, served]), queue.clone());
    ChatAnswer::collect(ask(&model)).await.unwrap();
    // The provider did nothing for the first attempt.
    assert_eq!(queue.snapshot().tokens.unwrap().used, 15);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_rate_waits_instead_of_failing() {
    let busy = vec![Do::Fail(ChatError::Unavailable {
        status: 529,
        retry_after: None,
        message: String::new(),
    })];
    let busy = [vec![started(), Do::Say(ChatEvent::Usage(used()))], busy];
    let busy = busy.into_iter().flatten().collect();
    let actor = Actor::new("a", [limited(Some(7 * SECOND)), busy, answer("hi")]);
    let model = Queued::new(actor.clone(), one_at_a_time());
    let began = Instant::now();
    let (seen, error) = events(ask(&model)).await;
    assert!(error.is_none(), "{error:?}");
    assert!(
        began.elapsed() >= 9 * SECOND,
        "7 s as told and 2 s by default"
    );
    assert!(matches!(seen[0], ChatEvent::Queued(_)), "the wait is shown");
    assert_eq!(starts(&seen), 1, "of the refused call nothing is shown");
    assert_eq!(actor.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_the_others_back_too() {
    let mut refusal = limited(Some(7 * SECOND));
    refusal.insert(0, Do::Take(SECOND));
    let actor = Actor::new("a", [refusal, answer("1"), answer("2")]);
    let model = Queued::new(actor.clone(), one_at_a_time());
    let began = Instant::now();
    let (first, second) = tokio::join!(collect(&model), collect(&model));
    first.unwrap();
    second.unwrap();
    let calls = actor.calls.lock().unwrap();
    let waits: Vec<_> = calls.iter().map(|call| call.0 - began).collect();
    assert_eq!(waits.len(), 3);
    assert!(waits[1] >= 8 * SECOND, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_always_refuses_fails_in_the_end() {
    let actor = Actor::new("a", (0..10).map(|_| limited(None)));
    let model = Queued::new(actor.clone(), one_at_a_time());
    assert_eq!(collect(&model).await.unwrap_err().label(), "rate_limited");
    assert_eq!(actor.calls(), 6);
}

/// A model with one budget for the queue's returns and for retries.
fn budgeted(actor: &Actor) -> Retrying {
    let budget = SharedRetryBudget::default();
    let quotas = Quotas {
        concurrency: Some(100),
        ..Quotas::default()
    };
    let queued = Queued::new(actor.clone(), queue(quotas)).with_budget(budget.clone());
    Retrying::new(queued, RetryPolicy::default()).with_shared_budget(budget)
}

#[tokio::test(start_paused = true)]
async fn calls_taken_back_stay_a_fifth_of_all_calls() {
    let actor = Actor::new("a", (0..4_000).map(|_| limited(Some(SECOND))));
    let model = budgeted(&actor);
    let (calls, began) = (300, Instant::now());
    for _ in 0..calls {
        assert_eq!(collect(&model).await.unwrap_err().label(), "rate_limited");
    }
    // The debt, what was there at first, and one every ten seconds.
    let spare = 51 + began.elapsed().as_secs() as usize / 10;
    assert!(
        actor.calls() <= calls * 12 / 10 + spare,
        "{} of {spare}",
        actor.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_is_refused_once_is_not_lost() {
    let refused = (0..50).map(|_| {
        let mut script = limited(Some(SECOND));
        script.insert(0, Do::Take(SECOND));
        script
    });
    let actor = Actor::new("a", refused.chain((0..50).map(|_| answer("hi"))));
    let model = budgeted(&actor);
    let burst = (0..50).map(|_| collect(&model));
    for answer in futures_util::future::join_all(burst).await {
        assert_eq!(answer.unwrap().text, "hi");
    }
    assert_eq!(actor.calls(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_very_long_wait_is_told_instead_of_waited() {
    let queue = one_at_a_time();
    let model = Queued::new(
        Actor::new("a", [limited(Some(3_600 * SECOND))]),
        queue.clone(),
    );
    let error = collect(&model).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(3_600 * SECOND));
    assert_eq!(queue.snapshot().paused, Some(900 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_refuses_is_told_apart() {
    let quotas = Quotas {
        tokens: Some(100),
        ..Quotas::default()
    };
    let model = Queued::new(Actor::new("a", []), queue(quotas));
    let error = collect(&model).await.unwrap_err();
    assert_eq!(error.label(), "rejected", "no wait makes it fit");

    let full = Queue::new(QueueConfig {
        capacity: 0,
        quotas: Quotas {
            concurrency: Some(1),
            ..Quotas::default()
        },
        ..QueueConfig::default()
    });
    let model = Queued::new(Actor::new("a", [vec![text("x"), Do::Hang]]), full);
    let mut first = ask(&model);
    first.next().await;
    let error = collect(&model).await.unwrap_err();
    assert_eq!(error.label(), "shed");
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_conversation_ends_its_waiting_calls() {
    let queue = one_at_a_time();
    let actor = Actor::new("a", [vec![text("x"), Do::Hang]]);
    let model = Queued::new(actor.clone(), queue.clone());
    let mut first = ask(&model);
    first.next().await;
    let session = SessionId::new("s").unwrap();
    let scope = Scope::local().with_session(session);
    let mut second = model.stream(CallContext::new(scope.clone()), hello());
    second.next().await;
    assert_eq!(queue.cancel_conversation(&scope), 1);
    assert_eq!(
        ChatAnswer::collect(second).await.unwrap_err().label(),
        "cancelled"
    );
    assert_eq!(actor.calls(), 1);
}
