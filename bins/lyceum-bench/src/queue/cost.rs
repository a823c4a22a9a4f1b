//! What a decision costs, from a thousand to a million waiting calls, and a call that need
//! not wait, and what simulating many users costs. CPU time of this process.

use std::{hint::black_box, time::Duration};

use anyhow::{Result, ensure};
use lyceum_core::Usage;
use lyceum_queue::{
    Queue, QueueConfig, Quotas,
    simulation::{Backlog, Crowd, simulate},
};

use super::weight::asks;
use crate::{
    Options,
    machine::cpu_time,
    report::{Figures, say},
};

/// Quotas of every kind, too large to bind.
const AMPLE: Quotas = Quotas {
    requests: Some(100_000_000),
    tokens: Some(1_000_000_000_000),
    input_tokens: Some(1_000_000_000_000),
    output_tokens: Some(1_000_000_000_000),
    concurrency: Some(1_000),
};

/// Runs all of it.
pub(super) fn run(figures: Figures, options: &Options) -> Result<()> {
    let largest = if options.quick { 100_000 } else { 1_000_000 };
    for (waiters, target) in [
        (1_000, Some(2.0)),
        (10_000, None),
        (100_000, None),
        (1_000_000, Some(5.0)),
    ] {
        let case = format!("{waiters} waiting");
        if waiters <= largest && options.wants(&case) {
            say(&case);
            decisions(figures, &case, waiters, target)?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    for (case, quotas) in [
        ("uncontended no quota", Quotas::default()),
        ("uncontended all quotas", AMPLE),
    ] {
        if options.wants(case) {
            say(case);
            runtime.block_on(uncontended(figures, case, quotas))?;
        }
    }
    if options.wants("users") {
        users(figures, options)?;
    }
    Ok(())
}

/// One turn settles a call, starts the next one and enqueues another.
fn decisions(figures: Figures, case: &str, waiters: u64, target: Option<f64>) -> Result<()> {
    let conversations = (waiters / 10).max(1);
    let mut backlog = Backlog::new(asks(waiters, conversations)?);
    let turns = 100_000;
    let more = asks(turns, conversations)?;
    let begun = cpu_time()?;
    let mut started = 0_u64;
    for ask in more {
        started += u64::from(backlog.turn(ask).is_some());
    }
    let turn = each(begun, turns)?;
    ensure!(started == turns, "only {started} of {turns} calls started");
    figures.print(case, "enqueue_grant_settle", turn, "us", target)?;
    // The calls that were asked last are the ones that still wait.
    let begun = cpu_time()?;
    for call in 0..turns {
        let last = (turns + waiters - 1 - call * 7_919 % waiters) as usize;
        black_box(backlog.position(last));
    }
    figures.print(case, "position", each(begun, turns)?, "us", None)
}

async fn uncontended(figures: Figures, case: &str, quotas: Quotas) -> Result<()> {
    let queue = Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    });
    let calls = 500_000;
    let asks = asks(calls, 100)?;
    let begun = cpu_time()?;
    for ask in asks {
        queue.enqueue(ask)?.await?.settle(Usage::default());
    }
    figures.print(case, "acquire_settle", each(begun, calls)?, "us", Some(1.0))
}

fn users(figures: Figures, options: &Options) -> Result<()> {
    let case = "100000 users";
    say(case);
    let quotas = Quotas {
        requests: Some(100_000),
        ..Quotas::default()
    };
    let config = QueueConfig {
        quotas,
        ..QueueConfig::default()
    };
    let crowd = Crowd {
        conversations: 100_000,
        tenants: 1_000,
        calls_per_minute: 200_000.0,
        ..Crowd::default()
    };
    let length = Duration::from_secs(if options.quick { 240 } else { 600 });
    let begun = cpu_time()?;
    let report = simulate(config, &crowd, length);
    let took = cpu_time()?.saturating_sub(begun);
    ensure!(report.violations == 0, "a minute was exceeded");
    figures.print(case, "virtual", length.as_secs_f64(), "s", None)?;
    figures.print(case, "cpu", took.as_secs_f64(), "s", Some(60.0))?;
    figures.print(case, "decisions", report.decisions as f64, "", None)?;
    figures.print(case, "quota_used", report.quota_used, "", Some(0.97))
}

/// CPU microseconds of each of so many since `begun`.
fn each(begun: Duration, number: u64) -> Result<f64> {
    let spent = cpu_time()?.saturating_sub(begun);
    Ok(spent.as_secs_f64() * 1e6 / number as f64)
}
