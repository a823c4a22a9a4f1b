//! Three queues share one quota through a real Redis server that is emptied, frozen and
//! killed in mid-use, against an upstream that counts exact sliding windows.
//!
//! The clock is real, so the window is short. Each queue has a runtime of its own: to
//! stop it in mid-work is what a killed process looks like from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lyceum_core::{Scope, Tokens, Usage};
use lyceum_queue::{
    Ask, Estimate, LedgerTerms, OutputCounted, Queue, QueueConfig, Quotas, SharedConfig,
};
use lyceum_store_redis::RedisLedger;

use crate::support::Redis;
use tokio::{runtime::Runtime, time::sleep};

const WINDOW: Duration = Duration::from_secs(5);
const REQUESTS: u64 = 300;
const TOKENS: u64 = 60_000;
/// The share of the quota that shows that work goes on. How much is used in real time
/// depends on the machine, so that is not judged here; that it is never too much is.
const ALIVE: f64 = 0.2;

/// What an upstream counted.
#[derive(Clone, Default)]
struct Upstream {
    counted: Arc<Mutex<Vec<(Instant, usize, u64)>>>,
}

/// What it saw between two times.
#[derive(Debug)]
struct Seen {
    /// The most of any window that ended then, as shares of the quotas.
    most: f64,
    /// The mean use of the scarcer quota.
    used: f64,
    by_replica: Vec<u64>,
}

impl Upstream {
    fn count(&self, replica: usize, tokens: u64) {
        let seen = (Instant::now(), replica, tokens);
        self.counted.lock().unwrap().push(seen);
    }

    fn seen(&self, from: Instant, to: Instant) -> Seen {
        let mut counted = self.counted.lock().unwrap().clone();
        counted.sort_unstable();
        let (mut most, mut first, mut sum) = (0.0_f64, 0, 0);
        let mut by_replica = vec![0; 4];
        for (at, (when, replica, amount)) in counted.iter().enumerate() {
            sum += amount;
            while counted[first].0 + WINDOW <= *when {
                sum -= counted[first].2;
                first += 1;
            }
            if (from..to).contains(when) {
                let calls = (at + 1 - first) as f64 / REQUESTS as f64;
                most = most.max(calls).max(sum as f64 / TOKENS as f64);
                by_replica[*replica] += amount;
            }
        }
        let allowed = TOKENS as f64 * (to - from).as_secs_f64() / WINDOW.as_secs_f64();
        Seen {
            most,
            used: by_replica.iter().sum::<u64>() as f64 / allowed,
            by_replica,
        }
    }
}

/// A process with a backlog that never ends.
struct Replica {
    runtime: Option<Runtime>,
}

impl Replica {
    fn start(redis: &Redis, upstream: &Upstream, number: usize, waiting: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let terms = LedgerTerms {
            window: WINDOW,
            jitter: Duration::from_millis(120),
            dead_after: Duration::from_secs(2),
            grace: Duration::from_millis(800),
            // Much at once: a server that forgets would let it through a second time.
            burst: 0.4,
        };
        let ledger = RedisLedger::new(redis.server(), "model", terms);
        let config = QueueConfig {
            quotas: Quotas {
                requests: Some(REQUESTS),
                tokens: Some(TOKENS),
                concurrency: Some(60),
                ..Quotas::default()
            },
            output_counted: OutputCounted::AtStart,
            learn_estimates: false,
            ..QueueConfig::default()
        };
        let _inside = runtime.enter();
        let sharing = SharedConfig::default();
        let queue = Queue::shared("model", config, Arc::new(ledger), sharing);
        for _ in 0..waiting {
            runtime.spawn(work(queue.clone(), upstream.clone(), number));
        }
        Self {
            runtime: Some(runtime),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn work(queue: Queue, upstream: Upstream, number: usize) {
    loop {
        let (input, output) = (100, rand::random_range(60..140));
        // The declared limit is above what is used.
        let ask = Ask::new(Scope::local(), Estimate::new(input, output + 20));
        let reservation = queue.enqueue(ask).unwrap().await.unwrap();
        upstream.count(number, input + output + 20);
        sleep(Duration::from_millis(rand::random_range(50..300))).await;
        reservation.settle(Usage {
            input: Tokens(input),
            output: Tokens(output + 20),
            ..Usage::default()
        });
    }
}

fn three(redis: &Redis, upstream: &Upstream) -> Vec<Replica> {
    let backlogs = [200, 40, 40].into_iter().enumerate();
    backlogs
        .map(|(number, waiting)| Replica::start(redis, upstream, number, waiting))
        .collect()
}

#[tokio::test]
async fn one_is_killed_and_comes_back_and_the_quota_is_used() {
    let (redis, upstream) = (Redis::start(), Upstream::default());
    let mut replicas = three(&redis, &upstream);
    sleep(WINDOW).await;
    let from = Instant::now();
    sleep(WINDOW * 2).await;
    drop(replicas.pop());
    let killed = Instant::now();
    sleep(WINDOW).await;
    replicas.push(Replica::start(&redis, &upstream, 3, 40));
    let back = Instant::now();
    sleep(WINDOW).await;
    let all = upstream.seen(from, Instant::now());
    assert!(all.most <= 1.0, "{all:?}");
    assert!(all.used >= ALIVE, "{all:?}");
    let together = upstream.seen(from, killed).by_replica;
    let least = *together[..3].iter().min().unwrap() as f64;
    let most = *together[..3].iter().max().unwrap() as f64;
    // One has five times the others' backlog.
    assert!(least / most >= 0.4, "{together:?}");
    let again = upstream.seen(back, Instant::now());
    assert!(again.by_replica[3] > 0, "{again:?}");
}

#[tokio::test]
async fn an_emptied_server_is_no_second_quota() {
    let (redis, upstream) = (Redis::start(), Upstream::default());
    let _replicas = three(&redis, &upstream);
    sleep(WINDOW).await;
    let from = Instant::now();
    assert!(redis.command("FLUSHALL").starts_with("+OK"));
    assert!(redis.command("SCRIPT FLUSH").starts_with("+OK"));
    sleep(WINDOW * 3).await;
    let seen = upstream.seen(from, Instant::now());
    assert!(seen.most <= 1.0, "{seen:?}");
    assert!(seen.used >= ALIVE, "{seen:?}");
}

#[tokio::test]
async fn a_frozen_server_leaves_each_its_share() {
    let (redis, upstream) = (Redis::start(), Upstream::default());
    let _replicas = three(&redis, &upstream);
    sleep(WINDOW).await;
    let from = Instant::now();
    redis.signal("STOP");
    sleep(WINDOW * 2).await;
    let frozen = upstream.seen(from, Instant::now());
    redis.signal("CONT");
    sleep(WINDOW).await;
    let all = upstream.seen(from, Instant::now());
    let together = Instant::now();
    sleep(WINDOW).await;
    let together = upstream.seen(together, Instant::now());
    assert!(frozen.used >= ALIVE, "{frozen:?}");
    assert!(all.most <= 1.0, "{all:?}");
    assert!(together.used >= ALIVE, "{together:?}");
    assert!(together.most <= 1.0, "{together:?}");
}

#[tokio::test]
async fn a_killed_server_is_used_again_when_it_is_back() {
    let (mut redis, upstream) = (Redis::start(), Upstream::default());
    let _replicas = three(&redis, &upstream);
    sleep(WINDOW).await;
    let from = Instant::now();
    redis.kill();
    sleep(WINDOW).await;
    redis.start_again();
    sleep(WINDOW).await;
    let after = Instant::now();
    sleep(WINDOW).await;
    let all = upstream.seen(from, Instant::now());
    assert!(all.most <= 1.0, "{all:?}");
    let after = upstream.seen(after, Instant::now());
    assert!(after.used >= ALIVE, "{after:?}");
    let known = redis.command("HLEN lyceum:quota:{model}:replicas");
    assert!(known.starts_with(":3"), "{known}");
}
