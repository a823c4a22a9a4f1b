//! Where answers are kept: the port, and memory behind it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use hashlink::LruCache;
use lyceum_core::{FinishReason, TenantId, ToolCall, Usage};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::AnswerKey;

/// An answer that may be given again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachedAnswer {
    /// The provider that gave it.
    pub provider: String,
    /// The model that gave it.
    pub model: String,
    /// The visible reasoning.
    pub reasoning: String,
    /// The text.
    pub text: String,
    /// The tool calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// What it consumed.
    pub usage: Usage,
    /// Why the model stopped.
    pub finish: FinishReason,
    /// When it was complete, in milliseconds since 1970.
    pub made_ms: u64,
}

impl CachedAnswer {
    /// What it takes in memory, about, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let calls = self.tool_calls.iter().map(|call| {
            call.id.len() + call.name.len() + call.arguments.len() + size_of::<ToolCall>()
        });
        size_of::<Self>()
            + self.provider.len()
            + self.model.len()
            + self.reasoning.len()
            + self.text.len()
            + calls.sum::<usize>()
    }
}

/// Why a store could not be reached. The cache then asks the model.
#[derive(Debug, thiserror::Error)]
#[error("reach the store of answers")]
pub struct AnswerStoreError {
    /// What failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Keeps answers by key, which holds the tenant; it is told too, for stores that keep
/// tenants apart. Both methods are idempotent and may be dropped at any time.
#[async_trait]
pub trait AnswerStore: Send + Sync + fmt::Debug {
    /// The answer of a key, if it is kept.
    ///
    /// # Errors
    ///
    /// [`AnswerStoreError`] when the store cannot be reached.
    async fn get(
        &self,
        tenant: &TenantId,
        key: &AnswerKey,
    ) -> Result<Option<Arc<CachedAnswer>>, AnswerStoreError>;

    /// Keeps an answer for `lifetime` at most; a later one replaces an earlier one. The
    /// store may forget it sooner.
    ///
    /// # Errors
    ///
    /// [`AnswerStoreError`] when the store cannot be reached.
    async fn put(
        &self,
        tenant: &TenantId,
        key: AnswerKey,
        answer: Arc<CachedAnswer>,
        lifetime: Duration,
    ) -> Result<(), AnswerStoreError>;
}

/// Keeps answers in this process's memory; what was least recently used goes first.
pub struct InMemoryAnswers {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    answers: LruCache<AnswerKey, (Arc<CachedAnswer>, Instant)>,
    bytes: usize,
}

/// What one entry takes beside its answer, about.
const ENTRY_BYTES: usize = 128;

impl InMemoryAnswers {
    /// Keeps answers of so many bytes together at most; zero keeps none.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            kept: Mutex::new(Kept {
                answers: LruCache::new_unbounded(),
                bytes: 0,
            }),
        }
    }

    /// How many answers are kept, and what they take in bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.with(|kept| (kept.answers.len(), kept.bytes))
    }

    /// Poison is ignored: every change is complete.
    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn remove(&mut self, key: &AnswerKey) {
        if let Some((answer, _)) = self.answers.remove(key) {
            self.bytes -= answer.len_bytes() + ENTRY_BYTES;
        }
    }
}

#[async_trait]
impl AnswerStore for InMemoryAnswers {
    async fn get(
        &self,
        _: &TenantId,
        key: &AnswerKey,
    ) -> Result<Option<Arc<CachedAnswer>>, AnswerStoreError> {
        let now = Instant::now();
        Ok(self.with(|kept| {
            let (answer, end) = kept.answers.get(key)?;
            if now < *end {
                return Some(Arc::clone(answer));
            }
            kept.remove(key);
            None
        }))
    }

    async fn put(
        &self,
        _: &TenantId,
        key: AnswerKey,
        answer: Arc<CachedAnswer>,
        lifetime: Duration,
    ) -> Result<(), AnswerStoreError> {
        let bytes = answer.len_bytes() + ENTRY_BYTES;
        let end = Instant::now() + lifetime;
        self.with(|kept| {
            kept.remove(&key);
            if bytes > self.max_bytes {
                return;
            }
            kept.bytes += bytes;
            kept.answers.insert(key, (answer, end));
            while kept.bytes > self.max_bytes
                && let Some((_, (oldest, _))) = kept.answers.remove_lru()
            {
                kept.bytes -= oldest.len_bytes() + ENTRY_BYTES;
            }
        });
        Ok(())
    }
}

impl fmt::Debug for InMemoryAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answers, bytes) = self.size();
        f.debug_struct("InMemoryAnswers")
            .field("answers", &answers)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}
