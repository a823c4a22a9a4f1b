//! Tasks of this workspace: `cargo xtask test`, `ci`, `setup`, `contract`, `crash`, `ops-test`, `bench`,
//! `capacity`, `eval`, `train`.
//!
//! Invariant: `ci` runs what `test` runs, nothing more, so a green `test` on a
//! developer's machine means a green CI.

mod bench;
mod contract;
mod crash;
mod eval;
mod ops;
mod setup;
mod steps;
mod train;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Lyceum workspace")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what the tests need where it can, else prints the line that installs it.
    Setup,
    /// Checks and tests everything: format, lints, licences, docs, tests, examples.
    Test {
        /// Run only the named step; `--only list` prints the names.
        #[arg(long, value_name = "STEP")]
        only: Option<String>,
    },
    /// What CI runs: the same as `test`.
    Ci,
    /// Holds the HTTP API of the built server against its own OpenAPI document; a part of `test`.
    Contract,
    /// Kills durable runs at many instants and checks that they continue as if nothing had
    /// happened; `test` does so for a few seeds.
    Crash(crash::Args),
    /// Checks `deploy/` with the programs that it configures; of `test` only `--quick`, because it
    /// installs them.
    OpsTest(ops::Args),
    /// Measures and prints one JSON object a figure: {bench, case, metric, value, unit, target}.
    Bench(bench::Args),
    /// Measures what a turn, a discussion and a stream cost, for `lyceum capacity` to plan with.
    Capacity,
    /// Measures an agent against a labelled set; prints figures in the same form.
    Eval(eval::Args),
    /// Learns the weights that a crate ships from the labelled sets in this repository.
    Train(train::Args),
}

fn main() -> Result<()> {
    match Args::parse().task {
        Task::Setup => setup::everything(),
        Task::Test { only } => steps::run(only.as_deref()),
        Task::Ci => steps::run(None),
        Task::Contract => contract::run(),
        Task::Crash(args) => crash::run(&args),
        Task::OpsTest(args) => ops::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Capacity => bench::capacity::run(),
        Task::Eval(args) => eval::run(&args),
        Task::Train(args) => train::run(&args),
    }
}

/// The workspace's root folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Where a program stands that was built without optimisation.
fn built(program: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| root().join("target"), PathBuf::from);
    target.join("debug").join(program)
}

/// Where test tools and models are kept between runs; ignored by git.
fn cache() -> PathBuf {
    root().join(".cache")
}
