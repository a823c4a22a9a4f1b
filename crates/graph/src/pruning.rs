//! The removal of old checkpoints while a thread is written.
//!
//! Invariant: a removal that fails costs no run; it is told, and tried again after the next
//! checkpoint. Deliberately absent: which checkpoints survive, which the saver decides.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::saver::{CheckpointId, Keep, Lease, Saver, SaverError};

/// What is removed of one thread, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Pruning {
    /// How many checkpoints of each namespace the thread keeps at least, if not all.
    keep: Option<NonZeroU32>,
    /// The number of times that `keep` fits into the last checkpoint id that was pruned at.
    done: AtomicU64,
    /// Why the last one failed, until it was told.
    failure: Mutex<Option<SaverError>>,
}

impl Pruning {
    /// Keeps so many checkpoints of a thread whose last one has this id.
    pub(crate) fn new(keep: Option<NonZeroU32>, last: u64) -> Self {
        Self {
            keep,
            done: keep.map_or(0, |keep| last / u64::from(keep.get())).into(),
            failure: Mutex::default(),
        }
    }

    /// Removes old checkpoints, once for as many new ones as are kept: the work of it is
    /// shared out, and a thread holds at most about twice that many.
    pub(crate) async fn run(&self, saver: &dyn Saver, lease: &Lease, stored: CheckpointId) {
        let Some(keep) = self.keep else {
            return;
        };
        let times = stored.0 / u64::from(keep.get());
        if self.done.load(Ordering::Relaxed) >= times {
            return;
        }
        match saver.prune(lease, Keep::Last(keep.get())).await {
            Ok(_removed) => {
                self.done.fetch_max(times, Ordering::Relaxed);
            }
            Err(failure) => *self.failure() = Some(failure),
        }
    }

    /// Why the last removal failed, if it did and that was not told yet.
    pub(crate) fn take_failure(&self) -> Option<SaverError> {
        self.keep.and_then(|_| self.failure().take())
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<SaverError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
