//! More than a quota is asked for in real time, over loopback, of a provider that counts
//! exact sliding minutes: by one process, and by three that share the quota through a
//! Redis of their own while one of them is killed and started again.
//!
//! All cases run at one time: each has a provider of its own, and together they are some
//! two hundred calls a second. Half of the figures are the provider's own.

mod caller;
mod processes;

use std::time::Duration;

use anyhow::{Result, ensure};
use lyceum_sim::{
    SimConfig, Simulator, Stats,
    quota::{Accounting, Quotas},
};
use tokio::time::Instant;

pub use caller::run as call;
use caller::{Orders, Tally};
use processes::{Child, Redis};

use crate::{
    Options,
    report::{Figures, say},
};

/// A provider, and how much more than its quota is asked for.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    anthropic: bool,
    accounting: Accounting,
    /// A minute's requests, tokens, input tokens, output tokens.
    quotas: [Option<u64>; 4],
    /// Calls a minute that the quota allows.
    calls: f64,
    overload: f64,
    shared: bool,
}

fn cases(quick: bool) -> Vec<Case> {
    let kinds = [
        (
            "requests",
            false,
            Accounting::Actual,
            [Some(500), None, None, None],
            500.0,
        ),
        (
            "tokens at start",
            false,
            Accounting::Actual,
            [None, Some(300_000), None, None],
            500.0,
        ),
        (
            "tokens reserved",
            false,
            Accounting::Reserved,
            [None, Some(300_000), None, None],
            500.0,
        ),
        (
            "input and output at end",
            true,
            Accounting::Produced,
            [Some(600), None, Some(255_000), Some(100_000)],
            500.0,
        ),
    ];
    let overloads: &[f64] = if quick { &[2.0] } else { &[1.5, 2.0, 3.0] };
    let mut all = Vec::new();
    for shared in [false, true] {
        for (name, anthropic, accounting, quotas, calls) in kinds {
            for overload in overloads {
                let processes = if shared {
                    "three processes"
                } else {
                    "one process"
                };
                all.push(Case {
                    name: format!("real {name} x{overload}, {processes}"),
                    anthropic,
                    accounting,
                    quotas,
                    calls,
                    overload: *overload,
                    shared,
                });
            }
        }
    }
    all
}

/// Seconds before anything is counted: the first minute fills the window.
const WARM_UP: f64 = 60.0;
const PROCESSES: u64 = 3;
const CONVERSATIONS: u64 = 500;

/// Runs all cases that are wanted.
pub(super) fn run(figures: Figures, options: &Options) -> Result<()> {
    let counted = if options.quick { 60.0 } else { 120.0 };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut runs = Vec::new();
        for case in cases(options.quick) {
            if options.wants(&case.name) {
                say(&case.name);
                runs.push(tokio::spawn(one(case, counted)));
            }
        }
        for run in runs {
            run.await??.print(figures)?;
        }
        Ok(())
    })
}

/// What came of a case.
struct Outcome {
    case: Case,
    tally: Tally,
    /// What the provider counted before and after the counted time.
    provider: [Stats; 2],
    minutes: f64,
}

async fn one(case: Case, counted: f64) -> Result<Outcome> {
    let [requests, total_tokens, input_tokens, output_tokens] = case.quotas;
    let provider = Simulator::start(SimConfig {
        first_token: "p50=300ms,p99=1s".parse()?,
        per_token: "20ms".parse()?,
        output: Some("p50=80,p99=400".parse()?),
        quotas: Quotas {
            requests,
            input_tokens,
            output_tokens,
            total_tokens,
            accounting: case.accounting,
            ..Quotas::default()
        },
        ..SimConfig::default()
    })
    .await?;
    let redis = case.shared.then(Redis::start).transpose()?;
    let processes = if case.shared { PROCESSES } else { 1 };
    let orders = |number: u64, seconds: f64, warm_up: f64| Orders {
        url: provider.url(),
        anthropic: case.anthropic,
        quotas: case.quotas,
        rate: case.calls * case.overload / processes as f64,
        conversations: CONVERSATIONS,
        seconds,
        warm_up,
        seed: number + 1,
        redis: redis.as_ref().map(Redis::address),
    };
    let begun = Instant::now();
    let length = WARM_UP + counted;
    let mut children = (0..processes)
        .map(|number| Child::start(&orders(number, length, WARM_UP)))
        .collect::<Result<Vec<_>>>()?;
    tokio::time::sleep_until(begun + Duration::from_secs_f64(WARM_UP)).await;
    let before = provider.stats();
    let mut tally = Tally::default();
    if case.shared {
        // A third into the counted time one is killed, and it is back ten seconds later.
        let killed = WARM_UP + counted / 3.0;
        tokio::time::sleep_until(begun + Duration::from_secs_f64(killed)).await;
        if let Some(child) = children.pop() {
            tally.add(child.kill().await?);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        children.push(Child::start(&orders(
            processes,
            length - killed - 10.0,
            0.0,
        ))?);
    }
    tokio::time::sleep_until(begun + Duration::from_secs_f64(length)).await;
    let provider_then = provider.stats();
    for child in children {
        tally.add(child.end().await?);
    }
    // The provider runs until here.
    drop(provider);
    Ok(Outcome {
        case,
        tally,
        provider: [before, provider_then],
        minutes: counted / 60.0,
    })
}

impl Outcome {
    /// The use of the fullest quota, as the provider counted it.
    fn used(&self) -> f64 {
        let [before, after] = &self.provider;
        let admitted = |stats: &Stats| stats.requests - stats.rate_limited;
        let input = after.input_tokens - before.input_tokens;
        let output = after.output_tokens - before.output_tokens;
        let counted = [
            admitted(after) - admitted(before),
            input + output,
            input,
            output,
        ];
        let shares = counted.into_iter().zip(self.case.quotas);
        shares
            .filter_map(|(counted, limit)| Some(counted as f64 / (limit? as f64 * self.minutes)))
            .fold(0.0, f64::max)
    }

    fn print(&self, figures: Figures) -> Result<()> {
        let (case, tally) = (self.case.name.as_str(), &self.tally);
        ensure!(tally.answered > 0, "{case}: nothing was answered");
        let print = |metric, value, target| figures.print(case, metric, value, "", target);
        let least = if self.case.shared { 0.95 } else { 0.97 };
        print("quota_used", self.used(), Some(least))?;
        let refusals = self.provider[1].rate_limited as f64;
        print("upstream_429", refusals, Some(0.0))?;
        let wanted: Vec<f64> = conversations(&tally.wanted);
        let served: Vec<f64> = conversations(&tally.served);
        print("jain", jain(&served), Some(0.95))?;
        print("jain_of_what_was_asked_for", jain(&wanted), None)?;
        let errors = sorted(&tally.forecast_errors);
        print("forecast_error_median", percentile(&errors, 0.5), Some(0.2))?;
        let (started, expired) = (tally.answered as f64, tally.expired as f64);
        print(
            "deadline_hits",
            started / (started + expired).max(1.0),
            Some(0.99),
        )?;
        print("offered", tally.offered as f64, None)?;
        print("answered", started, None)?;
        print("shed", tally.shed as f64, None)?;
        print("failed", (tally.failed + tally.refused) as f64, Some(0.0))?;
        let waits: Vec<Vec<f32>> = tally.waits.iter().map(|waits| sorted(waits)).collect();
        for (band, name) in ["high", "normal", "low"].into_iter().enumerate() {
            for (metric, share) in [("p50", 0.5), ("p99", 0.99)] {
                let metric = format!("wait_{name}_{metric}");
                figures.print(case, &metric, percentile(&waits[band], share), "s", None)?;
            }
        }
        let ratio = percentile(&waits[0], 0.99) / percentile(&waits[2], 0.99).max(1e-9);
        print("high_to_low_p99", ratio, Some(0.2))
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.answered += other.answered;
        self.shed += other.shed;
        self.expired += other.expired;
        self.refused += other.refused;
        self.failed += other.failed;
        for (mine, others) in [
            (&mut self.wanted, other.wanted),
            (&mut self.served, other.served),
        ] {
            for (conversation, tokens) in others {
                *mine.entry(conversation).or_default() += tokens;
            }
        }
        for (mine, others) in self.waits.iter_mut().zip(other.waits) {
            mine.extend(others);
        }
        self.forecast_errors.extend(other.forecast_errors);
    }
}

fn conversations(tokens: &std::collections::HashMap<u64, u64>) -> Vec<f64> {
    let of = |number: u64| tokens.get(&number).copied().unwrap_or(0) as f64;
    (0..CONVERSATIONS).map(of).collect()
}

/// Jain, Chiu, Hawe 1984.
fn jain(served: &[f64]) -> f64 {
    let sum: f64 = served.iter().sum();
    let squares: f64 = served.iter().map(|served| served * served).sum();
    sum * sum / (served.len() as f64 * squares.max(1e-9))
}

fn sorted(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f32::total_cmp);
    values
}

#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "the rank is between 0 and the number of values"
)]
fn percentile(sorted: &[f32], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.clamp(1, sorted.len().max(1)) - 1)
        .map_or(0.0, |value| f64::from(*value))
}
