//! A bound on calls at one time that never waits, so that one slow dependency cannot
//! hold all tasks. For a bound that waits, fairly and with deadlines, see
//! [`Queue`](crate::Queue) with a concurrency quota.
//!
//! Invariant: `inside <= limit`; a dropped permit always leaves.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// All places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("enter the bulkhead: all {limit} places are taken")]
pub struct BulkheadFull {
    /// How many places there are.
    pub limit: u32,
}

/// See the module's text. Clones are the same bulkhead.
#[derive(Debug, Clone)]
pub struct Bulkhead {
    limit: u32,
    inside: Arc<AtomicU32>,
}

/// A place in a [`Bulkhead`], free again when dropped.
#[derive(Debug)]
#[must_use = "dropping a permit leaves the bulkhead"]
pub struct BulkheadPermit {
    inside: Arc<AtomicU32>,
}

impl Bulkhead {
    /// A bulkhead with this many places; zero lets nobody in.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            inside: Arc::default(),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`BulkheadFull`] when none is free.
    pub fn enter(&self) -> Result<BulkheadPermit, BulkheadFull> {
        let limit = self.limit;
        self.inside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |inside| {
                (inside < limit).then_some(inside + 1)
            })
            .map_err(|_| BulkheadFull { limit })?;
        Ok(BulkheadPermit {
            inside: Arc::clone(&self.inside),
        })
    }

    /// How many places are taken.
    #[must_use]
    pub fn inside(&self) -> u32 {
        self.inside.load(Ordering::Acquire)
    }
}

impl Drop for BulkheadPermit {
    fn drop(&mut self) {
        self.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_makes_room() {
        let bulkhead = Bulkhead::new(1);
        let permit = bulkhead.enter().unwrap();
        assert_eq!(bulkhead.enter().unwrap_err(), BulkheadFull { limit: 1 });
        drop(permit);
        assert!(bulkhead.enter().is_ok());
        assert_eq!(bulkhead.inside(), 0);
    }
}
