//! The cache: this process first, then what processes share, then the source.
//!
//! Invariant: a value loaded before an invalidation is not kept after it, and no look-up that
//! began after an invalidation in this process gives what was there before it.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::TenantId;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};

use crate::{
    Announcer, CacheConfig, CacheStats, CacheTier, ConfigError, Glob, Heard, LoadError,
    MAX_KEY_BYTES, Namespace, Selection,
    flight::{Flights, Pilot},
    key::{KeyRef, LocalKey},
    local::{Local, Slot},
    metrics::{self, Handles},
    recent::{Mark, Recent},
    shared::{Passed, Shared},
    stats::{Counts, count},
};

/// How soon a value past its time is fetched again after the source failed.
const FETCH_AGAIN: Duration = Duration::from_secs(1);

/// Values of one kind. Clones share everything.
pub struct Cache<T> {
    inner: Arc<Inner<T>>,
}

/// What a look-up without a source finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked<T> {
    /// A value.
    Found(Arc<T>),
    /// The knowledge that there is no value.
    Absent,
    /// Nothing.
    Unknown,
}

/// What an invalidation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// Entries that this process forgot.
    pub local: u64,
    /// Entries that the shared tier forgot; `None` without one, or when it is out of reach:
    /// then it is told once it is back, and nothing is read from it before.
    pub shared: Option<u64>,
}

struct Inner<T> {
    namespace: Namespace,
    config: CacheConfig,
    local: Local<T>,
    flights: Flights<T>,
    recent: Mutex<Recent>,
    shared: Option<Arc<Shared>>,
    counts: Counts,
    handles: Handles,
    listener: OnceLock<AbortHandle>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<T> {
    /// A cache of this process alone. Make it after the recorder of metrics was installed.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a limit is outside its range.
    pub fn new(namespace: Namespace, config: CacheConfig) -> Result<Self, ConfigError> {
        Self::over(namespace, config, None)
    }

    /// A cache in front of a tier that processes share, whose invalidations it hears. Needs a
    /// tokio runtime with time, on which it listens until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a limit is outside its range.
    pub fn with_shared<S: CacheTier + Announcer + 'static>(
        namespace: Namespace,
        config: CacheConfig,
        tier: Arc<S>,
    ) -> Result<Self, ConfigError> {
        let limits = (config.shared_timeout, config.sweep_timeout);
        let announcer: Arc<dyn Announcer> = tier.clone();
        let shared = Arc::new(Shared::new(tier, announcer, namespace.clone(), limits));
        let cache = Self::over(namespace, config, Some(Arc::clone(&shared)))?;
        let mut heard = shared.listen();
        let inner = Arc::downgrade(&cache.inner);
        let listener = tokio::spawn(async move {
            while let Some(heard) = heard.next().await {
                let Some(inner) = inner.upgrade() else { return };
                inner.hear(heard);
            }
        });
        // It was just made, so nobody set it before.
        let _ = cache.inner.listener.set(listener.abort_handle());
        Ok(cache)
    }

    fn over(
        namespace: Namespace,
        config: CacheConfig,
        shared: Option<Arc<Shared>>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let evictions = metrics::evictions(&namespace);
        Ok(Self {
            inner: Arc::new(Inner {
                handles: Handles::new(&namespace, shared.is_some()),
                local: Local::new(config.max_bytes, move || evictions.increment(1)),
                namespace,
                config,
                flights: Flights::new(),
                recent: Mutex::default(),
                shared,
                counts: Counts::default(),
                listener: OnceLock::new(),
            }),
        })
    }

    /// The value of a key: from this process, else from the shared tier, else from `load`,
    /// whose `None` means that there is no such value.
    ///
    /// Equal calls at one time are one load, whose result all get. A value past its time is
    /// given at once where the configuration allows it, and fetched again in the background.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the source fails or is slow; nothing is kept then. No failure of the
    /// shared tier is an error.
    ///
    /// # Cancel safety
    ///
    /// A load once begun goes on without its callers, for its time-out at most, so that the
    /// work is not lost on those who come next.
    pub async fn get_or_load<F, R, E>(
        &self,
        tenant: &TenantId,
        key: &str,
        load: F,
    ) -> Result<Option<Arc<T>>, LoadError>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = Result<Option<T>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let inner = &self.inner;
        let at = KeyRef { tenant, text: key };
        if key.len() > MAX_KEY_BYTES {
            return Ok(inner.load(load).await?.map(Arc::new));
        }
        let now = Instant::now();
        if let Some(slot) = inner.local.get(at, now) {
            inner.hit();
            if !slot.is_fresh(now) {
                count(&inner.counts.stale);
                if let (_, Some(pilot)) = inner.flights.join(at) {
                    tokio::spawn(Arc::clone(inner).lead(pilot, load, Purpose::Refresh));
                }
            }
            return Ok(slot.value.clone());
        }
        inner.miss();
        let (waiting, pilot) = inner.flights.join(at);
        match pilot {
            Some(pilot) => {
                tokio::spawn(Arc::clone(inner).lead(pilot, load, Purpose::Answer));
            }
            None => count(&inner.counts.joined),
        }
        waiting.landed().await
    }

    /// What this process or the shared tier has under a key, in its time.
    pub async fn look_up(&self, tenant: &TenantId, key: &str) -> Looked<T> {
        if key.len() > MAX_KEY_BYTES {
            return Looked::Unknown;
        }
        let (inner, now) = (&self.inner, Instant::now());
        let at = KeyRef { tenant, text: key };
        let local = inner.local.get(at, now).filter(|slot| slot.is_fresh(now));
        let slot = match local {
            Some(slot) => {
                inner.hit();
                Some(slot)
            }
            None => {
                inner.miss();
                let mark = inner.recent().mark();
                let found = inner.ask_shared(&at.to_owned(), mark).await;
                inner.settle_figures();
                found.filter(|slot| slot.is_fresh(Instant::now()))
            }
        };
        match slot.map(|slot| slot.value.clone()) {
            Some(Some(value)) => Looked::Found(value),
            Some(None) => Looked::Absent,
            None => Looked::Unknown,
        }
    }

    /// Keeps a value, `None` being its absence, for `ttl` or the configured time, in place of
    /// an earlier one in all processes. Says whether it is kept: one that is too large is not.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the value may be in this process only, or in the shared tier without others
    /// having heard of it; they keep an earlier one until its time is over.
    pub async fn put(
        &self,
        tenant: &TenantId,
        key: &str,
        value: Option<T>,
        ttl: Option<Duration>,
    ) -> bool {
        let selection = self.selection(Some(tenant), Glob::literal(key));
        self.inner.outdate(&selection);
        let kept = self.fill(tenant, key, value, ttl).await;
        let inner = &self.inner;
        let Some(shared) = &inner.shared else {
            return kept;
        };
        match kept {
            true => shared.announce(selection).await,
            false => {
                shared.invalidate(selection).await;
            }
        }
        kept
    }

    /// Keeps a value as [`put`](Self::put) does where there was none, or always the same one:
    /// nobody else is told.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the value may be in this process only.
    pub async fn fill(
        &self,
        tenant: &TenantId,
        key: &str,
        value: Option<T>,
        ttl: Option<Duration>,
    ) -> bool {
        if key.len() > MAX_KEY_BYTES {
            return false;
        }
        let inner = &self.inner;
        let key = KeyRef { tenant, text: key }.to_owned();
        let mark = inner.recent().mark();
        let value = value.map(Arc::new);
        let Some(kept) = inner.keep(&key, value.as_ref(), ttl, mark) else {
            return false;
        };
        inner.share(&key, &kept, mark).await;
        true
    }

    /// Forgets a key in this process, in the shared tier and in all processes that hear of it.
    ///
    /// # Cancel safety
    ///
    /// This process forgets it at once; dropped, the shared tier is told before it is next
    /// read.
    pub async fn delete(&self, tenant: &TenantId, key: &str) -> Invalidated {
        let selection = self.selection(Some(tenant), Glob::literal(key));
        self.inner.forget(selection).await
    }

    /// Forgets the tenant's keys that a pattern matches (see [`Glob`]), as
    /// [`delete`](Self::delete) does. Text that comes from users belongs in
    /// [`Glob::literal`]. It reads all keys in this process and in the shared tier.
    ///
    /// # Cancel safety
    ///
    /// As [`delete`](Self::delete).
    pub async fn invalidate_pattern(&self, tenant: &TenantId, glob: &Glob) -> Invalidated {
        let selection = self.selection(Some(tenant), glob.clone());
        self.inner.forget(selection).await
    }

    /// Forgets everything of the namespace, of all tenants: the operator's call.
    ///
    /// # Cancel safety
    ///
    /// As [`delete`](Self::delete).
    pub async fn clear(&self) -> Invalidated {
        let selection = self.selection(None, Glob::all());
        self.inner.forget(selection).await
    }

    /// What the cache did since it was made; asks the shared tier for its part.
    pub async fn get_stats(&self) -> CacheStats {
        let inner = &self.inner;
        let (entries, bytes, evictions) = inner.local.settle();
        let mut stats = CacheStats {
            entries,
            bytes,
            evictions,
            ..inner.counts.read()
        };
        if let Some(shared) = &inner.shared {
            stats.shared = shared.stats().await.ok();
            stats.shared_is_up = Some(shared.is_open());
        }
        if let Some(shared) = &stats.shared {
            inner.handles.shared_size.set(shared.size_bytes as f64);
        }
        inner.settle_figures();
        stats
    }

    /// The cache's namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    fn selection(&self, tenant: Option<&TenantId>, glob: Glob) -> Selection {
        Selection {
            namespace: self.inner.namespace.clone(),
            tenant: tenant.cloned(),
            glob,
        }
    }
}

/// Why a load is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Somebody waits for it.
    Answer,
    /// What is there is past its time.
    Refresh,
}

/// What was kept, as the shared tier gets it.
struct Kept {
    json: Vec<u8>,
    ttl: Duration,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Inner<T> {
    async fn lead<F, R, E>(self: Arc<Self>, pilot: Pilot<T>, load: F, purpose: Purpose)
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

    async fn load<F, R, E>(&self, load: F) -> Result<Option<T>, LoadError>
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
    async fn ask_shared(&self, key: &LocalKey, mark: Mark) -> Option<Arc<Slot<T>>> {
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
    fn keep(
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

    fn keep_slot(&self, key: &LocalKey, slot: &Arc<Slot<T>>, mark: Mark) -> bool {
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
    fn put_off(&self, key: &LocalKey, mark: Mark) {
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
    async fn share(&self, key: &LocalKey, kept: &Kept, mark: Mark) {
        let Some(shared) = &self.shared else { return };
        let key_there = key.in_namespace(&self.namespace);
        // One that fails is only missed.
        let _ = shared.set(&key_there, &kept.json, kept.ttl).await;
        let spoiled = self.recent().spoils(key, mark);
        if spoiled {
            shared.invalidate(Selection::exactly(&key_there)).await;
        }
    }

    async fn forget(&self, selection: Selection) -> Invalidated {
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
    fn outdate(&self, selection: &Selection) -> u64 {
        self.recent().add(selection.clone());
        self.flights.part(selection);
        self.local.sweep(selection)
    }

    fn hear(&self, heard: Heard) {
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

    fn hit(&self) {
        count(&self.counts.local_hits);
        self.handles.local_hits.increment(1);
    }

    fn miss(&self) {
        count(&self.counts.local_misses);
        self.handles.local_misses.increment(1);
    }

    fn settle_figures(&self) {
        self.handles.hit_rate.set(self.counts.read().hit_rate());
        self.handles.local_size.set(self.local.bytes() as f64);
    }

    /// Poison is ignored: every change is complete.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.inner.namespace)
            .field("config", &self.inner.config)
            .field("shared", &self.inner.shared)
            .finish_non_exhaustive()
    }
}
