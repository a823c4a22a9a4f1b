//! Finding with both arms.
//!
//! Invariant: either arm alone gives an answer; whatever happens to the other, or to the model,
//! is said in [`Found::degraded`].

use std::{sync::Arc, time::Duration};

use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Scope};

use crate::{
    Memory, MemoryId, Recollection, StoreError, VectorSpace, VectorStore, config::prefix, lexical,
};

/// The neighbours of twice so many hits are looked at, or of twice those that are wanted.
const BESIDE: usize = 25;

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

/// The second arm: a store of vectors, and the model that makes them.
#[derive(Debug)]
pub struct Meaning {
    store: Arc<dyn VectorStore>,
    embedder: Arc<dyn Embedder>,
    space: VectorSpace,
    languages: Languages,
}

impl Meaning {
    /// An arm of this store and model.
    #[must_use]
    pub fn new(
        store: Arc<dyn VectorStore>,
        embedder: Arc<dyn Embedder>,
        languages: Languages,
    ) -> Self {
        Self {
            space: VectorSpace::of(&embedder),
            store,
            embedder,
            languages,
        }
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

    /// Whether the model is asked for this text.
    pub(crate) fn serves(&self, text: &str) -> bool {
        self.languages.serve(text)
    }

    pub(crate) async fn embed(
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
    /// What is missing because it failed or was slow: `words`, the `embedding` of the query, its
    /// `vectors`, or what was said `beside` the hits.
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
    /// The failure of the store of memories, where nothing was found by meaning either.
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
        let fusion = &self.config.fusion;
        let (now, mut degraded) = (self.config.clock.now(), Vec::new());
        if limit == 0 {
            return Ok(Found::default());
        }
        let candidates = fusion.candidates.max(limit);
        let meaning = self.meaning().filter(|arm| arm.serves(query));
        let vector = async {
            let meaning = meaning?;
            let call = CallContext::new(scope.clone()).with_purpose("query", 0);
            let text = [self.shown(query)];
            let embedded = self.arm("embedding", meaning.embed(&call, EmbedKind::Query, &text));
            Some((meaning, embedded.await?.into_iter().next()?))
        };
        let words = async {
            let words = self.memories.search(scope, query, candidates);
            match meaning {
                // A store that hangs must not keep what was found by meaning waiting.
                Some(_) => tokio::time::timeout(self.arm_timeout(), words)
                    .await
                    .unwrap_or_else(|slow| {
                        Err(StoreError::Unavailable {
                            source: slow.into(),
                        })
                    }),
                None => words.await,
            }
        };
        let (words, vector) = tokio::join!(words, vector);
        if meaning.is_some() && vector.is_none() {
            degraded.push("embedding");
        }
        let (words, vector) = match (words, vector) {
            (Err(error), Some(vector)) => {
                tracing::warn!(error = %error, "memories are found by their meaning alone");
                degraded.push("words");
                (Vec::new(), Some(vector))
            }
            (words, vector) => (words?, vector),
        };
        let near = match vector {
            Some((meaning, vector)) => {
                let also: Vec<MemoryId> = words.iter().map(|hit| hit.id.clone()).collect();
                let (store, space) = (&meaning.store, &meaning.space);
                let near = store.nearest(scope, space, &vector, candidates, &also);
                let near = self.arm("vectors", near).await;
                if near.is_none() {
                    degraded.push("vectors");
                }
                near.unwrap_or_default()
            }
            None => Vec::new(),
        };
        let mut memories = fusion.fuse(words, &near, now);
        if fusion.beside_share > 0.0 && !memories.is_empty() {
            // What is further down gives its neighbours too little to bring them up.
            let best = memories.iter().take(2 * limit.max(BESIDE));
            let ids: Vec<MemoryId> = best.map(|hit| hit.id.clone()).collect();
            let beside = self.memories.beside(scope, &ids);
            match self.arm("beside", beside).await {
                Some(beside) => memories = fusion.share_out(memories, beside),
                None => degraded.push("beside"),
            }
        }
        memories = fusion.listen(query, memories);
        memories.truncate(limit);
        Ok(Found { memories, degraded })
    }

    /// The arm's answer, or `None` when it failed or was slow; logged here, because the caller
    /// gets an answer and no error.
    async fn arm<T, E: std::error::Error + 'static>(
        &self,
        part: &'static str,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let after = self.arm_timeout();
        match tokio::time::timeout(after, answer).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(part, error, "memories are found without a part");
                None
            }
            Err(_) => {
                tracing::warn!(
                    part,
                    ?after,
                    "memories are found without a part: it is slow"
                );
                None
            }
        }
    }

    /// What the model gets to see of a query.
    fn shown(&self, query: &str) -> Arc<str> {
        match &self.scrubber {
            Some(scrubber) => Arc::from(&*scrubber.scrub(query).text),
            None => query.into(),
        }
    }

    /// A third of what the whole part may take: at most three are waited for in turn.
    fn arm_timeout(&self) -> Duration {
        self.config.part_timeout / 3
    }
}
