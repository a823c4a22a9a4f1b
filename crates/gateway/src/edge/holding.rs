//! How much one key, or one user by token, has at once: requests, streams, WebSockets.
//!
//! Invariant: what is held never exceeds the limit, however many ask at once, and is free
//! again when its [`Hold`] is dropped. Counters outlive a change of the limit.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use metrics::counter;

use super::rate::{Policy, Standings};
use crate::{error::ApiError, metrics::RATE_LIMITED};

/// A limit, and what is held of it.
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    policy: Policy,
    limit: u32,
    held: Arc<AtomicU32>,
}

/// One of what is limited; dropping it frees its place.
#[derive(Debug)]
#[must_use = "dropping a hold frees its place"]
pub(crate) struct Hold(Arc<AtomicU32>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Holding {
    pub(crate) fn new(policy: Policy, limit: u32, held: Arc<AtomicU32>) -> Self {
        Self {
            policy,
            limit,
            held,
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`ApiError::AtOnce`].
    pub(crate) fn take(&self, standings: &mut Standings) -> Result<Hold, ApiError> {
        let fits = |held: u32| (held < self.limit).then_some(held + 1);
        let taken = self
            .held
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, fits);
        let left = taken.map_or(0, |before| self.limit - before - 1);
        standings.note(Standing {
            policy: self.policy,
            limit: self.limit,
            left,
        });
        match taken {
            Ok(_) => Ok(Hold(Arc::clone(&self.held))),
            Err(_) => {
                counter!(RATE_LIMITED, "by" => self.policy.label()).increment(1);
                Err(ApiError::AtOnce {
                    what: self.policy.label(),
                    limit: self.limit,
                })
            }
        }
    }

    /// The limit and what is held of it.
    pub(crate) fn count(&self) -> (u32, u32) {
        (self.limit, self.held.load(Ordering::Relaxed))
    }
}

/// Where a request stands with such a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    policy: Policy,
    limit: u32,
    left: u32,
}

impl Standing {
    /// Adds its members to the two headers.
    pub(super) fn write(self, policies: &mut String, standings: &mut String) {
        let comma = if policies.is_empty() { "" } else { ", " };
        let (name, limit, left) = (self.policy.label(), self.limit, self.left);
        // Writing to a string never fails.
        let _ = write!(
            policies,
            "{comma}\"{name}\";q={limit};qu=\"concurrent-requests\""
        );
        let _ = write!(standings, "{comma}\"{name}\";r={left}");
    }
}

/// The limits of streams, by the number of their owner.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamCaps(Arc<RwLock<HashMap<usize, Holding>>>);

impl StreamCaps {
    /// Sets or removes an owner's limit.
    pub(crate) fn set(&self, owner: usize, cap: Option<Holding>) {
        let mut caps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match cap {
            Some(cap) => caps.insert(owner, cap),
            None => caps.remove(&owner),
        };
    }

    /// Takes a place of an owner's.
    ///
    /// # Errors
    ///
    /// [`ApiError::AtOnce`].
    pub(crate) fn take(&self, owner: usize) -> Result<Option<Hold>, ApiError> {
        let cap = self.of(owner);
        let take = |cap: Holding| cap.take(&mut Standings::default());
        cap.map(take).transpose()
    }

    /// An owner's limit, where there is one.
    pub(crate) fn of(&self, owner: usize) -> Option<Holding> {
        let caps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        caps.get(&owner).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_never_hold_more_than_the_limit() {
        let holding = Holding::new(Policy::KeyRequests, 7, Arc::default());
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Ok(_hold) = holding.take(&mut Standings::default()) {
                            most.fetch_max(holding.count().1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!((1..=7).contains(&most.load(Ordering::Relaxed)));
        assert_eq!(holding.count(), (7, 0));
    }

    #[test]
    fn a_lower_limit_counts_what_is_held_already() {
        let held = Arc::default();
        let before = Holding::new(Policy::KeyStreams, 2, Arc::clone(&held));
        let first = before.take(&mut Standings::default()).unwrap();
        let after = Holding::new(Policy::KeyStreams, 1, held);
        assert!(after.take(&mut Standings::default()).is_err());
        drop(first);
        assert!(after.take(&mut Standings::default()).is_ok());
    }
}
