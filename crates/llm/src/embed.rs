//! Embedders: a provider, one without a model, and decorators over any.
//!
//! Composed outermost first: `CachedEmbedder(PricedEmbedder(BatchingEmbedder(
//! MeteredEmbedder(RetryingEmbedder(QueuedEmbedder(BreakingEmbedder(OpenAiEmbedder)))))))`,
//! so that only texts that no cache knows are paid for and wait for a batch, and a batch is
//! one call to what is behind it.

mod batch;
mod batching;
mod breaking;
mod cached;
mod hashing;
mod metered;
mod openai;
mod priced;
mod queued;
mod retrying;

pub use batching::{BatchingConfig, BatchingEmbedder};
pub use breaking::BreakingEmbedder;
pub use cached::{CacheStats, CachedEmbedder, EmbedCacheConfig};
pub use hashing::HashingEmbedder;
pub use metered::MeteredEmbedder;
pub use openai::{EmbedEncoding, OpenAiEmbedConfig, OpenAiEmbedder};
pub use priced::PricedEmbedder;
pub use queued::QueuedEmbedder;
pub use retrying::RetryingEmbedder;
