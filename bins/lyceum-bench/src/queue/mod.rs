//! `bench queue`: what the queue makes of a quota, and what it costs.
//!
//! Saturation is simulated in virtual time with the state machine that production uses,
//! against an upstream that counts exact sliding minutes. Costs are CPU time.

mod cost;
mod saturation;
pub mod weight;

use anyhow::Result;

use crate::{Options, machine::Machine, report::Figures};

/// Runs the benchmark.
///
/// # Errors
///
/// When a run gives a wrong result, or figures cannot be printed.
pub fn run(options: &Options) -> Result<()> {
    let figures = Figures::of("queue");
    figures.machine(&Machine::look(&options.data)?)?;
    saturation::run(figures, options)?;
    cost::run(figures, options)?;
    weight::run(options)
}
