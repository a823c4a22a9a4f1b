//! One turn of a conversation at a time.
//!
//! Invariant: an entry that is in use is never removed; ended ones are, so the map stays
//! within twice the number of turns under way, or small.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use lyceum_core::Scope;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// From this many entries on those of ended turns are removed before the map grows.
const SWEEP_ABOVE: usize = 1_024;

/// The conversations in whose turn somebody is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    open: Mutex<HashMap<Scope, Weak<AsyncMutex<()>>>>,
}

impl Turns {
    /// Waits until no other turn of the conversation is under way; first come, first served.
    /// The turn ends when the guard is dropped.
    pub(super) async fn begin(&self, scope: &Scope) -> OwnedMutexGuard<()> {
        self.lock(scope).lock_owned().await
    }

    fn lock(&self, scope: &Scope) -> Arc<AsyncMutex<()>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = open.get(scope).and_then(Weak::upgrade) {
            return lock;
        }
        // Before the map would grow, so that the work is shared by as many turns as it holds.
        if open.len() >= SWEEP_ABOVE && open.len() == open.capacity() {
            open.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(AsyncMutex::new(()));
        open.insert(scope.clone(), Arc::downgrade(&lock));
        lock
    }
}
