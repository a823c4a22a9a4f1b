//! Embedders: a provider, one without a model, and decorators over any.
//!
//! Composed outermost first: `CachedEmbedder(BatchingEmbedder(OpenAiEmbedder))`, so that
//! only texts that no cache knows wait for a batch.

mod batch;
mod batching;
mod cached;
mod hashing;
mod openai;

pub use batching::{BatchingConfig, BatchingEmbedder};
pub use cached::{CacheStats, CachedEmbedder, EmbedCacheConfig};
pub use hashing::HashingEmbedder;
pub use openai::{EmbedEncoding, OpenAiEmbedConfig, OpenAiEmbedder};
