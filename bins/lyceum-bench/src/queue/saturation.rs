//! More than the quota is asked for, by a crowd of which one is 20 times as busy.
//!
//! Every figure is of ten virtual minutes, the first of them left out where the minute's
//! use is judged; the seed decides what is random. Deliberately absent: the async driver
//! and the network.

use std::time::Duration;

use anyhow::{Result, ensure};
use lyceum_queue::{
    OutputCounted, QueueConfig, Quotas,
    simulation::{Crowd, Report, simulate},
};

use crate::{
    Options,
    report::{Figures, say},
};

/// A quota and how much of it is asked for.
struct Scenario {
    name: &'static str,
    quotas: Quotas,
    output: OutputCounted,
    /// Calls a minute that the quota allows.
    calls: f64,
    overloads: &'static [f64],
    tenants: u32,
    /// How the upstream counts, where the queue is not told.
    truth: Option<OutputCounted>,
    /// Whether the upstream's answers say what is left.
    headers: bool,
    /// The least share of the quota that should be used.
    used: f64,
}

impl Scenario {
    fn new(name: &'static str, quotas: Quotas, calls: f64) -> Self {
        Self {
            name,
            quotas,
            output: OutputCounted::AtEnd,
            calls,
            overloads: &[1.5, 2.0, 3.0],
            tenants: 1,
            truth: None,
            headers: false,
            used: 0.97,
        }
    }

    fn config(&self) -> QueueConfig {
        QueueConfig {
            quotas: self.quotas,
            output_counted: self.output,
            ..QueueConfig::default()
        }
    }
}

fn scenarios() -> Vec<Scenario> {
    let none = Quotas::default();
    let requests = Quotas {
        requests: Some(500),
        input_tokens: Some(700_000),
        concurrency: Some(60),
        ..none
    };
    let input = Quotas {
        input_tokens: Some(600_000),
        ..none
    };
    let large = Quotas {
        output_tokens: Some(1_400_000),
        ..none
    };
    let small = Quotas {
        output_tokens: Some(140_000),
        ..none
    };
    let slots = Quotas {
        concurrency: Some(30),
        ..none
    };
    let counted = |name, output| Scenario {
        output,
        ..Scenario::new(name, small, 480.0)
    };
    let total = Quotas {
        tokens: Some(720_000),
        ..none
    };
    let learned = |name, quotas, truth| Scenario {
        output: OutputCounted::Unknown,
        truth: Some(truth),
        headers: true,
        ..Scenario::new(name, quotas, 480.0)
    };
    vec![
        Scenario::new("requests", requests, 500.0),
        Scenario {
            tenants: 20,
            ..Scenario::new("requests of 20 tenants", requests, 500.0)
        },
        Scenario::new("input", input, 500.0),
        Scenario::new("large output at end", large, 4_800.0),
        counted("small output at end", OutputCounted::AtEnd),
        counted("small output at start", OutputCounted::AtStart),
        Scenario {
            output: OutputCounted::Declared,
            ..Scenario::new("large output declared", large, 1_370.0)
        },
        counted("small output unknown", OutputCounted::Unknown),
        counted("small output actual at start", OutputCounted::ActualAtStart),
        learned("small output learned, at end", small, OutputCounted::AtEnd),
        learned(
            "small output learned, at start",
            small,
            OutputCounted::AtStart,
        ),
        learned("all tokens learned, at end", total, OutputCounted::AtEnd),
        learned(
            "all tokens learned, at start",
            total,
            OutputCounted::AtStart,
        ),
        learned(
            "all tokens learned, actual",
            total,
            OutputCounted::ActualAtStart,
        ),
        Scenario {
            output: OutputCounted::Declared,
            ..Scenario::new("small output declared", small, 137.0)
        },
        Scenario::new("slots", slots, 430.0),
    ]
}

/// Runs every scenario at every overload, with each seed.
pub(super) fn run(figures: Figures, options: &Options) -> Result<()> {
    // Fewer minutes would judge the first ones, in which nothing is fair or full yet.
    let seeds = if options.quick { 1 } else { 8 };
    for scenario in scenarios() {
        for overload in scenario.overloads {
            for seed in 1..=seeds {
                let case = format!("{} x{overload} seed {seed}", scenario.name);
                if !options.wants(&case) {
                    continue;
                }
                say(&case);
                let crowd = Crowd {
                    tenants: scenario.tenants,
                    headers: scenario.headers,
                    counted: scenario.truth,
                    calls_per_minute: scenario.calls * overload,
                    seed,
                    ..Crowd::default()
                };
                let length = Duration::from_secs(600);
                let report = simulate(scenario.config(), &crowd, length);
                ensure!(report.started > 0, "{case}: nothing was let through");
                print(figures, &case, &scenario, &report)?;
            }
        }
    }
    Ok(())
}

fn print(figures: Figures, case: &str, scenario: &Scenario, report: &Report) -> Result<()> {
    let share = |metric, value, target| figures.print(case, metric, value, "", target);
    if scenario.quotas.concurrency.is_none() || scenario.quotas.requests.is_some() {
        share("quota_used", report.quota_used, Some(scenario.used))?;
        share("fullest", report.fullest, Some(1.0))?;
    }
    share("upstream_429", report.violations as f64, Some(0.0))?;
    share("jain", report.jain, Some(0.95))?;
    share("forecast_error_median", report.forecast_error, Some(0.2))?;
    share("deadline_hits", report.deadline_hits, Some(0.99))?;
    share("reservation_error", report.reservation_error, None)?;
    share("started", report.started as f64, None)?;
    share("refused", report.refused as f64, None)?;
    for (band, name) in ["high", "normal", "low"].into_iter().enumerate() {
        for (percentile, waits) in [("p50", report.wait_p50), ("p99", report.wait_p99)] {
            let metric = format!("wait_{name}_{percentile}");
            figures.print(case, &metric, waits[band].as_secs_f64(), "s", None)?;
        }
    }
    let low = report.wait_p99[2].as_secs_f64().max(1e-9);
    let ratio = report.wait_p99[0].as_secs_f64() / low;
    share("high_to_low_p99", ratio, Some(0.2))
}
