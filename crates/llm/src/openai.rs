//! The OpenAI dialect: chat completions, as spoken by OpenAI, Ark, DeepSeek, Qwen,
//! vLLM, Ollama and many more.
//!
//! Source: OpenAI API reference, "Create chat completion" and "Streaming events".
//! Deliberately absent: the Responses API, and audio, which passes as fields nobody here
//! knows.

mod content;
mod request;
mod response;

use std::sync::Arc;

use http::header;
use lyceum_core::{CallContext, ChatModel, ChatRequest, ChatStream, ModelTraits};
use lyceum_queue::Queue;
use secrecy::SecretString;

pub(crate) use self::response::ChunkReader;
use crate::{
    BuildError, Pool, Preset, Quirks, Timeouts,
    answer::answer,
    transport::{Setup, Transport},
};

/// How a provider of the OpenAI dialect is reached.
#[derive(Debug, Clone)]
pub struct OpenAiConfig {
    /// A short, bounded name for logs, labels and answers.
    pub name: String,
    /// The address up to and without `/chat/completions`, e.g. `https://api.openai.com/v1`.
    pub base_url: String,
    /// The key; `None` for servers that want none.
    pub api_key: Option<SecretString>,
    /// The model asked when a request names none.
    pub model: String,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// The connections that are kept open.
    pub pool: Pool,
    /// What the model can do.
    pub traits: ModelTraits,
    /// Where the provider differs from others of the dialect.
    pub quirks: Quirks,
    /// The queue that is told what answers' headers say about the provider's quotas.
    pub queue: Option<Queue>,
}

impl OpenAiConfig {
    /// A preset's configuration, without a key.
    #[must_use]
    pub fn from_preset(preset: &Preset, model: impl Into<String>) -> Self {
        Self {
            name: preset.name.to_owned(),
            base_url: preset.base_url.to_owned(),
            api_key: None,
            model: model.into(),
            timeouts: Timeouts::default(),
            pool: Pool::default(),
            traits: ModelTraits::default(),
            quirks: preset.quirks,
            queue: None,
        }
    }
}

/// A model behind the OpenAI dialect. Build it once: it owns a connection pool.
#[derive(Debug, Clone)]
pub struct OpenAi {
    model: Arc<str>,
    traits: ModelTraits,
    quirks: Quirks,
    transport: Arc<Transport>,
}

impl OpenAi {
    /// A provider with its own HTTP client; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when the address or the key cannot be used, or the client not built.
    pub fn new(config: OpenAiConfig) -> Result<Self, BuildError> {
        let transport = Transport::new(Setup {
            provider: config.name.into(),
            base_url: &config.base_url,
            path: &["chat", "completions"],
            key: config.api_key,
            key_header: (header::AUTHORIZATION, "Bearer "),
            more_headers: &[],
            timeouts: config.timeouts,
            pool: config.pool,
            queue: config.queue,
        })?;
        Ok(Self {
            model: config.model.into(),
            traits: config.traits,
            quirks: config.quirks,
            transport: Arc::new(transport),
        })
    }
}

impl ChatModel for OpenAi {
    fn name(&self) -> &str {
        &self.transport.provider
    }

    fn traits(&self) -> ModelTraits {
        self.traits
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let asked = request.model.as_deref();
        let asked = asked.map_or_else(|| Arc::clone(&self.model), Arc::from);
        let reader = ChunkReader::new(self.transport.origin(&asked));
        let quirks = self.quirks;
        let body = move || request::body(&request, &asked, quirks);
        answer(Arc::clone(&self.transport), call.deadline, body, reader)
    }
}
