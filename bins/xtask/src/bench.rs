//! The benchmarks, by name.
//!
//! Invariant: standard output carries figures only, one JSON object a line; progress goes
//! to standard error. Deliberately absent: judging a figure by its target, because wall
//! times on a busy machine say little; who reads them decides.

mod build;
pub(crate) mod capacity;
mod gateway;
mod in_process;
pub(crate) mod process;
mod smoke;
mod telemetry;
mod users;

use std::{
    ffi::OsString,
    io::{self, Write as _},
};

use anyhow::{Result, bail};
use serde::Serialize;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which benchmark: smoke, gateway, telemetry, graph, llm, memory, queue, tools.
    name: String,
    /// Handed to the benchmark, e.g. `--quick`, `--only CASE`, `--python PATH`; `-- --help`
    /// lists what it takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// A benchmark.
#[derive(Debug, Clone, Copy)]
enum Bench {
    /// Drives whole programs from here.
    Programs(fn(&Figures) -> Result<()>),
    /// A benchmark of `lyceum-bench`, which measures crates in its own process.
    InProcess,
}

/// Every benchmark, under the name that runs it.
const BENCHES: [(&str, Bench); 8] = [
    ("smoke", Bench::Programs(smoke::run)),
    ("gateway", Bench::Programs(gateway::run)),
    ("telemetry", Bench::Programs(telemetry::run)),
    ("graph", Bench::InProcess),
    ("llm", Bench::InProcess),
    ("memory", Bench::InProcess),
    ("queue", Bench::InProcess),
    ("tools", Bench::InProcess),
];

/// Runs one benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { name, rest } = args;
    let found = BENCHES.iter().find(|(known, _)| known == name);
    let Some((bench, found)) = found else {
        let names = BENCHES.map(|(known, _)| known).join(", ");
        bail!("there is no benchmark {name:?}; there is: {names}");
    };
    match found {
        Bench::Programs(_) if !rest.is_empty() => bail!("{name} takes no further arguments"),
        Bench::Programs(run) => run(&Figures { bench }),
        Bench::InProcess => in_process::run(bench, rest),
    }
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
