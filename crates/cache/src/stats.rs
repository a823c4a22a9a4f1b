//! What a cache did since it was made.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::TierStats;

/// What a cache did since it was made, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CacheStats {
    /// Look-ups that this process answered.
    pub local_hits: u64,
    /// Look-ups that it did not.
    pub local_misses: u64,
    /// Of the misses, those that the shared tier answered.
    pub shared_hits: u64,
    /// Of the misses, those that the shared tier was asked and had nothing for.
    pub shared_misses: u64,
    /// Of the misses, those for which the shared tier failed.
    pub shared_failures: u64,
    /// Of the misses, those for which it was not asked because it had failed before.
    pub shared_skipped: u64,
    /// Of the misses, those that waited for a load of somebody else.
    pub joined: u64,
    /// Of the hits, those past their time, given while a new value was fetched.
    pub stale: u64,
    /// Values that the source was asked for.
    pub loads: u64,
    /// Of the loads, those that failed.
    pub load_failures: u64,
    /// Entries in this process.
    pub entries: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// Entries that this process dropped for space.
    pub evictions: u64,
    /// Whether the shared tier is asked at the moment; `None` without one.
    pub shared_is_up: Option<bool>,
    /// What the shared tier says of itself, where it answers.
    pub shared: Option<TierStats>,
}

impl CacheStats {
    /// The share of look-ups that this process or the shared tier answered, 0 to 1.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        match self.local_hits + self.local_misses {
            0 => 0.0,
            all => (self.local_hits + self.shared_hits) as f64 / all as f64,
        }
    }
}

/// The counters behind it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) local_hits: AtomicU64,
    pub(crate) local_misses: AtomicU64,
    pub(crate) shared_hits: AtomicU64,
    pub(crate) shared_misses: AtomicU64,
    pub(crate) shared_failures: AtomicU64,
    pub(crate) shared_skipped: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) loads: AtomicU64,
    pub(crate) load_failures: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counts {
    pub(crate) fn read(&self) -> CacheStats {
        CacheStats {
            local_hits: self.local_hits.load(Relaxed),
            local_misses: self.local_misses.load(Relaxed),
            shared_hits: self.shared_hits.load(Relaxed),
            shared_misses: self.shared_misses.load(Relaxed),
            shared_failures: self.shared_failures.load(Relaxed),
            shared_skipped: self.shared_skipped.load(Relaxed),
            joined: self.joined.load(Relaxed),
            stale: self.stale.load(Relaxed),
            loads: self.loads.load(Relaxed),
            load_failures: self.load_failures.load(Relaxed),
            ..CacheStats::default()
        }
    }
}
