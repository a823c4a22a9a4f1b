//! Virtual time: a run whose waits take no time.
//!
//! Invariant: the clock stands still while anything can run, and jumps to the next timer
//! when nothing can. Deliberately absent: real input and output, which the clock would not
//! wait for.

use std::{future::Future, io, time::Duration};

use tokio::time::Instant;

/// Runs a future on a paused clock, on this thread; gives its output and the virtual time
/// that it took. Retries, time limits, leases and `tokio::time::sleep` wait on this clock.
///
/// It is `#[tokio::test(start_paused = true)]` for callers that have no runtime yet; inside
/// of such a test simply `await`.
///
/// # Errors
///
/// What the operating system gives when the runtime cannot be built.
///
/// # Panics
///
/// Inside of another runtime.
pub fn in_virtual_time<F: Future>(work: F) -> io::Result<(F::Output, Duration)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    Ok(runtime.block_on(async {
        let began = Instant::now();
        let output = work.await;
        (output, began.elapsed())
    }))
}
