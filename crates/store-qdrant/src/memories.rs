//! A store of memories whose deletions reach Qdrant too.
//!
//! Invariant: the row goes first, so that what is left in Qdrant, should the server be out of
//! reach, is an id without words, which no search gives and the next one that meets it, or
//! [`QdrantVectors::reconcile`], removes.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_memory::{
    AsOf, Beside, MemoryCursor, MemoryId, MemoryRecord, MemoryStore, NewMemory, Recollection,
    StoreError,
};

use crate::QdrantVectors;

/// A [`MemoryStore`] before another one; see the module's text.
#[derive(Debug)]
pub struct QdrantMemories {
    memories: Arc<dyn MemoryStore>,
    vectors: Arc<QdrantVectors>,
}

impl QdrantMemories {
    /// The store of memories that the vectors belong to.
    #[must_use]
    pub fn new(memories: Arc<dyn MemoryStore>, vectors: Arc<QdrantVectors>) -> Self {
        Self { memories, vectors }
    }
}

#[async_trait]
impl MemoryStore for QdrantMemories {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        self.memories.put(scope, memory).await
    }

    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError> {
        self.memories.get(scope, id).await
    }

    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.memories.get_many(scope, ids).await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        self.memories.search(scope, query, limit).await
    }

    async fn search_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        let memories = &self.memories;
        memories.search_as_of(scope, as_of, query, limit).await
    }

    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<Beside>, StoreError> {
        self.memories.beside(scope, ids).await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.memories.list(scope, after, limit).await
    }

    async fn list_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let memories = &self.memories;
        memories.list_as_of(scope, as_of, after, limit).await
    }

    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        let was_there = self.memories.delete(scope, id).await?;
        if let Err(error) = self.vectors.forget(scope, id).await {
            let label = error.label();
            tracing::warn!(label, %error, "a deleted memory's vector stays until it is met");
        }
        Ok(was_there)
    }
}
