//! Many runs under way at once: their time, their memory, and what they share.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use lyceum_graph::{Graph, RunConfig, Saver, ThreadId};
use tempfile::TempDir;

use super::{
    cases::{Count, chain, yielding_chain},
    compare::Means,
    savers::{Kind, Opened},
};
use crate::{
    Options,
    machine::{cpu_time, resident_bytes},
    report::{Figures, say},
};

/// Runs of the large crowd.
const CROWD: u64 = 10_000;
/// The most that the large crowd should take, in milliseconds.
const CROWD_MS: f64 = 100.0;
/// The most that the large crowd should hold, in megabytes.
const CROWD_MB: f64 = 64.0;
/// Runs of the small crowd, as a busy server has them.
const SMALL: u64 = 64;
/// How often the small crowd is made.
const ROUNDS: u32 = 20;

/// Measures both crowds.
pub(super) fn run(
    figures: Figures,
    options: &Options,
    home: &TempDir,
    kind: Kind,
    means: &mut Means,
) -> Result<()> {
    if options.wants("crowd-10000") {
        large(figures, options, home, kind)?;
    }
    if options.wants("crowd-64") {
        small(figures, options, home, kind, means)?;
    }
    Ok(())
}

/// Chains of 3 on all cores, each node waiting for its turn once, so that all are alive.
fn large(figures: Figures, options: &Options, home: &TempDir, kind: Kind) -> Result<()> {
    let name = format!("crowd-10000/{}", kind.name());
    say(&name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let graph = yielding_chain(3);
    let rounds = if options.quick { 1 } else { 5 };
    let mut times = Vec::new();
    let mut growth = 0;
    for _ in 0..rounds {
        let opened = runtime.block_on(Opened::open(kind, home))?;
        let before = resident_bytes()?;
        let start = Instant::now();
        let runs: Vec<_> = (0..CROWD)
            .map(|n| runtime.spawn(once(graph.clone(), opened.saver(), n, 3)))
            .collect();
        runtime.block_on(async {
            for run in runs {
                run.await??;
            }
            anyhow::Ok(())
        })?;
        times.push(start.elapsed());
        growth = growth.max(resident_bytes()?.saturating_sub(before));
        runtime.block_on(opened.close());
    }
    times.sort_unstable();
    let (is_bare, middle) = (kind == Kind::Nothing, times[times.len() / 2]);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let target = |target| Some(target).filter(|_| is_bare);
    figures.print(&name, "time_p50", ms(middle), "ms", target(CROWD_MS))?;
    figures.print(&name, "time_best", ms(times[0]), "ms", None)?;
    // The allocator keeps what it has had, so this is the most of all rounds.
    let megabytes = growth as f64 / 1e6;
    figures.print(&name, "memory_growth", megabytes, "MB", target(CROWD_MB))
}

/// Chains of 10, as many at once as a busy server has; how many are done in a second.
fn small(
    figures: Figures,
    options: &Options,
    home: &TempDir,
    kind: Kind,
    means: &mut Means,
) -> Result<()> {
    let name = format!("crowd-64/{}", kind.name());
    say(&name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let graph = chain(10);
    let opened = runtime.block_on(Opened::open(kind, home))?;
    let rounds = if options.quick { 2 } else { ROUNDS };
    let (start, cpu) = (Instant::now(), cpu_time()?);
    for round in 0..u64::from(rounds) {
        let runs = (0..SMALL).map(|n| once(graph.clone(), opened.saver(), round * SMALL + n, 10));
        runtime.block_on(try_join_all(runs))?;
    }
    let (time, cpu) = (start.elapsed(), cpu_time()?.saturating_sub(cpu));
    runtime.block_on(opened.close());
    let runs = f64::from(rounds) * SMALL as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / runs;
    figures.print(&name, "rate", runs / time.as_secs_f64(), "1/s", None)?;
    figures.print(&name, "cpu", each(cpu), "us", None)?;
    means.note(&name, each(time), each(cpu));
    Ok(())
}

async fn once(
    graph: Graph<Count>,
    saver: Option<Arc<dyn Saver>>,
    number: u64,
    expected: u64,
) -> Result<()> {
    let (input, config) = (Count::default(), RunConfig::default());
    let output = match saver {
        None => graph.run(input, config).await?,
        Some(saver) => {
            let id = ThreadId::new(format!("crowd-{number}"))?;
            graph.thread(saver, id).run(input, config).await?
        }
    };
    ensure!(output.state.value == expected, "a run of a crowd is wrong");
    Ok(())
}
