//! The tier inside this process: moka's TinyLFU, bounded in bytes.
//!
//! Invariant: what is given was put less than its time ago, by the runtime's clock. moka's
//! own clock only frees memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use moka::{Expiry, notification::RemovalCause, sync};
use tokio::time::Instant;

use crate::{
    Selection,
    key::{KeyRef, LocalKey},
};

/// What an entry takes beside its text and its value, about: moka's node, two `Arc`s, times.
const ENTRY_BYTES: usize = 256;

/// A value, or the knowledge that there is none.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    pub(crate) value: Option<Arc<T>>,
    /// Until when it is given without a second thought.
    pub(crate) fresh_until: Instant,
    /// Until when it is given at all.
    pub(crate) until: Instant,
    /// Bytes of its JSON.
    pub(crate) bytes: usize,
}

impl<T> Slot<T> {
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }
}

/// The entries of one cache.
pub(crate) struct Local<T> {
    slots: sync::Cache<LocalKey, Arc<Slot<T>>>,
    evictions: Arc<AtomicU64>,
}

/// Frees memory once nothing can be given any more.
struct UntilUseless;

impl<T> Expiry<LocalKey, Arc<Slot<T>>> for UntilUseless {
    fn expire_after_create(
        &self,
        _: &LocalKey,
        slot: &Arc<Slot<T>>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(slot.until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        _: &LocalKey,
        slot: &Arc<Slot<T>>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(slot.until.saturating_duration_since(Instant::now()))
    }
}

impl<T: Send + Sync + 'static> Local<T> {
    pub(crate) fn new(max_bytes: u64, evicted: impl Fn() + Send + Sync + 'static) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&evictions);
        let weigh = |key: &LocalKey, slot: &Arc<Slot<T>>| {
            let bytes = slot.bytes + key.text.len() + ENTRY_BYTES;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let slots = sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(weigh)
            .expire_after(UntilUseless)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    count.fetch_add(1, Relaxed);
                    evicted();
                }
            })
            .build();
        Self { slots, evictions }
    }

    /// What is held and may be given.
    pub(crate) fn get(&self, key: KeyRef<'_>, now: Instant) -> Option<Arc<Slot<T>>> {
        self.slots.get(&key).filter(|slot| now < slot.until)
    }

    pub(crate) fn put(&self, key: LocalKey, slot: Arc<Slot<T>>) {
        self.slots.insert(key, slot);
    }

    pub(crate) fn remove(&self, key: KeyRef<'_>) -> bool {
        self.slots.remove(&key).is_some()
    }

    /// Forgets what is selected; reads all entries unless only one is.
    pub(crate) fn sweep(&self, selection: &Selection) -> u64 {
        if let (Some(text), Some(tenant)) = (selection.glob.as_literal(), &selection.tenant) {
            let text = text.as_str();
            return u64::from(self.remove(KeyRef { tenant, text }));
        }
        let chosen = self
            .slots
            .iter()
            .filter(|(key, _)| selection.holds_text(&key.tenant, &key.text));
        let chosen: Vec<Arc<LocalKey>> = chosen.map(|(key, _)| key).collect();
        for key in &chosen {
            self.slots.invalidate(&**key);
        }
        chosen.len() as u64
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        // `invalidate_all` goes by time stamps; what is put in the same instant must stay.
        for (key, _) in &self.slots {
            self.slots.invalidate(&*key);
        }
    }

    /// Entries, bytes and evictions so far, after what was put off is done.
    pub(crate) fn settle(&self) -> (u64, u64, u64) {
        self.slots.run_pending_tasks();
        let (entries, bytes) = (self.slots.entry_count(), self.slots.weighted_size());
        (entries, bytes, self.evictions.load(Relaxed))
    }

    /// Bytes, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.slots.weighted_size()
    }
}

impl<T> std::fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}
