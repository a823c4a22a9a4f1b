//! `bench graph`: what the graph's runtime itself costs, because no node does any work.
//!
//! Each case runs without a saver, and with each saver and each durability; with a saver every
//! run is a new durable thread, and all stores have their default options.

pub mod cases;
mod compare;
mod crowd;
mod savers;
mod size;

use std::{env, process::Command, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    Options,
    machine::Machine,
    measure::{Budget, sample},
    report::{Figures, say},
};
use cases::{Case, all};
use lyceum_graph::{
    Saver,
    testkit::{Failpoints, Operation},
};
use savers::{Kind, Opened, Way};

/// The bar: LangGraph's time for the same work, over ours.
const TIMES_FASTER: f64 = 100.0;
/// The same with the SQLite saver, both syncing every commit, and both storing while the run
/// goes on: what LangGraph does unless it is told otherwise.
const TIMES_FASTER_DURABLE: f64 = 20.0;

/// Runs the benchmark.
///
/// # Errors
///
/// When a run fails or gives a wrong result, or the data folder cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let figures = Figures::of("graph");
    let home = tempfile::tempdir_in(&options.data)?;
    figures.machine(&Machine::look(home.path())?)?;
    let mut means = compare::Means::default();
    for way in Way::all() {
        measure_all(figures, options, &home, way, &mut means)?;
    }
    size::run(figures, options, &home)?;
    allocations(options)?;
    compare::run(figures, options, &home, &means)
}

fn measure_all(
    figures: Figures,
    options: &Options,
    home: &TempDir,
    way: Way,
    means: &mut compare::Means,
) -> Result<()> {
    let kind = way.kind;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for case in all().into_iter().filter(|case| options.wants(case.name)) {
        say(&format!("{} with {}", case.name, way.name()));
        let name = format!("{}/{}", case.name, way.name());
        let opened = runtime.block_on(Opened::open(kind, home))?;
        let budget = budget(options, &case, kind);
        let samples = runtime.block_on(async {
            let mut run = 0;
            sample(budget, async || {
                run += 1;
                case.run(way.kept(&opened), run).await
            })
            .await
        });
        let commits = runtime.block_on(commits(&case, way, &opened))?;
        runtime.block_on(opened.close());
        let samples = samples.with_context(|| format!("measure {name}"))?;
        let target = case.target_us.filter(|_| kind == Kind::Nothing);
        figures.times(&name, &samples, case.units, target)?;
        if let Some(commits) = commits {
            figures.print(&name, "commits", commits, "", None)?;
        }
        means.note(&name, samples.mean_us(), samples.cpu_us(), commits);
    }
    crowd::run(figures, options, home, way, means)
}

/// The commits of one run, if it has a saver.
async fn commits(case: &Case, way: Way, opened: &Opened) -> Result<Option<f64>> {
    let mut kept = way.kept(opened);
    let Some(saver) = kept.saver.take() else {
        return Ok(None);
    };
    let counting = Failpoints::new(saver);
    let saver: Arc<dyn Saver> = Arc::new(counting.clone());
    kept.saver = Some(saver);
    case.run(kept, u64::MAX).await?;
    Ok(Some(counting.calls(Operation::Commit) as f64))
}

/// Long runs and synced ones need no more than a few repeats; short ones need many.
fn budget(options: &Options, case: &Case, kind: Kind) -> Budget {
    let time = match (options.quick, kind) {
        (true, _) => Duration::from_millis(200),
        (false, Kind::Nothing) => Duration::from_secs(3),
        (false, _) => Duration::from_secs(4),
    };
    let at_least = match (options.quick, case.steps) {
        (true, _) => 1,
        (false, 0..500) => 20,
        (false, _) => 3,
    };
    // What the memory saver keeps is never thrown away; this bounds it.
    let at_most = if kind == Kind::Memory {
        20_000 / case.steps as usize + 1
    } else {
        200_000
    };
    Budget {
        time,
        at_least,
        at_most,
    }
}

/// Allocations are counted by a program of its own: counting takes time.
fn allocations(options: &Options) -> Result<()> {
    say("counting allocations");
    let counter = env::current_exe()?.with_file_name("lyceum-bench-allocations");
    let mut command = Command::new(&counter);
    command.args(options.only.as_ref());
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", counter.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", counter.display());
    }
    Ok(())
}
