//! What happens behind a look-up: the source is asked, values are kept here and shared, what was
//! invalidated is forgotten.
//!
//! Invariant: a value is kept only where nothing spoiled it since its load began. Deliberately
//! absent: which look-ups there are.

use std::{
    error::Error,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout};

use super::{Inner, Invalidated};
use crate::{
    Glob, Heard, LoadError, Selection,
    flight::Pilot,
    key::{KeyRef, LocalKey},
    local::Slot,
    metrics,
    recent::{Mark, Recent},
    shared::Passed,
    stats::count,
};

/// How soon a value past its time is fetched again after the source failed.
const FETCH_AGAIN: Duration = Duration::from_secs(1);

/// Why a load is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody waits for it.
    Answer,
    /// What is there is past its time.
    Refresh,
}

/// What was kept, as the shared tier gets it.
pub(super) struct Kept {
    pub(super) json: Vec<u8>,
    pub(super) ttl: Duration,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Inner<T> {
    pub(super) async fn lead<F, R, E>(self: Arc<Self>, pilot: Pilot<T>, load: F, purpose: Purpose)
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = Result<Option<T>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let key = pilot.key().clone();
        let mark = self.recent().mark();
        let found = self.ask_shared(&key, mark).await;
        // To replace a value past its time takes a younger one.
        let good =
            |slot: &Arc<Slot<T>>| purpose == Purpose::Answer || slot.is_fresh(Instant::now());
        if let Some(slot) = found.filter(good) {
            pilot.land(Ok(slot.value.clone()));
            self.settle_figures();
            return;
        }
        match self.load(load).await {
            Ok(value) => {
                let value = value.map(Arc::new);
                let kept = self.keep(&key, value.as_ref(), None, mark);
                pilot.land(Ok(value));
                if let Some(kept) = kept {
                    self.share(&key, &kept, mark).await;
                }
            }
            Err(error) => {
                if purpose == Purpose::Refresh {
                    self.put_off(&key, mark);
                }
                pilot.land(Err(error));
            }
        }
        self.settle_figures();
    }

    pub(super) async fn load<F, R, E>(&self, load: F) -> Result<Option<T>, LoadError>
    where
        F: FnOnce() -> R,
        R: Future<Output = Result<Option<T>, E>>,
        E: Error + Send + Sync + 'static,
    {
        let began = Instant::now();
        count(&self.counts.loads);
        let after = self.config.load_timeout;
        let loaded = match timeout(after, load()).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(LoadError::Source {
                source: Arc::new(error),
            }),
            Err(_) => Err(LoadError::Timeout { after }),
        };
        let took = metrics::seconds(began.elapsed());
        self.handles.source_time.record(took);
        if loaded.is_err() {
            count(&self.counts.load_failures);
        }
        loaded
    }

    /// What the shared tier has, which is then kept in this process too.
    pub(super) async fn ask_shared(&self, key: &LocalKey, mark: Mark) -> Option<Arc<Slot<T>>> {
        let shared = self.shared.as_ref()?;
        let (began, counts) = (Instant::now(), &self.counts);
        let stored = match shared.get(&key.in_namespace(&self.namespace)).await {
            Ok(stored) => stored,
            Err(Passed::Skipped) => {
                count(&counts.shared_skipped);
                return None;
            }
            Err(Passed::Failed) => {
                count(&counts.shared_failures);
                return None;
            }
        };
        let took = metrics::seconds(began.elapsed());
        self.handles.shared_time.record(took);
        let read = stored.and_then(|stored| {
            // A list of one value, or of none.
            match serde_json::from_slice::<Vec<T>>(&stored.value) {
                Ok(mut values) => Some((values.pop(), stored.value.len(), stored.left)),
                Err(error) => {
                    metrics::unreadable(&self.namespace, &error);
                    None
                }
            }
        });
        let Some((value, bytes, left)) = read else {
            count(&counts.shared_misses);
            self.handles.shared_misses.increment(1);
            return None;
        };
        count(&counts.shared_hits);
        self.handles.shared_hits.increment(1);
        self.handles.ttl_remaining.record(metrics::seconds(left));
        let stale = match value {
            Some(_) => self.config.stale,
            None => Duration::ZERO,
        };
        let now = Instant::now();
        let slot = Arc::new(Slot {
            value: value.map(Arc::new),
            fresh_until: now + left.saturating_sub(stale),
            until: now + left,
            bytes,
        });
        self.keep_slot(key, &slot, mark);
        Some(slot)
    }

    /// Keeps a value in this process, unless it is too large or was invalidated since.
    pub(super) fn keep(
        &self,
        key: &LocalKey,
        value: Option<&Arc<T>>,
        ttl: Option<Duration>,
        mark: Mark,
    ) -> Option<Kept> {
        let config = &self.config;
        let (ttl, stale) = match value {
            Some(_) => (ttl.unwrap_or(config.ttl), config.stale),
            None => (ttl.unwrap_or(config.negative_ttl), Duration::ZERO),
        };
        let fresh = ttl.mul_f64(1.0 - config.jitter * rand::random::<f64>());
        // A shared tier counts in milliseconds.
        if fresh < Duration::from_millis(1) {
            return None;
        }
        let list: Vec<&T> = value.map(|value| &**value).into_iter().collect();
        let json = match serde_json::to_vec(&list) {
            Ok(json) if json.len() <= config.max_value_bytes.saturating_add(2) => json,
            Ok(_) => return None,
            Err(error) => {
                tracing::debug!(namespace = %self.namespace, %error, "a value has no JSON");
                return None;
            }
        };
        let now = Instant::now();
        let slot = Arc::new(Slot {
            value: value.cloned(),
            fresh_until: now + fresh,
            until: now + fresh + stale,
            bytes: json.len(),
        });
        self.keep_slot(key, &slot, mark).then(|| Kept {
            json,
            ttl: fresh + stale,
        })
    }

    pub(super) fn keep_slot(&self, key: &LocalKey, slot: &Arc<Slot<T>>, mark: Mark) -> bool {
        self.local.put(key.clone(), Arc::clone(slot));
        let spoiled = self.recent().spoils(key, mark);
        if spoiled {
            self.local.remove(KeyRef {
                tenant: &key.tenant,
                text: &key.text,
            });
        }
        !spoiled
    }

    /// Gives a value past its time for a little longer before the source is asked again.
    pub(super) fn put_off(&self, key: &LocalKey, mark: Mark) {
        let now = Instant::now();
        let at = KeyRef {
            tenant: &key.tenant,
            text: &key.text,
        };
        if let Some(slot) = self.local.get(at, now) {
            let slot = Slot {
                value: slot.value.clone(),
                fresh_until: (now + FETCH_AGAIN).min(slot.until),
                until: slot.until,
                bytes: slot.bytes,
            };
            self.keep_slot(key, &Arc::new(slot), mark);
        }
    }

    /// Hands to the shared tier what was kept.
    pub(super) async fn share(&self, key: &LocalKey, kept: &Kept, mark: Mark) {
        let Some(shared) = &self.shared else { return };
        let key_there = key.in_namespace(&self.namespace);
        // One that fails is only missed.
        let _ = shared.set(&key_there, &kept.json, kept.ttl).await;
        let spoiled = self.recent().spoils(key, mark);
        if spoiled {
            shared.invalidate(Selection::exactly(&key_there)).await;
        }
    }

    pub(super) async fn forget(&self, selection: Selection) -> Invalidated {
        let local = self.outdate(&selection);
        let Some(shared) = &self.shared else {
            return Invalidated {
                local,
                shared: None,
            };
        };
        let forgotten = shared.invalidate(selection.clone()).await;
        // What was read from the shared tier before it forgot came in between.
        self.outdate(&selection);
        Invalidated {
            local,
            shared: forgotten,
        }
    }

    /// Makes what is held and what is under way a thing of the past.
    pub(super) fn outdate(&self, selection: &Selection) -> u64 {
        self.recent().add(selection.clone());
        self.flights.part(selection);
        self.local.sweep(selection)
    }

    pub(super) fn hear(&self, heard: Heard) {
        match heard {
            Heard::Invalidation(heard) => {
                let selection = heard.selection.clone();
                let own = self.shared.as_ref().is_some_and(|s| s.is_own(&heard));
                if !own && selection.namespace == self.namespace {
                    self.outdate(&selection);
                }
            }
            Heard::Gap => {
                self.recent().add(Selection {
                    namespace: self.namespace.clone(),
                    tenant: None,
                    glob: Glob::all(),
                });
                self.flights.part_all();
                self.local.clear();
                if let Some(shared) = &self.shared {
                    shared.flush_behind();
                }
            }
        }
    }

    pub(super) fn hit(&self) {
        count(&self.counts.local_hits);
        self.handles.local_hits.increment(1);
    }

    pub(super) fn miss(&self) {
        count(&self.counts.local_misses);
        self.handles.local_misses.increment(1);
    }

    pub(super) fn settle_figures(&self) {
        self.handles.hit_rate.set(self.counts.read().hit_rate());
        self.handles.local_size.set(self.local.bytes() as f64);
    }

    /// Poison is ignored: every change is complete.
    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
