//! Several queues share one quota through a ledger that may be lost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lyceum_core::{Scope, Tokens, Usage};
use lyceum_queue::{
    Ask, Claim, Estimate, Join, LedgerError, LedgerTerms, LocalLedger, Note, OutputCounted, Queue,
    QueueConfig, QuotaLedger, Quotas, ReplicaId, SharedConfig, Standing, Verdict,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A ledger that can be out of reach: then it never answers.
#[derive(Debug)]
struct Lossy {
    ledger: LocalLedger,
    lost: AtomicBool,
    asked: AtomicU64,
}

impl Lossy {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            ledger: LocalLedger::new(LedgerTerms::default()),
            lost: AtomicBool::new(false),
            asked: AtomicU64::new(0),
        })
    }

    async fn reach(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.lost.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[async_trait]
impl QuotaLedger for Lossy {
    fn terms(&self) -> LedgerTerms {
        self.ledger.terms()
    }

    async fn reserve(&self, claim: &Claim) -> Result<Verdict, LedgerError> {
        self.reach().await;
        self.ledger.reserve(claim).await
    }

    async fn tell(&self, note: &Note) -> Result<(), LedgerError> {
        self.reach().await;
        self.ledger.tell(note).await
    }

    async fn beat(&self, replica: ReplicaId) -> Result<Option<Standing>, LedgerError> {
        self.reach().await;
        self.ledger.beat(replica).await
    }

    async fn join(&self, join: &Join) -> Result<Standing, LedgerError> {
        self.reach().await;
        self.ledger.join(join).await
    }
}

/// An upstream that remembers when it counted what.
#[derive(Clone, Default)]
struct Upstream {
    counted: Arc<Mutex<Vec<(Instant, usize, u64)>>>,
}

impl Upstream {
    async fn call(&self, replica: usize, tokens: u64) {
        let way = Duration::from_millis(rand::random_range(5..60));
        sleep(way).await;
        let seen = (Instant::now(), replica, tokens);
        self.counted.lock().unwrap().push(seen);
        sleep(Duration::from_millis(rand::random_range(200..2_000))).await;
    }

    /// The most calls and tokens in any window, and the tokens of each replica between
    /// two times.
    fn most(&self, from: Instant, to: Instant) -> (u64, u64, Vec<u64>) {
        let mut counted = self.counted.lock().unwrap().clone();
        counted.sort_unstable();
        let (mut calls, mut tokens, mut first, mut sum) = (0, 0, 0, 0);
        let mut by_replica = vec![0; 3];
        for (at, (when, replica, amount)) in counted.iter().enumerate() {
            sum += amount;
            while counted[first].0 + MINUTE <= *when {
                sum -= counted[first].2;
                first += 1;
            }
            calls = calls.max(at + 1 - first);
            tokens = tokens.max(sum);
            if (from..to).contains(when) {
                by_replica[*replica] += amount;
            }
        }
        (calls as u64, tokens, by_replica)
    }
}

fn config() -> QueueConfig {
    QueueConfig {
        quotas: Quotas {
            requests: Some(600),
            tokens: Some(120_000),
            ..Quotas::default()
        },
        output_counted: OutputCounted::AtStart,
        learn_estimates: false,
        ..QueueConfig::default()
    }
}

fn queue(ledger: &Arc<Lossy>) -> Queue {
    let sharing = SharedConfig::default();
    Queue::shared("test", config(), Arc::clone(ledger) as _, sharing)
}

/// Keeps `waiting` calls of `tokens` in the queue.
fn load(tasks: &mut JoinSet<()>, queue: &Queue, upstream: &Upstream, replica: usize, waiting: u32) {
    for _ in 0..waiting {
        let (queue, upstream) = (queue.clone(), upstream.clone());
        tasks.spawn(async move {
            loop {
                let (input, output) = (100, rand::random_range(50..150));
                let ask = Ask::new(Scope::local(), Estimate::new(input, output));
                let reservation = queue.enqueue(ask).unwrap().await.unwrap();
                upstream.call(replica, input + output).await;
                reservation.settle(Usage {
                    input: Tokens(input),
                    output: Tokens(output),
                    ..Usage::default()
                });
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn three_queues_use_the_whole_quota_and_never_more() {
    let (ledger, upstream) = (Lossy::new(), Upstream::default());
    let mut tasks = JoinSet::new();
    // One has ten times the others' backlog.
    let queues: Vec<Queue> = (0..3).map(|_| queue(&ledger)).collect();
    for (replica, waiting) in [300, 30, 30].into_iter().enumerate() {
        load(&mut tasks, &queues[replica], &upstream, replica, waiting);
    }
    let from = Instant::now() + MINUTE;
    sleep_until(from + 5 * MINUTE).await;
    let (calls, tokens, shares) = upstream.most(from, from + 5 * MINUTE);
    assert!(calls <= 600 && tokens <= 120_000, "{calls} {tokens}");
    let used = shares.iter().sum::<u64>() as f64 / (5.0 * 120_000.0);
    assert!(used >= 0.95, "{used}");
    let least = shares.iter().min().unwrap() * 3;
    assert!(least * 10 >= shares.iter().sum::<u64>() * 9, "{shares:?}");
    let grants = upstream.counted.lock().unwrap().len() as u64;
    let asked = ledger.asked.load(Ordering::Relaxed);
    assert!(asked <= 12 * grants, "{asked} questions for {grants} calls");
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_each_spends_its_share_and_comes_back_without_a_burst() {
    let (ledger, upstream) = (Lossy::new(), Upstream::default());
    let mut tasks = JoinSet::new();
    let queues: Vec<Queue> = (0..3).map(|_| queue(&ledger)).collect();
    for (replica, queue) in queues.iter().enumerate() {
        load(&mut tasks, queue, &upstream, replica, 30);
    }
    sleep(90 * SECOND).await;
    ledger.lost.store(true, Ordering::Relaxed);
    let lost = Instant::now();
    sleep(3 * MINUTE).await;
    ledger.lost.store(false, Ordering::Relaxed);
    let found = Instant::now();
    sleep(3 * MINUTE).await;
    let (calls, tokens, shares) = upstream.most(lost, found);
    assert!(calls <= 600 && tokens <= 120_000, "{calls} {tokens}");
    let used = shares.iter().sum::<u64>() as f64 / (3.0 * 120_000.0);
    assert!(used >= 0.8, "{used} alone");
    let (.., shares) = upstream.most(found + MINUTE, found + 3 * MINUTE);
    let used = shares.iter().sum::<u64>() as f64 / (2.0 * 120_000.0);
    assert!(used >= 0.95, "{used} together again");
}

#[tokio::test(start_paused = true)]
async fn an_emptied_ledger_is_no_second_quota() {
    let (ledger, upstream) = (Lossy::new(), Upstream::default());
    let mut tasks = JoinSet::new();
    let queues: Vec<Queue> = (0..3).map(|_| queue(&ledger)).collect();
    for (replica, queue) in queues.iter().enumerate() {
        load(&mut tasks, queue, &upstream, replica, 30);
    }
    sleep(90 * SECOND).await;
    ledger.ledger.forget();
    let from = Instant::now();
    sleep(3 * MINUTE).await;
    let (calls, tokens, shares) = upstream.most(from, from + 3 * MINUTE);
    assert!(calls <= 600 && tokens <= 120_000, "{calls} {tokens}");
    let used = shares.iter().sum::<u64>() as f64 / (3.0 * 120_000.0);
    assert!(used >= 0.9, "{used}");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_never_was_there_costs_a_tenth_of_a_second() {
    let ledger = Lossy::new();
    ledger.lost.store(true, Ordering::Relaxed);
    let queue = queue(&ledger);
    let ask = Ask::new(Scope::local(), Estimate::new(100, 100));
    let begin = Instant::now();
    let reservation = queue.enqueue(ask.clone()).unwrap().await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(200));
    reservation.refund();
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_one_is_a_pause_of_all() {
    let ledger = Lossy::new();
    let (one, other) = (queue(&ledger), queue(&ledger));
    let ask = || Ask::new(Scope::local(), Estimate::new(100, 100));
    for queue in [&one, &other] {
        queue.enqueue(ask()).unwrap().await.unwrap().refund();
    }
    one.throttled(Some(Duration::from_secs(7)));
    sleep(SECOND).await;
    let begin = Instant::now();
    other.enqueue(ask()).unwrap().await.unwrap().refund();
    assert!(begin.elapsed() >= Duration::from_millis(5_900));
    assert!(other.snapshot().share < 1.0, "the other shrinks too");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_leaves_while_the_ledger_is_asked_takes_nothing() {
    let ledger = Lossy::new();
    let queue = queue(&ledger);
    let ask = || Ask::new(Scope::local(), Estimate::new(60_000, 0));
    queue.enqueue(ask()).unwrap().await.unwrap().refund();
    for micros in (0..3_000).step_by(100) {
        let waiter = queue.enqueue(ask()).unwrap();
        let patience = Duration::from_micros(micros);
        if let Ok(granted) = tokio::time::timeout(patience, waiter).await {
            granted.unwrap().refund();
        }
    }
    sleep(SECOND).await;
    let standing = {
        let join = Join {
            replica: ReplicaId(9),
            seq: 1,
            epoch: None,
            fresh: Vec::new(),
            whole: Vec::new(),
            calls: Vec::new(),
        };
        ledger.ledger.join(&join).await.unwrap()
    };
    assert!(standing.spent.is_empty(), "{standing:?}");
}

const SECOND: Duration = Duration::from_secs(1);
