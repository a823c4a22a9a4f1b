#![doc = include_str!("../README.md")]

mod answer;
mod anthropic;
mod balanced;
mod breaking;
mod cached;
mod clock;
mod config;
mod cost;
pub mod decode;
mod dns;
mod embed;
mod estimate;
mod failure;
mod fallback;
mod fixed;
mod genai;
pub mod headers;
mod hedged;
mod json;
mod metered;
pub mod metrics;
mod ollama;
mod openai;
mod opening;
mod preset;
mod prompt_cache;
mod queued;
mod retry_budget;
mod retrying;
pub mod sse;
mod transport;
mod wire;

pub use anthropic::{Anthropic, AnthropicConfig};
pub use balanced::{Balanced, Endpoint, Strategy};
pub use breaking::{Breaking, Circuit, RateLimits};
pub use cached::{
    AnswerCacheConfig, AnswerKey, AnswerStore, AnswerStoreError, CachePolicy, Cached, CachedAnswer,
    InMemoryAnswers, SemanticConfig, TieredAnswers, Trouble,
};
pub use config::{BuildError, Pool, Timeouts};
pub use cost::{
    Book, Budgets, Entry, Hold, Ledger, MoneyError, Month, MonthlyEstimate, PicoUsd, Price,
    PriceError, PriceTable, Priced, Spent, Statement, Used, UserBudgets, Workload,
};
pub use embed::{
    BatchingConfig, BatchingEmbedder, BreakingEmbedder, CacheStats, CachedEmbedder,
    EmbedCacheConfig, EmbedEncoding, HashingEmbedder, MeteredEmbedder, OpenAiEmbedConfig,
    OpenAiEmbedder, PricedEmbedder, QueuedEmbedder, RetryingEmbedder,
};
pub use estimate::{estimate, text_tokens};
pub use fallback::Fallback;
pub use fixed::FixedAnswer;
pub use hedged::{HedgeConfig, HedgeDelay, Hedged};
pub use metered::Metered;
pub use ollama::{OllamaModel, ollama_models};
pub use openai::{OpenAi, OpenAiConfig};
pub use preset::{Dialect, OutputLimit, Preset, Quirks, SchemaSupport};
pub use prompt_cache::{Planned, PromptCache, Refresh, Stability, arrange};
pub use queued::Queued;
pub use retry_budget::SharedRetryBudget;
pub use retrying::Retrying;
