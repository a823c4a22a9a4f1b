//! Finding with both arms, and the background work that gives memories their vectors.
//!
//! Invariant: words alone always give an answer; whatever happens to the vectors or their
//! model is said in [`Found::degraded`]. No write waits for a model.

use std::{sync::Arc, time::Duration};

use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Priority, Scope};

use crate::{
    Clock, Fusion, Memory, MemoryError, MemoryId, NewVector, Recollection, StoreError, SystemClock,
    Unembedded, VectorSpace, VectorStore, config::prefix, lexical,
};

/// Which texts an embedder is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Languages {
    /// Those written mostly in scripts with spaces between words; for English models. Chinese,
    /// Japanese and Korean are found by their words.
    Spaced,
    /// All; for multilingual models.
    #[default]
    All,
}

impl Languages {
    /// Whether the model understands this text: at most a quarter of its letters are of a
    /// script without spaces.
    #[must_use]
    pub fn serve(self, text: &str) -> bool {
        let letters = text.chars().filter(|c| c.is_alphabetic());
        let (all, unspaced) = letters.fold((0_usize, 0_usize), |(all, unspaced), c| {
            (all + 1, unspaced + usize::from(lexical::is_unspaced(c)))
        });
        self == Self::All || (all > 0 && unspaced * 4 <= all)
    }
}

/// The second arm: a store of vectors, the model that makes them, and how both arms are joined.
#[derive(Debug)]
pub struct Meaning {
    store: Arc<dyn VectorStore>,
    embedder: Arc<dyn Embedder>,
    space: VectorSpace,
    languages: Languages,
    fusion: Fusion,
    clock: Arc<dyn Clock>,
}

impl Meaning {
    /// An arm of this store and model.
    #[must_use]
    pub fn new(
        store: Arc<dyn VectorStore>,
        embedder: Arc<dyn Embedder>,
        languages: Languages,
        fusion: Fusion,
    ) -> Self {
        Self {
            space: VectorSpace::of(&embedder),
            store,
            embedder,
            languages,
            fusion,
            clock: Arc::new(SystemClock::default()),
        }
    }

    /// The same arm by another clock, which recency is reckoned by.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The space of the model's vectors.
    #[must_use]
    pub fn space(&self) -> &VectorSpace {
        &self.space
    }

    /// The store of the vectors.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn VectorStore> {
        &self.store
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Vec<lyceum_core::Vector>, EmbedError> {
        let found = self.embedder.embed(call, kind, texts).await?;
        found.check(texts.len(), self.space.dimensions)?;
        Ok(found.vectors)
    }
}

/// What a search with both arms found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The memories, best first.
    pub memories: Vec<Recollection>,
    /// What is missing because it failed or was slow: `embedding` of the query, or `vectors`.
    pub degraded: Vec<&'static str>,
}

impl Memory {
    /// The same memory with a second arm, by which it finds memories by their meaning.
    #[must_use]
    pub fn with_meaning(mut self, meaning: Meaning) -> Self {
        self.meaning = Some(Arc::new(meaning));
        self
    }

    /// The second arm, where there is one.
    #[must_use]
    pub fn meaning(&self) -> Option<&Meaning> {
        self.meaning.as_deref()
    }

    /// Finds memories by their words and, where there is a second arm, by their meaning. The
    /// scores are comparable within one answer only.
    ///
    /// # Errors
    ///
    /// The failure of the store of memories. Without its vectors the answer is by words alone.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn find(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let query = prefix(query, self.limits().query_bytes);
        let limit = limit.min(self.limits().page);
        let meaning = self.meaning().filter(|arm| arm.languages.serve(query));
        let Some(meaning) = meaning.filter(|_| limit > 0) else {
            let memories = self.memories.search(scope, query, limit).await?;
            let degraded = Vec::new();
            return Ok(Found { memories, degraded });
        };
        let candidates = meaning.fusion.candidates.max(limit);
        let call = CallContext::new(scope.clone()).with_purpose("query", 0);
        let text = [Arc::from(query)];
        let (words, vector) = tokio::join!(
            self.memories.search(scope, query, candidates),
            self.arm(meaning.embed(&call, EmbedKind::Query, &text)),
        );
        let mut found = Found {
            memories: words?,
            degraded: Vec::new(),
        };
        let Some([vector]) = vector.as_deref() else {
            found.degraded.push("embedding");
            found.memories.truncate(limit);
            return Ok(found);
        };
        let also: Vec<MemoryId> = found.memories.iter().map(|hit| hit.id.clone()).collect();
        let (store, space) = (&meaning.store, &meaning.space);
        let near = store.nearest(scope, space, vector, candidates, &also);
        match self.arm(near).await {
            Some(near) => {
                let now = meaning.clock.now();
                found.memories = meaning.fusion.fuse(&found.memories, &near, now);
            }
            None => found.degraded.push("vectors"),
        }
        found.memories.truncate(limit);
        Ok(found)
    }

    /// Gives up to `batch` waiting memories their vectors and says how many it settled; zero
    /// when none waits. Repeating it after a failure is safe: what was not settled waits on.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Embed`] when the model failed, or the store's failure.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have kept its vectors; calling it again is safe.
    pub async fn embed_waiting(&self, batch: usize) -> Result<usize, MemoryError> {
        let Some(meaning) = self.meaning() else {
            return Ok(0);
        };
        let waiting = meaning.store.unembedded(&meaning.space, batch).await?;
        let Some(first) = waiting.first() else {
            return Ok(0);
        };
        let call = CallContext::new(first.scope.clone()).with_purpose("embed", 0);
        let call = call.with_priority(Priority::Low);
        let (served, rest): (Vec<Unembedded>, Vec<Unembedded>) = waiting
            .into_iter()
            .partition(|memory| meaning.languages.serve(&memory.text));
        let texts: Vec<Arc<str>> = served
            .iter()
            .map(|memory| memory.text.as_str().into())
            .collect();
        let embedded = meaning.embed(&call, EmbedKind::Document, &texts).await?;
        let vectors = embedded.into_iter().map(Some);
        let settled = served.into_iter().zip(vectors);
        let settled = settled.chain(rest.into_iter().map(|memory| (memory, None)));
        let settled: Vec<NewVector> = settled
            .map(|(Unembedded { scope, id, .. }, vector)| NewVector { scope, id, vector })
            .collect();
        meaning.store.set_vectors(&meaning.space, &settled).await?;
        Ok(settled.len())
    }

    /// The arm's answer, or `None` when it failed or was slow; logged here, because the caller
    /// gets an answer and no error.
    async fn arm<T, E: std::error::Error + 'static>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let after: Duration = self.config.part_timeout / 2;
        match tokio::time::timeout(after, answer).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "memories are found by their words alone");
                None
            }
            Err(_) => {
                tracing::warn!(
                    ?after,
                    "memories are found by their words alone: slow vectors"
                );
                None
            }
        }
    }
}
