//! Counts the allocations of one run of every case, with nothing else in the process.
//!
//! A program of its own: counting costs time, which the timed program must not pay.

use std::{alloc::System, env, sync::Arc};

use anyhow::Result;
use lyceum_bench::{
    graph::cases::{Kept, all},
    report::Figures,
};
use lyceum_graph::{MemorySaver, Saver};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs of which the mean counts.
const RUNS: u32 = 10;

fn main() -> Result<()> {
    let only = env::args().nth(1).unwrap_or_default();
    let figures = Figures::of("graph");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    for case in all().iter().filter(|case| case.name.contains(&only)) {
        for (kind, saver) in [
            ("none", None),
            (
                "memory",
                Some(Arc::new(MemorySaver::new()) as Arc<dyn Saver>),
            ),
        ] {
            let kept = Kept {
                saver,
                ..Kept::default()
            };
            runtime.block_on(case.run(kept.clone(), 0))?;
            let region = Region::new(ALLOCATOR);
            for number in 1..=RUNS {
                runtime.block_on(case.run(kept.clone(), number.into()))?;
            }
            let change = region.change();
            let calls = change.allocations + change.reallocations;
            let each = |total: usize| total as f64 / f64::from(RUNS * case.units);
            let name = format!("{}/{kind}", case.name);
            figures.print(&name, "allocations", each(calls), "", None)?;
            let bytes = each(change.bytes_allocated);
            figures.print(&name, "allocated", bytes, "bytes", None)?;
        }
    }
    Ok(())
}
