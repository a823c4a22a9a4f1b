//! Figures on standard output, progress on standard error.
//!
//! Invariant: every line of standard output is one JSON object, in the form that
//! `cargo xtask bench smoke` and `lyceum-sim load` print too.

use std::io::{self, Write as _};

use anyhow::Result;
use serde::Serialize;

use crate::{machine::Machine, measure::Samples};

/// Where the figures of one benchmark go.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    bench: &'static str,
}

#[derive(Debug, Serialize)]
struct Figure<'a> {
    bench: &'a str,
    case: &'a str,
    metric: &'a str,
    value: f64,
    unit: &'a str,
    target: Option<f64>,
    /// The value divided by its target.
    to_target: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Where<'a> {
    bench: &'a str,
    machine: &'a Machine,
}

impl Figures {
    /// Figures of the named benchmark.
    #[must_use]
    pub fn of(bench: &'static str) -> Self {
        Self { bench }
    }

    /// Prints what the figures were measured on: the first line of every benchmark.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn machine(self, machine: &Machine) -> Result<()> {
        let bench = self.bench;
        line(&Where { bench, machine })
    }

    /// Prints a figure. `target` is what it should be: the least where more is better, else
    /// the most; `None` where none is set.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn print(
        self,
        case: &str,
        metric: &str,
        value: f64,
        unit: &str,
        target: Option<f64>,
    ) -> Result<()> {
        line(&Figure {
            bench: self.bench,
            case,
            metric,
            value: rounded(value),
            unit,
            target,
            to_target: target.map(|target| rounded(value / target)),
        })
    }

    /// Prints the times of one case in microseconds, each divided by `units`, e.g. the
    /// steps of one run. The target is the mean's.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn times(
        self,
        case: &str,
        samples: &Samples,
        units: u32,
        target: Option<f64>,
    ) -> Result<()> {
        let units = f64::from(units);
        self.print(case, "mean", samples.mean_us() / units, "us", target)?;
        for (metric, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let value = samples.percentile_us(share) / units;
            self.print(case, metric, value, "us", None)?;
        }
        self.print(case, "cpu", samples.cpu_us() / units, "us", None)?;
        self.print(case, "repeats", samples.len() as f64, "", None)
    }
}

fn line(value: &impl Serialize) -> Result<()> {
    writeln!(io::stdout(), "{}", serde_json::to_string(value)?)?;
    Ok(())
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Tells the user what is going on.
#[expect(
    clippy::print_stderr,
    reason = "a command line tool reports to its user"
)]
pub fn say(what: &str) {
    eprintln!("bench: {what}");
}
