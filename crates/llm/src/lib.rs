//! Being written.

mod answer;
mod anthropic;
mod clock;
mod config;
mod dns;
mod estimate;
mod failure;
pub mod headers;
mod ollama;
mod openai;
mod preset;
pub mod sse;
mod transport;
mod wire;

pub use anthropic::{Anthropic, AnthropicConfig};
pub use config::{BuildError, Timeouts};
pub use estimate::{estimate, text_tokens};
pub use ollama::{OllamaModel, ollama_models};
pub use openai::{OpenAi, OpenAiConfig};
pub use preset::{Dialect, OutputLimit, Preset, Quirks, SchemaSupport};
