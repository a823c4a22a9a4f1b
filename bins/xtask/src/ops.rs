//! `cargo xtask ops-test`: runs every check of `deploy/` that this machine can run.
//!
//! Invariant: a program that is missing is installed or named and counts as a failure, so a
//! green run has run everything. Deliberately absent: an engine of
//! Docker, Grafana, Elasticsearch and a cluster.

mod alerts;
mod checks;
mod kubernetes;
mod programs;
mod running;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Result, bail};

use crate::root;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the generated rules, rule tests and runbooks anew, and check nothing.
    #[arg(long)]
    write: bool,
    /// Run only the checks whose name contains this; `list` prints the names.
    #[arg(long, value_name = "CHECK")]
    only: Option<String>,
    /// The server for the checks that run it; default: built here without optimisation.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

/// Runs the checks and prints one line for each.
#[expect(
    clippy::print_stderr,
    reason = "a command line tool reports to its user"
)]
pub(crate) fn run(args: &Args) -> Result<()> {
    let deploy = root().join("deploy");
    if args.write {
        for (file, text) in alerts::generated(&deploy)? {
            let file = deploy.join(file);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(file, text)?;
        }
        let programs = programs::Programs::bring(None)?;
        return kubernetes::write(&programs, &deploy);
    }
    let only = args.only.as_deref();
    if only == Some("list") {
        for check in checks::ALL {
            eprintln!("{}", check.name);
        }
        return Ok(());
    }
    let chosen = || {
        let wanted = |check: &&checks::Check| only.is_none_or(|only| check.name.contains(only));
        checks::ALL.iter().filter(wanted)
    };
    if chosen().next().is_none() {
        bail!("there is no such check: `cargo xtask ops-test --only list` prints the names");
    }
    let programs = programs::Programs::bring(args.server.clone())?;
    let mut failed = Vec::new();
    for check in chosen() {
        let start = Instant::now();
        let result = (check.run)(&programs, &deploy);
        let took = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => eprintln!("ok      {:22} {took:6.1} s", check.name),
            Err(error) => {
                eprintln!("FAILED  {:22} {took:6.1} s\n{error:#}", check.name);
                failed.push(check.name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}
