//! Many runs under way at once: their time, their memory, and what they share.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use lyceum_graph::{Graph, RunConfig, ThreadId};
use tempfile::TempDir;

use super::{
    cases::{Count, Kept, chain, meeting_chain},
    compare::Means,
    savers::{Kind, Opened, Way},
};
use crate::{
    Options,
    machine::{cpu_time, forget_peak, peak_bytes, resident_bytes},
    report::{Figures, say},
};

/// Runs of the large crowd.
const CROWD: u32 = 10_000;
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
    way: Way,
    means: &mut Means,
) -> Result<()> {
    if options.wants("crowd-10000") {
        large(figures, options, home, way)?;
    }
    if options.wants("crowd-64") {
        small(figures, options, home, way, means)?;
    }
    Ok(())
}

/// Chains of 3 on all cores; each node waits until all runs have come there, so that all are
/// alive at once three times.
fn large(figures: Figures, options: &Options, home: &TempDir, way: Way) -> Result<()> {
    let name = format!("crowd-10000/{}", way.name());
    say(&name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let graph = meeting_chain(3, CROWD as usize);
    let rounds = if options.quick { 1 } else { 5 };
    let mut times = Vec::new();
    let mut growth = 0;
    for _ in 0..rounds {
        let opened = runtime.block_on(Opened::open(way.kind, home))?;
        let before = resident_bytes()?;
        forget_peak()?;
        let start = Instant::now();
        let runs: Vec<_> = (0..u64::from(CROWD))
            .map(|n| runtime.spawn(once(graph.clone(), way.kept(&opened), n, 3)))
            .collect();
        runtime.block_on(async {
            for run in runs {
                run.await??;
            }
            anyhow::Ok(())
        })?;
        times.push(start.elapsed());
        growth = growth.max(peak_bytes()?.saturating_sub(before));
        runtime.block_on(opened.close());
    }
    times.sort_unstable();
    let (is_bare, middle) = (way.kind == Kind::Nothing, times[times.len() / 2]);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let target = |target| Some(target).filter(|_| is_bare);
    figures.print(&name, "time_p50", ms(middle), "ms", target(CROWD_MS))?;
    figures.print(&name, "time_best", ms(times[0]), "ms", None)?;
    // From before the runs to the highest moment, as the system counts it: the most of all
    // rounds, because the allocator keeps what it has had.
    let megabytes = growth as f64 / 1e6;
    figures.print(&name, "memory_peak", megabytes, "MB", target(CROWD_MB))
}

/// Chains of 10, as many at once as a busy server has; how many are done in a second.
fn small(
    figures: Figures,
    options: &Options,
    home: &TempDir,
    way: Way,
    means: &mut Means,
) -> Result<()> {
    let name = format!("crowd-64/{}", way.name());
    say(&name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let graph = chain(10);
    let opened = runtime.block_on(Opened::open(way.kind, home))?;
    let rounds = if options.quick { 2 } else { ROUNDS };
    let (start, cpu) = (Instant::now(), cpu_time()?);
    for round in 0..u64::from(rounds) {
        let run = |n| once(graph.clone(), way.kept(&opened), round * SMALL + n, 10);
        let runs = (0..SMALL).map(run);
        runtime.block_on(try_join_all(runs))?;
    }
    let (time, cpu) = (start.elapsed(), cpu_time()?.saturating_sub(cpu));
    runtime.block_on(opened.close());
    let runs = f64::from(rounds) * SMALL as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / runs;
    figures.print(&name, "rate", runs / time.as_secs_f64(), "1/s", None)?;
    figures.print(&name, "cpu", each(cpu), "us", None)?;
    means.note(&name, each(time), each(cpu), None);
    Ok(())
}

async fn once(graph: Graph<Count>, kept: Kept, number: u64, expected: u64) -> Result<()> {
    let config = RunConfig::default().durability(kept.durability);
    let input = Count::default();
    let output = match kept.saver {
        None => graph.run(input, config).await?,
        Some(saver) => {
            let id = ThreadId::new(format!("crowd-{number}"))?;
            graph.thread(saver, id).run(input, config).await?
        }
    };
    ensure!(output.state.value == expected, "a run of a crowd is wrong");
    Ok(())
}
