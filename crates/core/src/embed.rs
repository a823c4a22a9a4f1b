//! The embedding port: texts go in, vectors come out.
//!
//! Invariant: an answer has one vector for each text, in the texts' order, and every
//! vector has [`Embedder::dimensions`] finite numbers. Deliberately absent: similarity
//! and normalisation, which are the business of whoever compares vectors.

#[cfg(feature = "conformance")]
pub mod conformance;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{CallContext, ChatError, Usage};

/// One text's vector. It is shared, not copied, between caches and callers.
pub type Vector = Arc<[f32]>;

/// What texts are embedded for. Some models embed the two sides of a search differently;
/// the others ignore it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum EmbedKind {
    /// Texts that will be searched.
    #[default]
    Document,
    /// Texts that are searched for; usually somebody waits for the answer.
    Query,
}

impl EmbedKind {
    /// A bounded name for labels and keys.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Query => "query",
        }
    }
}

/// The vectors of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each text, in the texts' order, each of [`Embedder::dimensions`] numbers.
    /// They need not have length one.
    pub vectors: Vec<Vector>,
    /// What the call consumed; [`Usage::output`] is zero. An embedder that served many
    /// callers with one call gives each its share, and what came from a cache costs nothing.
    pub usage: Usage,
}

impl Embeddings {
    /// Checks that vectors have the promised shape.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Count`] unless there are `texts` vectors, [`EmbedError::Dimensions`]
    /// unless each has `dimensions` numbers, [`EmbedError::NotFinite`] for NaN and infinities.
    pub fn check(&self, texts: usize, dimensions: usize) -> Result<(), EmbedError> {
        if self.vectors.len() != texts {
            return Err(EmbedError::Count {
                found: self.vectors.len(),
                expected: texts,
            });
        }
        for vector in &self.vectors {
            if vector.len() != dimensions {
                return Err(EmbedError::Dimensions {
                    found: vector.len(),
                    expected: dimensions,
                });
            }
            if !vector.iter().all(|number| number.is_finite()) {
                return Err(EmbedError::NotFinite);
            }
        }
        Ok(())
    }
}

/// Why texts could not be embedded. It can be cloned, because one call may have failed
/// for many callers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The model could not be called.
    #[error("embed the texts")]
    Call(#[source] Arc<ChatError>),
    /// The model gave more or fewer vectors than there were texts.
    #[error("use {found} vectors for {expected} texts")]
    Count {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A vector has another length than the embedder promises, e.g. because the configured
    /// number of dimensions is not the model's.
    #[error("use a vector of {found} numbers instead of {expected}")]
    Dimensions {
        /// The vector's length.
        found: usize,
        /// The promised length.
        expected: usize,
    },
    /// A vector holds NaN or an infinity.
    #[error("use a vector with a number that is not finite")]
    NotFinite,
    /// The embedder is shut down.
    #[error("reach the embedder: it is shut down")]
    Closed,
}

impl EmbedError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retryable(),
            Self::Count { .. } | Self::NotFinite => true,
            Self::Dimensions { .. } | Self::Closed => false,
        }
    }

    /// When to come back, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Call(error) => error.retry_after(),
            _ => None,
        }
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Call(error) => error.label(),
            Self::Count { .. } => "count",
            Self::Dimensions { .. } => "dimensions",
            Self::NotFinite => "not_finite",
            Self::Closed => "closed",
        }
    }
}

impl From<ChatError> for EmbedError {
    fn from(error: ChatError) -> Self {
        Self::Call(Arc::new(error))
    }
}

/// Turns texts into vectors: a provider, or a decorator over another embedder.
#[async_trait]
pub trait Embedder: Send + Sync + fmt::Debug {
    /// The model's id. Vectors of different ids are never compared, and an id never
    /// changes what it means: it belongs beside every stored vector.
    fn model(&self) -> &str;

    /// How many numbers each vector has; at least one.
    fn dimensions(&self) -> usize;

    /// Embeds texts, any number of them; none give no vectors and cause no call.
    ///
    /// Idempotent and, within the model's precision, repeatable: a text's vector does not
    /// depend on the texts beside it.
    ///
    /// # Errors
    ///
    /// [`EmbedError`]; then there are no vectors for any of the texts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call, except where other callers wait for it too.
    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError>;
}

#[async_trait]
impl<E: Embedder + ?Sized> Embedder for Arc<E> {
    fn model(&self) -> &str {
        (**self).model()
    }

    fn dimensions(&self) -> usize {
        (**self).dimensions()
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        (**self).embed(call, kind, texts).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vectors: &[&[f32]]) -> Embeddings {
        Embeddings {
            vectors: vectors.iter().map(|vector| (*vector).into()).collect(),
            usage: Usage::default(),
        }
    }

    #[test]
    fn a_wrong_shape_is_found() {
        assert!(of(&[&[1.0, 0.0], &[0.0, 1.0]]).check(2, 2).is_ok());
        let label = |embeddings: Embeddings| embeddings.check(1, 2).unwrap_err().label();
        assert_eq!(label(of(&[])), "count");
        assert_eq!(label(of(&[&[1.0]])), "dimensions");
        assert_eq!(label(of(&[&[1.0, f32::NAN]])), "not_finite");
    }
}
