//! How many threads an answer uses, and how many it should.
//!
//! candle 0.11 has one pool for the process. Its threads spin while they wait for each
//! other, hundreds of times a token, so one thread without a core of its own slows all of
//! them down. Deliberately absent: a setter; the pool reads its size from the
//! environment, which safe code cannot change once threads run.

use std::{num::NonZero, thread};

/// The environment variable that sizes candle's pool at its first use.
pub const THREADS_VARIABLE: &str = "CANDLE_NUM_THREADS";

/// The number of threads that one answer uses, the inference thread included: from
/// [`THREADS_VARIABLE`], else `RAYON_NUM_THREADS`, else the number of physical cores,
/// whatever the CPU quota is.
#[must_use]
pub fn threads() -> usize {
    candle_core::utils::barrier_pool().n_workers() + 1
}

/// The number of threads that leaves one of the cores this process may use to the rest
/// of it, at least one; quotas and affinities are respected.
#[must_use]
pub fn recommended_threads() -> usize {
    (cores() - 1).max(1)
}

/// The cores this process may use.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Says so when answers will be slow for want of cores.
pub(crate) fn warn_if_too_many() {
    let (threads, cores) = (threads(), cores());
    if threads > cores {
        tracing::warn!(
            threads,
            cores,
            "the local model has more threads than cores and will be slow; set {THREADS_VARIABLE}"
        );
    }
}
