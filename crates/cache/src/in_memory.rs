//! The reference of the shared tier's ports: plain maps in this process.
//!
//! It is shared by the caches that are given the same one, as in tests and where one process
//! is all there is. Bounded: what dies first goes first.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use crate::{
    Announcements, Announcer, CacheTier, Heard, Invalidation, Key, Selection, Stored, TierError,
    TierStats,
};

/// How many announcements a slow listener may be behind.
const BEHIND: usize = 1024;

/// What one entry takes beside its text and its value, about.
const ENTRY_BYTES: u64 = 128;

/// A tier in memory.
#[derive(Debug)]
pub struct InMemoryTier {
    held: Mutex<Held>,
    max_bytes: u64,
    announcements: broadcast::Sender<Invalidation>,
}

#[derive(Debug, Default)]
struct Held {
    entries: HashMap<Key, (Vec<u8>, Instant)>,
    bytes: u64,
    evictions: u64,
}

impl Default for InMemoryTier {
    fn default() -> Self {
        Self::new(64 << 20)
    }
}

impl InMemoryTier {
    /// Holds so many bytes at most.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self {
            held: Mutex::default(),
            max_bytes,
            announcements: broadcast::channel(BEHIND).0,
        }
    }

    /// Poison is ignored: every change is complete.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(key: &Key, value: &[u8]) -> u64 {
    (key.text.len() + value.len()) as u64 + ENTRY_BYTES
}

impl Held {
    fn remove(&mut self, key: &Key) -> bool {
        let Some((value, _)) = self.entries.remove(key) else {
            return false;
        };
        self.bytes -= weight(key, &value);
        true
    }

    fn first_to_die(&self) -> Option<Key> {
        let entries = self.entries.iter();
        let first = entries.min_by_key(|(_, (_, until))| *until)?;
        Some(first.0.clone())
    }
}

#[async_trait]
impl CacheTier for InMemoryTier {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, TierError> {
        let mut held = self.held();
        let Some((value, until)) = held.entries.get(key) else {
            return Ok(None);
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            held.remove(key);
            return Ok(None);
        }
        let value = value.clone();
        Ok(Some(Stored { value, left }))
    }

    async fn set(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<(), TierError> {
        let mut held = self.held();
        held.remove(key);
        held.bytes += weight(key, value);
        let entry = (value.to_vec(), Instant::now() + ttl);
        held.entries.insert(key.clone(), entry);
        while held.bytes > self.max_bytes
            && let Some(first) = held.first_to_die()
        {
            held.remove(&first);
            held.evictions += 1;
        }
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool, TierError> {
        Ok(self.held().remove(key))
    }

    async fn delete_pattern(&self, selection: &Selection) -> Result<u64, TierError> {
        let mut held = self.held();
        let chosen = held.entries.keys().filter(|key| selection.holds(key));
        let chosen: Vec<Key> = chosen.cloned().collect();
        for key in &chosen {
            held.remove(key);
        }
        Ok(chosen.len() as u64)
    }

    async fn stats(&self) -> Result<TierStats, TierError> {
        let held = self.held();
        Ok(TierStats {
            size_bytes: held.bytes,
            max_bytes: self.max_bytes,
            evictions: held.evictions,
        })
    }
}

#[async_trait]
impl Announcer for InMemoryTier {
    async fn announce(&self, invalidation: &Invalidation) -> Result<(), TierError> {
        // Nobody may be listening.
        let _ = self.announcements.send(invalidation.clone());
        Ok(())
    }

    fn listen(&self) -> Announcements {
        let receiver = self.announcements.subscribe();
        let heard = stream::unfold(receiver, |mut receiver| async move {
            let heard = match receiver.recv().await {
                Ok(invalidation) => Heard::Invalidation(invalidation),
                Err(RecvError::Lagged(_)) => Heard::Gap,
                Err(RecvError::Closed) => return None,
            };
            Some((heard, receiver))
        });
        stream::once(async { Heard::Gap }).chain(heard).boxed()
    }
}
