//! Remembers vectors by the content of their texts.
//!
//! Invariant: at most so many bytes of vectors are held, none longer than its time, and
//! no tenant's text finds another tenant's vector, so that nobody learns by timing what
//! others embedded. Texts themselves are not held, only their SHA-256.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use hashlink::LruCache;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings, Usage, Vector};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// What one entry takes beside its vector, about: key, time, two links and a pointer.
const ENTRY_OVERHEAD: usize = 128;

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedCacheConfig {
    /// The most memory for vectors, in bytes; zero remembers nothing. Default 64 MiB,
    /// which is about 10,000 vectors of 1,536 numbers.
    pub max_bytes: usize,
    /// How long a vector is used. Default 24 h.
    pub lifetime: Duration,
}

impl Default for EmbedCacheConfig {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            lifetime: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What a cache did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Texts whose vectors were remembered.
    pub hits: u64,
    /// Texts that were embedded.
    pub misses: u64,
    /// Vectors held now.
    pub entries: usize,
}

type Key = [u8; 32];

/// See the module's text. Clones share the cache.
#[derive(Clone)]
pub struct CachedEmbedder {
    embedder: Arc<dyn Embedder>,
    lifetime: Duration,
    shared: Arc<Shared>,
}

struct Shared {
    known: Mutex<LruCache<Key, (Vector, Instant)>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl CachedEmbedder {
    /// Remembers vectors of `embedder`.
    #[must_use]
    pub fn new(embedder: impl Embedder + 'static, config: EmbedCacheConfig) -> Self {
        let entry = embedder.dimensions() * size_of::<f32>() + ENTRY_OVERHEAD;
        let known = Mutex::new(LruCache::new(config.max_bytes / entry));
        Self {
            embedder: Arc::new(embedder),
            lifetime: config.lifetime,
            shared: Arc::new(Shared {
                known,
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
            }),
        }
    }

    /// What the cache did so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.shared.hits.load(Relaxed),
            misses: self.shared.misses.load(Relaxed),
            entries: self.known().len(),
        }
    }

    fn key(&self, call: &CallContext, kind: EmbedKind, text: &str) -> Key {
        let mut hash = Sha256::new();
        let parts = [call.scope.tenant.as_str(), self.model(), kind.label(), text];
        for part in parts {
            // Lengths keep neighbours apart.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// The vectors that are known and young enough.
    fn look_up(&self, keys: &[Key], now: Instant) -> Vec<Option<Vector>> {
        let mut known = self.known();
        let found = keys.iter().map(|key| {
            let (vector, since) = known.get(key)?;
            if now.saturating_duration_since(*since) < self.lifetime {
                return Some(Arc::clone(vector));
            }
            known.remove(key);
            None
        });
        found.collect()
    }

    /// Poison is ignored: every change of the map is complete.
    fn known(&self) -> MutexGuard<'_, LruCache<Key, (Vector, Instant)>> {
        let known = self.shared.known.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Embedder for CachedEmbedder {
    fn model(&self) -> &str {
        self.embedder.model()
    }

    fn dimensions(&self) -> usize {
        self.embedder.dimensions()
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let keys: Vec<Key> = texts.iter().map(|t| self.key(call, kind, t)).collect();
        let mut vectors = self.look_up(&keys, Instant::now());
        // A text that comes twice is embedded once.
        let mut asked: Vec<Arc<str>> = Vec::new();
        let mut places: HashMap<Key, usize> = HashMap::new();
        for (at, _) in vectors.iter().enumerate().filter(|(_, v)| v.is_none()) {
            places.entry(keys[at]).or_insert_with(|| {
                asked.push(Arc::clone(&texts[at]));
                asked.len() - 1
            });
        }
        self.shared.misses.fetch_add(asked.len() as u64, Relaxed);
        let hits = texts.len() - asked.len();
        self.shared.hits.fetch_add(hits as u64, Relaxed);
        let mut usage = Usage::default();
        if !asked.is_empty() {
            let fresh = self.embedder.embed(call, kind, &asked).await?;
            fresh.check(asked.len(), self.dimensions())?;
            usage = fresh.usage;
            let missing = keys.iter().zip(&mut vectors).filter(|(_, v)| v.is_none());
            for (key, vector) in missing {
                *vector = places.get(key).map(|&at| Arc::clone(&fresh.vectors[at]));
            }
            let mut known = self.known();
            let now = Instant::now();
            for (key, at) in places {
                known.insert(key, (Arc::clone(&fresh.vectors[at]), now));
            }
        }
        Ok(Embeddings {
            vectors: vectors.into_iter().flatten().collect(),
            usage,
        })
    }
}

impl std::fmt::Debug for CachedEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedEmbedder")
            .field("embedder", &self.embedder)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
