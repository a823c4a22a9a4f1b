//! The crash tests of durable runs and of the memory with many seeds.

use std::process::Command;

use anyhow::{Result, bail};

use crate::root;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seeds on a SQLite file; one takes about a second.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// How many seeds on a private PostgreSQL server; one takes a few seconds.
    #[arg(long, default_value_t = 100)]
    postgres_seeds: u64,
    /// The first seed, to repeat one that failed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Kill a process that stores, embeds and deletes memories, instead of one that runs graphs.
    #[arg(long)]
    memory: bool,
}

/// Runs the test; it prints each seed.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.memory {
        return memory(args);
    }
    let status = Command::new("cargo")
        .args(["test", "--package=lyceum-tests", "--test=graph_crash"])
        .args(["--", "--nocapture", "killed_runs_continue"])
        .env("LYCEUM_CRASH_SEEDS", args.seeds.to_string())
        .env(
            "LYCEUM_CRASH_POSTGRES_SEEDS",
            args.postgres_seeds.to_string(),
        )
        .env("LYCEUM_CRASH_FIRST", args.first.to_string())
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("a killed run did not continue as it should; its seed is above");
    }
    Ok(())
}

fn memory(args: &Args) -> Result<()> {
    let status = Command::new("cargo")
        .args([
            "test",
            "--package=lyceum-store-sqlite",
            "--test=kill_memory",
        ])
        .args(["--", "--nocapture"])
        .env("LYCEUM_KILL_SEEDS", args.seeds.to_string())
        .env("LYCEUM_KILL_FIRST", args.first.to_string())
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("a killed memory is not as it should be; its seed is above");
    }
    Ok(())
}
