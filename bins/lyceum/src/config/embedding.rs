//! The configuration of embedding models, which clients may ask and the answer cache
//! may compare questions with.

use std::time::Duration;

use lyceum_llm::{BatchingConfig, EmbedCacheConfig};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Queue, masked};

/// `[embedding]`: which models turn texts into vectors.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Embedding {
    /// The most texts of one call, gathered from many callers. Default 64; 1 to 2048.
    pub batch_items: usize,
    /// How long a text may wait for others, in milliseconds. Default 20; 0 to 10,000.
    pub batch_wait_milliseconds: u64,
    /// The most memory for vectors of texts seen before, in MiB and for each model. Default
    /// 64; 0 to 65,536; zero remembers none.
    pub cache_mib: usize,
    /// How long such a vector is used, in seconds. Default 86,400; 1 to 31,536,000.
    pub cache_ttl_seconds: u64,
    /// The models.
    pub models: Vec<EmbeddingModel>,
}

impl Default for Embedding {
    fn default() -> Self {
        Self {
            batch_items: 64,
            batch_wait_milliseconds: 20,
            cache_mib: 64,
            cache_ttl_seconds: 86_400,
            models: Vec::new(),
        }
    }
}

impl Embedding {
    pub(crate) fn batching(&self) -> BatchingConfig {
        BatchingConfig {
            max_items: self.batch_items,
            max_wait: Duration::from_millis(self.batch_wait_milliseconds),
            max_wait_query: Duration::from_millis(self.batch_wait_milliseconds.min(5)),
            ..BatchingConfig::default()
        }
    }

    pub(crate) fn cache(&self) -> EmbedCacheConfig {
        EmbedCacheConfig {
            max_bytes: self.cache_mib << 20,
            lifetime: Duration::from_secs(self.cache_ttl_seconds),
        }
    }
}

/// One `[[embedding.models]]`, reached in the OpenAI dialect.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingModel {
    /// A preset of the OpenAI dialect, e.g. `openai` or `ollama`.
    pub provider: String,
    /// The model's name at the provider, which clients use too.
    pub name: String,
    /// How many numbers its vectors have; answers with another number are refused. 1 to 65,536.
    pub dimensions: usize,
    /// Whether the provider is told the number of dimensions. Default false.
    #[serde(default)]
    pub send_dimensions: bool,
    /// Whether clients may ask for fewer dimensions, because the first numbers of the
    /// model's vectors are vectors too. Default false.
    #[serde(default)]
    pub shortens: bool,
    /// The address of the API. Default: the provider's own.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The key. Better kept in the provider's own variable.
    #[serde(default, serialize_with = "masked")]
    pub api_key: Option<SecretString>,
    /// The variable that holds the key. Default: the provider's own.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// What stands before a searched text, for models trained so. Default empty.
    #[serde(default)]
    pub document_prefix: String,
    /// What stands before a text that is searched for. Default empty.
    #[serde(default)]
    pub query_prefix: String,
    /// The provider's quota for this model, as under `[queue]`, for this process. Default:
    /// 50 calls at once, and what the provider's headers say.
    #[serde(default)]
    pub queue: Queue,
}
