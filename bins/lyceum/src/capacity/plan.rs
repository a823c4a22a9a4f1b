//! From people to keys, replicas, database load and money.
//!
//! The queue of production is run in virtual time; the rest is arithmetic on measured costs.
//! Invariant: a figure that was not measured here is an argument of the command or said to be
//! assumed.

use std::time::Duration;

use lyceum_core::{Tokens, Usage};
use lyceum_llm::{PicoUsd, Price};
use lyceum_queue::{
    QueueConfig, Quotas,
    simulation::{Outcome, People, serve},
};
use serde::Serialize;

use super::measured::Measured;

/// How much of what is simulated is not counted, and how much is.
const WARM_UP: Duration = Duration::from_secs(120);
const LENGTH: Duration = Duration::from_secs(300);

/// More people than these are divided into equal parts, each with keys of its own, of which one
/// is simulated.
const MOST_SIMULATED: u32 = 500;

/// The most keys of one part that are tried.
const MOST_KEYS: u32 = 4_096;

/// The targets: seconds, shares of all answers, calls, shares of what there is.
const AVERAGE: f64 = 30.0;
const P95: f64 = 60.0;
const P99: f64 = 90.0;
const FAILED: f64 = 0.005;
const WAITING: f64 = 50.0;
const CPU: f64 = 0.7;
const MEMORY: f64 = 0.8;
const POOL: f64 = 0.8;

/// Streams that one replica has open at most by default.
const STREAMS: f64 = 1_000.0;

/// Connections of a replica's pool to the database.
const CONNECTIONS: f64 = 100.0;

/// What is to be planned.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub people: u32,
    /// Of one part.
    pub load: People,
    pub quotas: Quotas,
    /// As many as are needed, where it is not given.
    pub keys: Option<u32>,
    pub cores: f64,
    pub memory_bytes: f64,
    pub hours: f64,
    pub days: f64,
}

/// One limit and where the plan stands.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Target {
    pub name: &'static str,
    pub value: f64,
    pub below: f64,
    pub unit: &'static str,
}

impl Target {
    pub(super) fn is_met(&self) -> bool {
        self.value < self.below
    }
}

/// The plan.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Plan {
    pub people: u32,
    /// Equal parts of which one was simulated.
    pub parts: u32,
    pub keys: u32,
    /// Whether with one key less in each part a target is missed; false where the keys were given.
    pub fewest: bool,
    pub calls_per_minute: f64,
    pub answers_per_minute: f64,
    pub under_way: f64,
    pub quota_used: f64,
    pub beyond_quota: u64,
    pub call_wait_p50_seconds: f64,
    pub call_wait_p99_seconds: f64,
    pub targets: Vec<Target>,
    pub replicas: u32,
    /// People that one replica carries by its CPU, its memory, and its limit of streams.
    pub people_per_replica: [f64; 3],
    pub server_cores: f64,
    pub memory_bytes_per_replica: f64,
    pub database_transactions_per_second: f64,
    pub database_cores: f64,
    pub database_bytes_per_month: f64,
    pub input_tokens_per_answer: f64,
    pub output_tokens_per_answer: f64,
    pub answers_per_month: f64,
}

impl Plan {
    pub(super) fn holds(&self) -> bool {
        self.targets.iter().all(Target::is_met)
    }

    /// What an hour of this load costs at a model's price, and a month.
    pub(super) fn costs(&self, wanted: &Wanted, price: &Price) -> [f64; 2] {
        let usage = Usage {
            input: Tokens(wanted.load.input),
            output: Tokens(wanted.load.output),
            ..Usage::default()
        };
        let PicoUsd(call) = price.cost(&usage);
        let hour = call as f64 / 1e12 * self.calls_per_minute * 60.0;
        [hour, hour * wanted.hours * wanted.days]
    }
}

/// Equal parts into which so many people are divided.
pub(super) fn parts(people: u32) -> u32 {
    people.div_ceil(MOST_SIMULATED).max(1)
}

/// Simulates and plans. Keys that are given are as many in each part.
pub(super) fn plan(wanted: &Wanted, measured: &Measured) -> Plan {
    let parts = parts(wanted.people);
    let people = wanted.people.div_ceil(parts).max(1);
    let run = |keys: u32| {
        let load = People {
            people,
            endpoints: keys,
            ..wanted.load.clone()
        };
        let config = QueueConfig {
            quotas: wanted.quotas,
            ..QueueConfig::default()
        };
        serve(config, &load, WARM_UP, LENGTH)
    };
    let (keys, outcome, fewest) = match wanted.keys {
        Some(keys) => {
            let keys = (keys / parts).max(1);
            (keys, run(keys), false)
        }
        None => fewest(run, wanted.load.patience),
    };
    of(wanted, measured, parts, keys, &outcome, fewest)
}

/// The fewest keys with which people get their answers as they should.
fn fewest(run: impl Fn(u32) -> Outcome, patience: Duration) -> (u32, Outcome, bool) {
    let good = |outcome: &Outcome| answers(outcome, patience).iter().all(Target::is_met);
    let (mut too_few, mut enough) = (0, 1);
    let mut outcome = run(enough);
    while !good(&outcome) {
        if enough >= MOST_KEYS {
            return (enough, outcome, false);
        }
        too_few = enough;
        enough *= 2;
        outcome = run(enough);
    }
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        let tried = run(middle);
        if good(&tried) {
            (enough, outcome) = (middle, tried);
        } else {
            too_few = middle;
        }
    }
    (enough, outcome, true)
}

/// The targets that keys decide.
fn answers(outcome: &Outcome, patience: Duration) -> Vec<Target> {
    let target = |name, value, below, unit| Target {
        name,
        value,
        below,
        unit,
    };
    let all = (outcome.answers + outcome.failed).max(1) as f64;
    // Who got no answer has waited that long at least.
    let time = |time: Duration| match outcome.answers {
        0 => patience.as_secs_f64(),
        _ => time.as_secs_f64(),
    };
    vec![
        target("average response", time(outcome.average), AVERAGE, "s"),
        target("p95", time(outcome.p95), P95, "s"),
        target("p99", time(outcome.p99), P99, "s"),
        target("timed out", outcome.failed as f64 / all, FAILED, "%"),
        target("calls that wait", outcome.waiting, WAITING, ""),
    ]
}

fn of(
    wanted: &Wanted,
    measured: &Measured,
    parts: u32,
    keys: u32,
    outcome: &Outcome,
    fewest: bool,
) -> Plan {
    let times = f64::from(parts);
    let answers_per_minute = outcome.answers_per_minute * times;
    let calls_per_minute = outcome.calls_per_minute * times;
    let calls = match outcome.answers {
        0 => 0.0,
        _ => outcome.calls_per_minute / outcome.answers_per_minute,
    };
    let under_way = outcome.under_way * times;
    // The calls of discussions, and the turn that keeps an answer.
    let call_us = measured.discussion.cpu_us / measured.discussion.model_calls.max(1.0);
    let cpu_us = calls_per_minute * call_us + answers_per_minute * measured.turn.cpu_us;
    let server_cores = cpu_us / 60e6;
    let memory = |replicas: f64| {
        measured.server.idle_bytes + under_way / replicas * measured.server.stream_bytes
    };
    let room = (wanted.memory_bytes * MEMORY - measured.server.idle_bytes).max(1.0);
    let needed = [
        server_cores / (wanted.cores * CPU),
        under_way * measured.server.stream_bytes / room,
        under_way / STREAMS,
    ];
    let people_per_replica = needed.map(|replicas| f64::from(wanted.people) / replicas.max(1e-9));
    let needed = needed.into_iter().fold(0.0, f64::max).ceil().max(1.0);
    // One may be gone, as in a rolling restart; fewer than three are no cluster.
    let replicas = (needed + 1.0).max(3.0);
    let transactions = answers_per_minute / 60.0 * measured.postgres.transactions;
    let held = answers_per_minute / 60.0 * measured.postgres.latency_ms / 1e3;
    let mut targets = answers(outcome, wanted.load.patience);
    for target in &mut targets {
        if target.unit.is_empty() {
            target.name = "calls that wait, in a part";
        }
    }
    for (name, value, below) in [
        (
            "CPU of a replica",
            server_cores / (replicas * wanted.cores),
            CPU,
        ),
        (
            "memory of a replica",
            memory(replicas) / wanted.memory_bytes,
            MEMORY,
        ),
        (
            "connections of a pool",
            held / (replicas * CONNECTIONS),
            POOL,
        ),
    ] {
        targets.push(Target {
            name,
            value,
            below,
            unit: "%",
        });
    }
    let answers_per_month = answers_per_minute * 60.0 * wanted.hours * wanted.days;
    Plan {
        people: wanted.people,
        parts,
        keys: keys.saturating_mul(parts),
        fewest,
        calls_per_minute,
        answers_per_minute,
        under_way,
        quota_used: outcome.quota_used,
        beyond_quota: outcome.violations,
        call_wait_p50_seconds: outcome.wait_p50.as_secs_f64(),
        call_wait_p99_seconds: outcome.wait_p99.as_secs_f64(),
        targets,
        replicas: replicas as u32,
        people_per_replica,
        server_cores,
        memory_bytes_per_replica: memory(replicas),
        database_transactions_per_second: transactions,
        database_cores: answers_per_minute / 60.0 * measured.postgres.cpu_us / 1e6,
        database_bytes_per_month: answers_per_month * measured.postgres.bytes,
        input_tokens_per_answer: calls * wanted.load.input as f64,
        output_tokens_per_answer: calls * wanted.load.output as f64,
        answers_per_month,
    }
}
