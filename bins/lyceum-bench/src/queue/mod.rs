//! `bench queue`: what the queue makes of a quota, and what it costs.
//!
//! Saturation is simulated in virtual time with the state machine that production uses,
//! against an upstream that counts exact sliding minutes. Costs are CPU time. `--real` runs
//! the whole way instead, over loopback and in real time.

mod cost;
mod real;
mod saturation;
pub mod weight;

use anyhow::Result;
use clap::Args as ClapArgs;
pub use real::call;

use crate::{Options, machine::Machine, report::Figures};

/// What this benchmark alone is run with.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Args {
    /// In real time instead: against a provider on loopback, by one process and by three.
    #[arg(long)]
    real: bool,
}

/// Runs the benchmark.
///
/// # Errors
///
/// When a run gives a wrong result, or figures cannot be printed.
pub fn run(options: &Options, args: Args) -> Result<()> {
    let figures = Figures::of("queue");
    figures.machine(&Machine::look(&options.data)?)?;
    if args.real {
        return real::run(figures, options);
    }
    saturation::run(figures, options)?;
    cost::run(figures, options)?;
    weight::run(options)
}
