//! Vectors: the port by which memories are found by their meaning.
//!
//! Invariant: vectors of different models are never compared: every vector stands in a
//! [`VectorSpace`], and a query of another shape is refused. A vector is of the memory that is
//! there: one whose memory was deleted is gone with it.
//! Deliberately absent: making vectors; an `Embedder` does that, outside of any transaction.

use std::fmt;

use async_trait::async_trait;
use lyceum_core::{Embedder, Scope, Vector};

use crate::{MemoryId, StoreError, Timestamp};

/// The model that vectors come from, and how many numbers each has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VectorSpace {
    /// The model's id.
    pub model: String,
    /// The numbers of a vector.
    pub dimensions: usize,
}

impl VectorSpace {
    /// The space of an embedder's vectors.
    #[must_use]
    pub fn of(embedder: &dyn Embedder) -> Self {
        Self {
            model: embedder.model().to_owned(),
            dimensions: embedder.dimensions(),
        }
    }

    /// Checks that a vector has the space's shape.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dimensions`].
    pub fn check(&self, vector: &[f32]) -> Result<(), StoreError> {
        match vector.len() == self.dimensions {
            true => Ok(()),
            false => Err(StoreError::Dimensions {
                found: vector.len(),
                expected: self.dimensions,
            }),
        }
    }
}

/// A memory that waits for its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Unembedded {
    /// Whose it is; without a session.
    pub scope: Scope,
    /// The memory.
    pub id: MemoryId,
    /// Its subject.
    pub topic: String,
    /// What is remembered.
    pub text: String,
    /// What the text stands in.
    pub context: String,
}

/// A vector to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewVector {
    /// Whose memory it is.
    pub scope: Scope,
    /// The memory.
    pub id: MemoryId,
    /// The vector; `None` where the model has nothing to say to the text, so that the memory
    /// waits no longer. A vector of length zero means the same.
    pub vector: Option<Vector>,
}

/// A memory beside a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// The memory's id.
    pub id: MemoryId,
    /// Its subject.
    pub topic: String,
    /// What is remembered.
    pub text: String,
    /// How much it matters, 0 to 1.
    pub importance: f32,
    /// When it came to be.
    pub created_at: Timestamp,
    /// The cosine of the angle between the vectors, −1 to 1.
    pub similarity: f32,
}

/// How far a store's vectors are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VectorCount {
    /// Memories of all scopes.
    pub memories: u64,
    /// Those that were looked at: with a vector, or known to have none.
    pub settled: u64,
    /// Those that have a vector.
    pub vectors: u64,
    /// Those that no later call of [`VectorStore::unembedded`] would give although they are
    /// not settled. Anything but zero calls for [`VectorStore::forget_vectors`].
    pub missed: u64,
}

/// Keeps vectors beside the memories they belong to.
///
/// What waits for a vector follows from the memories themselves, in the store's transactions,
/// so nothing is lost between two systems and a memory waits from the moment it is stored.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened. All of them can be repeated.
#[async_trait]
pub trait VectorStore: Send + Sync + fmt::Debug {
    /// Up to `limit` memories of all scopes that are not settled in the space, in the order of
    /// their storing. The background's call: it has no scope.
    async fn unembedded(
        &self,
        space: &VectorSpace,
        limit: usize,
    ) -> Result<Vec<Unembedded>, StoreError>;

    /// Keeps vectors, all or none of them. One that is there is replaced; one whose memory is
    /// gone is ignored. Says how many memories were settled.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dimensions`] when one has another shape than the space.
    async fn set_vectors(
        &self,
        space: &VectorSpace,
        vectors: &[NewVector],
    ) -> Result<usize, StoreError>;

    /// The `limit` memories of the scope's owner that hold now and whose vectors are nearest to the query, and
    /// those of `also` that have a vector; each once, nearest first, by id among equals. The
    /// comparison is exact.
    ///
    /// # Errors
    ///
    /// [`StoreError::Dimensions`] when the query has another shape than the space.
    async fn nearest(
        &self,
        scope: &Scope,
        space: &VectorSpace,
        query: &[f32],
        limit: usize,
        also: &[MemoryId],
    ) -> Result<Vec<Near>, StoreError>;

    /// How far the space's vectors are, over all scopes.
    async fn count_vectors(&self, space: &VectorSpace) -> Result<VectorCount, StoreError>;

    /// Forgets all vectors of the space, so that all memories wait again; says how many there
    /// were.
    async fn forget_vectors(&self, space: &VectorSpace) -> Result<u64, StoreError>;
}
