//! Drives the public queue on paused time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lyceum_core::{Priority, Scope, SessionId, TenantId, Tokens, Usage, UserId};
use lyceum_queue::{
    Ask, Estimate, ObservedLimit, ObservedLimits, Queue, QueueConfig, Quotas, Refused, Reservation,
    WaitError,
};
use tokio::time::Instant;

fn scope(tenant: &str, session: &str) -> Scope {
    Scope {
        tenant: TenantId::new(tenant).unwrap(),
        ..Scope::local()
    }
    .with_session(SessionId::new(session).unwrap())
}

fn ask(tenant: &str, session: &str) -> Ask {
    Ask::new(scope(tenant, session), Estimate::new(100, 50))
}

fn usage(input: u64, output: u64) -> Usage {
    Usage {
        input: Tokens(input),
        output: Tokens(output),
        ..Usage::default()
    }
}

/// One call at a time, so that tests see the order.
fn one_at_a_time() -> Queue {
    let quotas = Quotas {
        concurrency: Some(1),
        ..Quotas::default()
    };
    Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    })
}

fn per_minute(requests: u64) -> Queue {
    let quotas = Quotas {
        requests: Some(requests),
        ..Quotas::default()
    };
    Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    })
}

async fn start(queue: &Queue) -> Reservation {
    queue.enqueue(ask("busy", "busy")).unwrap().await.unwrap()
}

/// Enqueues the asks and returns their indices in the order in which they are served.
async fn served(queue: &Queue, asks: Vec<Ask>) -> Vec<usize> {
    let busy = start(queue).await;
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    for (index, ask) in asks.into_iter().enumerate() {
        let waiter = queue.enqueue(ask).unwrap();
        let sender = sender.clone();
        tokio::spawn(async move {
            let reservation = waiter.await.unwrap();
            sender.send(index).unwrap();
            reservation.settle(usage(100, 50));
        });
    }
    drop(sender);
    tokio::task::yield_now().await;
    busy.refund();
    let mut order = Vec::new();
    while let Some(index) = receiver.recv().await {
        order.push(index);
    }
    order
}

#[tokio::test(start_paused = true)]
async fn a_higher_band_goes_first() {
    let at = |priority| Ask {
        priority,
        ..ask("t", "s")
    };
    let asks = vec![at(Priority::Low), at(Priority::Normal), at(Priority::High)];
    assert_eq!(served(&one_at_a_time(), asks).await, [2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn tenants_share_before_conversations_do() {
    let asks = vec![
        ask("a", "1"),
        ask("a", "1"),
        ask("a", "2"),
        ask("b", "1"),
        ask("b", "1"),
    ];
    assert_eq!(served(&one_at_a_time(), asks).await, [0, 3, 2, 4, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_critical_call_of_a_conversation_goes_first() {
    let critical = Ask {
        critical: 3,
        ..ask("a", "1")
    };
    let asks = vec![ask("a", "1"), ask("a", "1"), critical];
    assert_eq!(served(&one_at_a_time(), asks).await, [2, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_minutes_quota_and_no_longer() {
    let queue = per_minute(10);
    let begun = Instant::now();
    for _ in 0..11 {
        let waiter = queue.enqueue(ask("t", "s")).unwrap();
        waiter.await.unwrap().settle(usage(1, 1));
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(60), "{took:?}");
    assert!(took < Duration::from_secs(62), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_leaves_at_once() {
    let queue = one_at_a_time();
    let busy = start(&queue).await;
    let first = queue.enqueue(ask("t", "1")).unwrap();
    let second = queue.enqueue(ask("t", "2")).unwrap();
    assert_eq!(second.position().unwrap().position, 2);
    drop(first);
    assert_eq!(second.position().unwrap().position, 1);
    assert_eq!(queue.snapshot().waiting, 1);
    drop(busy);
    drop(second);
    let snapshot = queue.snapshot();
    assert_eq!((snapshot.waiting, snapshot.running), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_granted_but_unfetched_place_passes_to_the_next() {
    let queue = one_at_a_time();
    let busy = start(&queue).await;
    let first = queue.enqueue(ask("t", "1")).unwrap();
    let second = queue.enqueue(ask("t", "2")).unwrap();
    drop(busy);
    drop(first);
    assert!(second.now_or_never().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_start_before_its_deadline_is_refused_or_expires() {
    let queue = per_minute(2);
    drop((start(&queue).await, start(&queue).await));
    let soon = Some((Instant::now() + Duration::from_secs(5)).into_std());
    let refused = queue.enqueue(Ask {
        deadline: soon,
        ..ask("t", "s")
    });
    let Err(Refused::Deadline { estimated_wait, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        estimated_wait > Duration::from_secs(20),
        "{estimated_wait:?}"
    );

    let queue = one_at_a_time();
    let busy = start(&queue).await;
    let waiter = queue.enqueue(Ask {
        deadline: soon,
        ..ask("t", "s")
    });
    assert_eq!(waiter.unwrap().await.unwrap_err(), WaitError::Expired);
    assert_eq!(queue.snapshot().waiting, 0);
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_comes_at_once_is_told_the_wait_it_will_have() {
    let queue = per_minute(500);
    let comes = Instant::now();
    let crowd = (0..500).map(|n| {
        let mut ask = ask("school", &format!("{n}"));
        ask.deadline = Some((comes + Duration::from_secs(75)).into_std());
        queue.enqueue(ask).unwrap()
    });
    let crowd: Vec<_> = crowd.collect();
    let told = crowd
        .last()
        .unwrap()
        .position()
        .unwrap()
        .estimated_wait
        .unwrap();
    let all = crowd.into_iter().map(|waiter| async {
        waiter.await.unwrap().settle(usage(100, 50));
    });
    futures::future::join_all(all).await;
    let real = comes.elapsed().as_secs_f64();
    assert!((45.0..62.0).contains(&real), "{real}");
    assert!(
        (told.as_secs_f64() / real - 1.0).abs() < 0.2,
        "{told:?} instead of {real}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_cancelled_as_a_whole() {
    let queue = one_at_a_time();
    let busy = start(&queue).await;
    let gone: Vec<_> = (0..3)
        .map(|_| queue.enqueue(ask("t", "gone")).unwrap())
        .collect();
    let stays = queue.enqueue(ask("t", "stays")).unwrap();
    // Another user of the tenant may call a conversation the same.
    let mut namesake = ask("t", "gone");
    namesake.scope.user = UserId::new("another").unwrap();
    let namesake = queue.enqueue(namesake).unwrap();
    assert_eq!(queue.cancel_conversation(&ask("t", "gone").scope), 3);
    for waiter in gone {
        assert_eq!(waiter.await.unwrap_err(), WaitError::Cancelled);
    }
    drop(busy);
    drop(stays.await.unwrap());
    assert!(namesake.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_drop_keeps_the_estimate_and_a_settlement_corrects_it() {
    let quotas = Quotas {
        input_tokens: Some(1_000),
        output_tokens: Some(1_000),
        ..Quotas::default()
    };
    let queue = Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    });
    let used = |queue: &Queue| {
        let snapshot = queue.snapshot();
        let used = |quota: Option<lyceum_queue::QuotaUse>| quota.unwrap().used;
        (used(snapshot.input_tokens), used(snapshot.output_tokens))
    };
    let first = start(&queue).await;
    assert_eq!(used(&queue), (100, 50));
    first.settle(usage(70, 20));
    assert_eq!(used(&queue), (70, 20));
    start(&queue).await.refund();
    assert_eq!(used(&queue), (70, 20));
    drop(start(&queue).await);
    assert_eq!(used(&queue), (170, 70));
    let too_large = Ask::new(Scope::local(), Estimate::new(1_001, 1));
    let refused = queue.enqueue(too_large).unwrap_err();
    assert!(!refused.is_retryable(), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn updates_tell_every_change_and_end_with_the_waiting() {
    let queue = one_at_a_time();
    let busy = start(&queue).await;
    let first = queue.enqueue(ask("t", "1")).unwrap();
    let second = queue.enqueue(ask("t", "2")).unwrap();
    let mut updates = second.updates();
    assert_eq!(updates.next().await.unwrap().position, 2);
    drop(first);
    assert_eq!(updates.next().await.unwrap().position, 1);
    drop(busy);
    assert!(second.await.is_ok());
    assert_eq!(updates.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_upstream_pauses_and_loses_nothing() {
    let queue = per_minute(600);
    queue.throttled(Some(Duration::from_secs(7)));
    let begun = Instant::now();
    let waiter = queue.enqueue(ask("t", "s")).unwrap();
    drop(waiter.await.unwrap());
    assert_eq!(begun.elapsed(), Duration::from_secs(7));
    assert!((queue.snapshot().share - 0.85).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_with_a_time_to_return() {
    let queue = Queue::new(QueueConfig {
        quotas: Quotas {
            concurrency: Some(1),
            ..Quotas::default()
        },
        capacity: 1,
        ..QueueConfig::default()
    });
    let _busy = start(&queue).await;
    let _waiting = queue.enqueue(ask("t", "s")).unwrap();
    let refused = queue.enqueue(ask("t", "s")).unwrap_err();
    assert!(refused.retry_after().unwrap() >= Duration::from_secs(1));
}

fn observed(limit: u64, remaining: u64, reset: Duration) -> ObservedLimits {
    ObservedLimits {
        requests: ObservedLimit {
            limit: Some(limit),
            remaining: Some(remaining),
            reset: Some(reset),
        },
        ..ObservedLimits::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_learned_from_headers_paces_the_queue() {
    let queue = Queue::new(QueueConfig::default());
    queue.observe(&observed(10, 9, Duration::from_secs(6)));
    let begun = Instant::now();
    for _ in 0..11 {
        drop(start(&queue).await);
    }
    assert!(begun.elapsed() >= Duration::from_secs(60));
    assert_eq!(queue.snapshot().requests.unwrap().limit, 10);
}

#[tokio::test(start_paused = true)]
async fn a_days_limit_is_not_taken_for_a_minutes() {
    let queue = Queue::new(QueueConfig::default());
    // One of 200 used, whole again in a 200th of a day.
    queue.observe(&observed(200, 199, Duration::from_secs(432)));
    assert_eq!(queue.snapshot().requests, None);
}

#[tokio::test(start_paused = true)]
async fn what_others_use_under_the_same_key_counts() {
    let queue = per_minute(100);
    queue.observe(&observed(100, 0, Duration::from_secs(60)));
    let begun = Instant::now();
    drop(start(&queue).await);
    assert!(begun.elapsed() >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn without_a_quota_a_refusal_bounds_the_calls_at_one_time() {
    let queue = Queue::new(QueueConfig::default());
    let mut running = Vec::new();
    for _ in 0..10 {
        running.push(start(&queue).await);
    }
    queue.throttled(Some(Duration::from_secs(1)));
    assert_eq!(queue.snapshot().concurrency, Some(8));
    for reservation in running.drain(..6) {
        reservation.settle(usage(1, 1));
    }
    let begun = Instant::now();
    running.extend([
        start(&queue).await,
        start(&queue).await,
        start(&queue).await,
        start(&queue).await,
    ]);
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    let ninth = queue.enqueue(ask("t", "s")).unwrap();
    assert_eq!(ninth.position().unwrap().position, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_leaked_under_contention() {
    let quotas = Quotas {
        concurrency: Some(8),
        ..Quotas::default()
    };
    let queue = Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    });
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..2_000_u32 {
        let queue = queue.clone();
        tasks.spawn(async move {
            let waiter = queue.enqueue(ask("t", &(number % 50).to_string())).unwrap();
            match number % 5 {
                0 => drop(waiter),
                1 => drop(waiter.await.unwrap()),
                2 => waiter.await.unwrap().refund(),
                _ => {
                    let reservation = waiter.await.unwrap();
                    assert!(queue.snapshot().running <= 8);
                    tokio::task::yield_now().await;
                    reservation.settle(usage(1, 1));
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let snapshot = queue.snapshot();
    assert_eq!((snapshot.waiting, snapshot.running), (0, 0));
}

#[test]
fn a_queue_outlives_the_runtime_that_drove_it() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let first = runtime();
    let queue = first.block_on(async { per_minute(2) });
    let mut waiter = None;
    first.block_on(async {
        drop((start(&queue).await, start(&queue).await));
        let waiting = waiter.insert(queue.enqueue(ask("t", "s")).unwrap());
        assert!(waiting.now_or_never().is_none());
    });
    let second = runtime();
    let elsewhere = second.spawn(queue.enqueue(ask("t", "s")).unwrap());
    second.block_on(tokio::task::yield_now());
    drop(first);
    assert!(second.block_on(elsewhere).unwrap().is_ok());
    drop(waiter);
}

#[tokio::test(start_paused = true)]
async fn a_burst_waits_for_slots_and_not_for_the_quota() {
    let quotas = Quotas {
        requests: Some(8),
        concurrency: Some(1),
        ..Quotas::default()
    };
    let queue = Queue::new(QueueConfig {
        quotas,
        burst: 1.0,
        ..QueueConfig::default()
    });
    let first = start(&queue).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    first.settle(usage(1, 1));
    let _running = start(&queue).await;
    let waiting: Vec<_> = (0..4)
        .map(|_| queue.enqueue(ask("t", "s")).unwrap())
        .collect();
    let last = waiting[3].position().unwrap();
    let wait = last.estimated_wait.unwrap();
    // At the quota's even rate it would be 22 s.
    assert!((2..=6).contains(&wait.as_secs()), "{wait:?}");
}
