//! The benchmarks, by name.
//!
//! Invariant: standard output carries figures only, one JSON object a line; progress goes
//! to standard error. Deliberately absent: judging a figure by its target, because wall
//! times on a busy machine say little; who reads them decides.

mod build;
mod process;
mod smoke;

use std::io::{self, Write as _};

use anyhow::{Result, bail};
use serde::Serialize;

/// A benchmark.
type Run = fn(&Figures) -> Result<()>;

/// Every benchmark, under the name that runs it.
const BENCHES: [(&str, Run); 1] = [("smoke", smoke::run)];

/// Runs one benchmark.
pub(crate) fn run(name: &str) -> Result<()> {
    let found = BENCHES.iter().find(|(known, _)| *known == name);
    let Some((bench, run)) = found else {
        let names = BENCHES.map(|(known, _)| known).join(", ");
        bail!("there is no benchmark {name:?}; there is: {names}");
    };
    run(&Figures { bench })
}

/// Where the figures of one benchmark go.
#[derive(Debug)]
struct Figures {
    bench: &'static str,
}

/// One figure, in the form that all benchmarks and `lyceum-sim load` print.
#[derive(Debug, Serialize)]
struct Figure<'a> {
    bench: &'a str,
    case: &'a str,
    metric: &'a str,
    value: f64,
    unit: &'a str,
    target: Option<f64>,
}

impl Figures {
    /// Prints a figure. `target` is what it should be: the least where more is better,
    /// else the most; `None` where none is set.
    fn print(
        &self,
        case: &str,
        metric: &str,
        value: f64,
        unit: &str,
        target: Option<f64>,
    ) -> Result<()> {
        let figure = Figure {
            bench: self.bench,
            case,
            metric,
            value: (value * 1e3).round() / 1e3,
            unit,
            target,
        };
        writeln!(io::stdout(), "{}", serde_json::to_string(&figure)?)?;
        Ok(())
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a command line tool reports to its user"
)]
fn say(what: &str) {
    eprintln!("bench: {what}");
}
