//! Keeping house over many threads: which there are, and forgetting those that nobody
//! continues.
//!
//! Invariant: nothing is removed from a thread while another writes it. Deliberately absent:
//! a clock of its own; whoever calls [`sweep`] says how often.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::saver::{CheckpointId, Claim, Keep, Saver, SaverError, ThreadId};

/// The threads read at once.
const PAGE: usize = 256;

/// How long a sweep holds a thread at most.
const LEASE: Duration = Duration::from_secs(30);

/// A thread as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadEntry {
    /// The thread.
    pub thread: ThreadId,
    /// The highest checkpoint id ever stored in it.
    pub last: Option<CheckpointId>,
}

/// A saver that can list its threads.
pub trait Threads: Saver {
    /// Lists threads that have a checkpoint, that nobody holds, and whose last write is at
    /// least `idle` ago, by name, behind `after`.
    fn threads<'a>(
        &'a self,
        idle: Duration,
        after: Option<&'a ThreadId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ThreadEntry>, SaverError>>;
}

/// What a sweep has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Threads that it pruned.
    pub threads: u64,
    /// Checkpoints that it removed from them.
    pub checkpoints: u64,
}

/// Prunes every thread whose last write is at least `idle` ago; with [`Keep::Nothing`] they
/// are forgotten. A thread that is written meanwhile is left for the next sweep.
///
/// # Errors
///
/// What the saver gives; what was pruned until then stays pruned.
///
/// # Cancel safety
///
/// A dropped sweep has pruned some threads; one may stay taken for half a minute.
pub async fn sweep(saver: &dyn Threads, idle: Duration, keep: Keep) -> Result<Swept, SaverError> {
    let mut swept = Swept::default();
    let mut after = None;
    loop {
        let page = saver.threads(idle, after.as_ref(), PAGE).await?;
        for entry in &page {
            if let Some(removed) = prune(saver, entry, keep).await? {
                swept.threads += 1;
                swept.checkpoints += removed;
            }
        }
        match page.into_iter().last() {
            Some(last) => after = Some(last.thread),
            None => return Ok(swept),
        }
    }
}

async fn prune(
    saver: &dyn Threads,
    entry: &ThreadEntry,
    keep: Keep,
) -> Result<Option<u64>, SaverError> {
    let lease = match saver.acquire(&entry.thread, LEASE, Claim::IfFree).await {
        Ok(lease) => lease,
        Err(SaverError::Busy { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    // It is not idle any more if it was written between the list and the lease.
    let removed = match lease.last == entry.last {
        true => saver.prune(&lease, keep).await.map(Some),
        false => Ok(None),
    };
    // A failure only delays others until the lease can be taken.
    let _ends_by_itself = saver.release(&lease).await;
    removed
}
