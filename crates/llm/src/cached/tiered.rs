//! Answers in the tiers of `lyceum-cache`, so that processes share them.
//!
//! Invariant: an answer is looked for under its tenant, which is a part of its key as well.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use lyceum_cache::{Cache, CacheConfig, Looked};
use lyceum_core::TenantId;

use super::{AnswerKey, AnswerStore, AnswerStoreError, CachedAnswer};

/// Keeps answers in a cache; see [`TieredAnswers::config`]. A shared tier that fails is not
/// this store's failure: then this process answers alone.
#[derive(Debug)]
pub struct TieredAnswers {
    cache: Cache<CachedAnswer>,
}

impl TieredAnswers {
    /// Keeps answers in this cache. It should belong to the namespace `answer`.
    #[must_use]
    pub fn new(cache: Cache<CachedAnswer>) -> Self {
        Self { cache }
    }

    /// The limits of a cache for answers that may take so many bytes in this process. How
    /// long each is kept is said when it is put.
    #[must_use]
    pub fn config(max_bytes: u64) -> CacheConfig {
        CacheConfig {
            max_bytes,
            // Whoever asks judges the age, by a longer time while the provider is in trouble.
            stale: Duration::ZERO,
            ..CacheConfig::default()
        }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &Cache<CachedAnswer> {
        &self.cache
    }
}

fn name(key: &AnswerKey) -> String {
    let mut name = String::with_capacity(64);
    for byte in key.as_bytes() {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[async_trait]
impl AnswerStore for TieredAnswers {
    async fn get(
        &self,
        tenant: &TenantId,
        key: &AnswerKey,
    ) -> Result<Option<Arc<CachedAnswer>>, AnswerStoreError> {
        Ok(match self.cache.look_up(tenant, &name(key)).await {
            Looked::Found(answer) => Some(answer),
            Looked::Absent | Looked::Unknown => None,
        })
    }

    async fn put(
        &self,
        tenant: &TenantId,
        key: AnswerKey,
        answer: Arc<CachedAnswer>,
        lifetime: Duration,
    ) -> Result<(), AnswerStoreError> {
        let answer = Arc::unwrap_or_clone(answer);
        // A later answer to the same request is as good: nobody needs to hear of it.
        let name = name(&key);
        self.cache
            .fill(tenant, &name, Some(answer), Some(lifetime))
            .await;
        Ok(())
    }
}
