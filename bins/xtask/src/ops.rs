//! `cargo xtask ops-test`: runs every check of `deploy/` that this machine can run; with
//! `--quick` those that only read files, which are a step of `cargo xtask test`.
//!
//! Invariant: a program that is missing is installed or named and counts as a failure, so a
//! green run has run everything. Deliberately absent: an engine of
//! Docker, Grafana, Elasticsearch and a cluster.

mod alerts;
mod checks;
mod kubernetes;
pub(crate) mod programs;
mod running;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::root;
use programs::Needed;

/// How many checks run at the same time.
const AT_ONCE: usize = 4;

/// How long the quick checks may take together; they take about a quarter of it.
const QUICK: Duration = Duration::from_secs(90);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the generated rules, rule tests and runbooks anew, and check nothing.
    #[arg(long)]
    write: bool,
    /// Run only the checks whose name contains this; `list` prints the names.
    #[arg(long, value_name = "CHECK")]
    only: Option<String>,
    /// Run only the checks that read files, each within a time of its own.
    #[arg(long)]
    quick: bool,
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
        let programs = programs::Programs::bring(None, Needed::Readers)?;
        return kubernetes::write(&programs, &deploy);
    }
    let only = args.only.as_deref();
    if only == Some("list") {
        for check in checks::ALL {
            let when = if check.is_quick { "quick" } else { "" };
            eprintln!("{:20} {when}", check.name);
        }
        return Ok(());
    }
    let chosen = || {
        let wanted = |check: &&checks::Check| {
            only.is_none_or(|only| check.name.contains(only)) && (check.is_quick || !args.quick)
        };
        checks::ALL.iter().filter(wanted)
    };
    if chosen().next().is_none() {
        bail!("there is no such check: `cargo xtask ops-test --only list` prints the names");
    }
    let needed = match chosen().all(|check| check.is_quick) {
        true => Needed::Readers,
        false => Needed::All,
    };
    let programs = programs::Programs::bring(args.server.clone(), needed)?;
    let start = Instant::now();
    // Most of them wait more than they compute, so they run beside each other.
    let (last, others): (Vec<_>, Vec<_>) =
        chosen().partition(|check| checks::LAST.contains(&check.name));
    let waiting = Mutex::new(others.into_iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(check) = next(&waiting) {
                    run_one(check, &programs, &deploy, &failed);
                }
            });
        }
    });
    for check in last {
        run_one(check, &programs, &deploy, &failed);
    }
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let took = start.elapsed();
    if args.quick && took > QUICK {
        // A busy machine is no fault of the kit.
        eprintln!(
            "the quick checks took {took:.0?}, on a calm machine they must stay below {QUICK:?}"
        );
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// The next check that nobody has begun.
fn next<'a>(waiting: &Mutex<impl Iterator<Item = &'a checks::Check>>) -> Option<&'a checks::Check> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.next()
}

/// Runs one check and prints its line.
#[expect(
    clippy::print_stderr,
    reason = "a command line tool reports to its user"
)]
fn run_one(
    check: &checks::Check,
    programs: &programs::Programs,
    deploy: &Path,
    failed: &Mutex<Vec<&'static str>>,
) {
    let start = Instant::now();
    let result = (check.run)(programs, deploy);
    let took = start.elapsed().as_secs_f64();
    match result {
        Ok(()) => eprintln!("ok      {:22} {took:6.1} s", check.name),
        Err(error) => {
            eprintln!("FAILED  {:22} {took:6.1} s\n{error:#}", check.name);
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.push(check.name);
        }
    }
}
