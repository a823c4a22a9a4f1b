//! `bench llm`: what the model layer itself costs: decoding streams, and the time it adds
//! before the first token.
//!
//! The provider is a loop over one connection in the same process that sends fixed bytes at
//! once, so what is measured beside it is this crate's and the HTTP client's work.

mod decode;
mod first_token;

use anyhow::Result;

use crate::{Options, machine::Machine, report::Figures};

/// Runs the benchmark.
///
/// # Errors
///
/// When a stream is decoded wrongly, or the loopback cannot be used.
pub fn run(options: &Options) -> Result<()> {
    let figures = Figures::of("llm");
    figures.machine(&Machine::look(&options.data)?)?;
    decode::run(figures, options)?;
    first_token::run(figures, options)
}
