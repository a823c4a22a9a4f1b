//! Weighs waiting calls, with nothing else in the process: `NAME WAITERS CONVERSATIONS`.
//!
//! A program of its own: counting costs time, which the timed program must not pay.

use std::{alloc::System, env};

use anyhow::{Context, Result};
use lyceum_bench::{machine::resident_bytes, queue::weight::weigh};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let mut next = || args.next().context("NAME WAITERS CONVERSATIONS");
    let (name, waiters, conversations) = (next()?, next()?.parse()?, next()?.parse()?);
    let heap = || {
        let stats = ALLOCATOR.stats();
        // Growth of a reallocation counts as allocated there, shrinking as freed.
        (stats.bytes_allocated - stats.bytes_deallocated) as u64
    };
    weigh(&name, waiters, conversations, heap, resident_bytes)
}
