//! `lyceum-eval NAME`: measures an agent against a labelled set. `cargo xtask eval NAME`
//! builds and starts it.

use anyhow::Result;
use clap::{Parser, Subcommand};
use lyceum_bench::eval;

#[derive(Parser)]
#[command(about = "Measures Lyceum's agents against labelled sets; one JSON object a figure")]
struct Args {
    #[command(subcommand)]
    agent: Agent,
}

#[derive(Subcommand)]
enum Agent {
    /// The feynman student: gaps found, false alarms, quotes, leaks, duplicates.
    Feynman(eval::Options),
}

fn main() -> Result<()> {
    match Args::parse().agent {
        Agent::Feynman(options) => eval::run(&options),
    }
}
