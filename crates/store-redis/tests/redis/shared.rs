//! Three queues share one quota through a real Redis server that is emptied, frozen and
//! killed in mid-use, against an upstream that counts exact sliding windows.
//!
//! The clock is real, so the window is short. Each queue has a runtime of its own: to
//! stop it in mid-work is what a killed process looks like from outside. How much can be
//! used in real time depends on the machine and on what else it does, so beside them three
//! others do the same work through a ledger in this process that nothing happens to, and
//! what these use is what the first ones are held to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lyceum_core::{Scope, Tokens, Usage};
use lyceum_queue::{
    Ask, Estimate, LedgerTerms, LocalLedger, OutputCounted, Queue, QueueConfig, QuotaLedger,
    Quotas, SharedConfig,
};
use lyceum_store_redis::RedisLedger;

use crate::support::Redis;
use tokio::{runtime::Runtime, time::sleep};

const WINDOW: Duration = Duration::from_secs(5);
const REQUESTS: u64 = 300;
const TOKENS: u64 = 60_000;
/// The least share of what the undisturbed ones use, where the server is there all the time,
/// where it is lost and found in between, and while it is lost.
const THERE: f64 = 0.85;
const BACK: f64 = 0.6;
const LOST: f64 = 0.6;

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
    fn start(
        ledger: Arc<dyn QuotaLedger>,
        upstream: &Upstream,
        number: usize,
        waiting: usize,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
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
        let queue = Queue::shared("model", config, ledger, sharing);
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

fn terms() -> LedgerTerms {
    LedgerTerms {
        window: WINDOW,
        jitter: Duration::from_millis(120),
        dead_after: Duration::from_secs(2),
        grace: Duration::from_millis(800),
        // Much at once: a server that forgets would let it through a second time.
        burst: 0.4,
    }
}

fn on(redis: &Redis) -> Arc<dyn QuotaLedger> {
    Arc::new(RedisLedger::new(redis.server(), "model", terms()))
}

/// Three replicas, and three that share a ledger in this process.
struct Both {
    replicas: Vec<Replica>,
    upstream: Upstream,
    _undisturbed: Vec<Replica>,
    control: Upstream,
}

impl Both {
    fn start(redis: &Redis) -> Self {
        let backlogs = || [200, 40, 40].into_iter().enumerate();
        let (upstream, control) = (Upstream::default(), Upstream::default());
        let local: Arc<dyn QuotaLedger> = Arc::new(LocalLedger::new(terms()));
        let replicas = backlogs()
            .map(|(number, waiting)| Replica::start(on(redis), &upstream, number, waiting));
        let undisturbed = backlogs()
            .map(|(number, waiting)| Replica::start(Arc::clone(&local), &control, number, waiting));
        Self {
            replicas: replicas.collect(),
            _undisturbed: undisturbed.collect(),
            upstream,
            control,
        }
    }

    /// What was seen between two times, which is at least this share of what could be.
    fn seen(&self, from: Instant, to: Instant, share: f64) -> Seen {
        let (seen, control) = (self.upstream.seen(from, to), self.control.seen(from, to));
        assert!(control.used > 0.0, "{control:?}");
        assert!(seen.used >= control.used * share, "{seen:?} of {control:?}");
        seen
    }
}

#[tokio::test]
async fn one_is_killed_and_comes_back_and_the_quota_is_used() {
    let redis = Redis::start();
    let mut both = Both::start(&redis);
    sleep(WINDOW).await;
    let from = Instant::now();
    sleep(WINDOW * 2).await;
    drop(both.replicas.pop());
    let killed = Instant::now();
    sleep(WINDOW).await;
    let again = Replica::start(on(&redis), &both.upstream, 3, 40);
    both.replicas.push(again);
    let back = Instant::now();
    sleep(WINDOW).await;
    let all = both.seen(from, Instant::now(), THERE);
    assert!(all.most <= 1.0, "{all:?}");
    let together = both.seen(from, killed, THERE).by_replica;
    let least = *together[..3].iter().min().unwrap() as f64;
    let most = *together[..3].iter().max().unwrap() as f64;
    // One has five times the others' backlog.
    assert!(least / most >= 0.4, "{together:?}");
    let again = both.seen(back, Instant::now(), BACK);
    assert!(again.by_replica[3] > 0, "{again:?}");
}

#[tokio::test]
async fn an_emptied_server_is_no_second_quota() {
    let redis = Redis::start();
    let both = Both::start(&redis);
    sleep(WINDOW).await;
    let from = Instant::now();
    assert!(redis.command("FLUSHALL").starts_with("+OK"));
    assert!(redis.command("SCRIPT FLUSH").starts_with("+OK"));
    sleep(WINDOW * 3).await;
    let seen = both.seen(from, Instant::now(), BACK);
    assert!(seen.most <= 1.0, "{seen:?}");
}

#[tokio::test]
async fn a_frozen_server_leaves_each_its_share() {
    let redis = Redis::start();
    let both = Both::start(&redis);
    sleep(WINDOW).await;
    let from = Instant::now();
    redis.signal("STOP");
    sleep(WINDOW * 2).await;
    both.seen(from, Instant::now(), LOST);
    redis.signal("CONT");
    sleep(WINDOW).await;
    let all = both.seen(from, Instant::now(), LOST);
    assert!(all.most <= 1.0, "{all:?}");
    let together = Instant::now();
    sleep(WINDOW).await;
    let together = both.seen(together, Instant::now(), THERE);
    assert!(together.most <= 1.0, "{together:?}");
}

#[tokio::test]
async fn a_killed_server_is_used_again_when_it_is_back() {
    let mut redis = Redis::start();
    let both = Both::start(&redis);
    sleep(WINDOW).await;
    let from = Instant::now();
    redis.kill();
    sleep(WINDOW).await;
    redis.start_again();
    sleep(WINDOW).await;
    let after = Instant::now();
    sleep(WINDOW).await;
    let all = both.seen(from, Instant::now(), LOST);
    assert!(all.most <= 1.0, "{all:?}");
    both.seen(after, Instant::now(), THERE);
    let known = redis.command("HLEN lyceum:quota:{model}:replicas");
    assert!(known.starts_with(":3"), "{known}");
}
