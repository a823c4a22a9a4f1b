//! The cache: this process first, then what processes share, then the source.
//!
//! Invariant: a value loaded before an invalidation is not kept after it, and no look-up that
//! began after an invalidation in this process gives what was there before it.

mod behind;

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::TenantId;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{task::AbortHandle, time::Instant};

use crate::{
    Announcer, CacheConfig, CacheStats, CacheTier, ConfigError, Glob, LoadError, MAX_KEY_BYTES,
    Namespace, Selection,
    flight::Flights,
    key::KeyRef,
    local::Local,
    metrics::{self, Handles},
    recent::Recent,
    shared::Shared,
    stats::{Counts, count},
};

use behind::Purpose;

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
