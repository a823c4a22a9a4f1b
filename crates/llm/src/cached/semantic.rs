//! Finds an earlier question that means the same.
//!
//! Invariant: questions are compared only with those of requests that are the same in all
//! else, tenant and conversation included. Deliberately absent: an index; a scan over the
//! few questions of one context is quicker than a call by four orders of magnitude.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use hashlink::LruCache;
use lyceum_core::{CallContext, EmbedKind, Embedder};

use super::AnswerKey;
use crate::metrics;

/// How alike questions must be, and how many are remembered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SemanticConfig {
    /// The least cosine of two questions that mean the same, 0 to 1. It depends on the
    /// embedding model; default 0.95, which most models reach for paraphrases only.
    pub threshold: f32,
    /// The most questions of one context. Default 64.
    pub questions: usize,
    /// The most contexts. Default 1,000.
    pub contexts: usize,
}

impl Default for SemanticConfig {
    fn default() -> Self {
        Self {
            threshold: 0.95,
            questions: 64,
            contexts: 1_000,
        }
    }
}

/// The questions of one context, the oldest first, each of length one.
type Questions = Vec<(Vec<f32>, AnswerKey)>;

pub(super) struct Semantic {
    embedder: Arc<dyn Embedder>,
    config: SemanticConfig,
    contexts: Mutex<LruCache<AnswerKey, Questions>>,
}

/// A question on its way into the memory.
pub(super) struct Asked {
    context: AnswerKey,
    vector: Vec<f32>,
}

impl Semantic {
    pub(super) fn new(embedder: Arc<dyn Embedder>, config: SemanticConfig) -> Self {
        Self {
            embedder,
            config,
            contexts: Mutex::new(LruCache::new(config.contexts.max(1))),
        }
    }

    /// Embeds a question; `None` when that fails, which is an event and no error.
    pub(super) async fn ask(
        &self,
        call: &CallContext,
        context: AnswerKey,
        question: String,
    ) -> Option<Asked> {
        let texts = [Arc::from(question)];
        let embedded = self.embedder.embed(call, EmbedKind::Query, &texts).await;
        match embedded {
            Ok(embedded) => {
                let vector = normalised(embedded.vectors.first()?)?;
                Some(Asked { context, vector })
            }
            Err(error) => {
                metrics::cache_failed("embed", &error);
                None
            }
        }
    }

    /// The key of the most similar question, if it is similar enough.
    pub(super) fn nearest(&self, asked: &Asked) -> Option<AnswerKey> {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        let questions = contexts.get(&asked.context)?;
        let near = questions
            .iter()
            .map(|(vector, key)| (cosine(vector, &asked.vector), key));
        let (likeness, key) = near.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (likeness >= self.config.threshold).then_some(*key)
    }

    pub(super) fn remember(&self, asked: Asked, key: AnswerKey) {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        let questions = contexts.entry(asked.context).or_insert_with(Vec::new);
        questions.retain(|(_, known)| *known != key);
        if questions.len() >= self.config.questions.max(1) {
            questions.remove(0);
        }
        questions.push((asked.vector, key));
    }
}

impl fmt::Debug for Semantic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semantic")
            .field("embedder", &self.embedder)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let length = cosine(vector, vector).sqrt();
    let usable = length.is_finite() && length > 0.0;
    usable.then(|| vector.iter().map(|number| number / length).collect())
}

/// The cosine of vectors of length one.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
