//! The Anthropic dialect: the Messages API.
//!
//! Source: Claude API documentation, "Messages", "Streaming messages", "Errors" and
//! "Structured outputs". Deliberately absent: `seed`, which the API does not have, and
//! signatures of thinking blocks, which a conversation of plain messages cannot carry.

mod request;
mod response;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use lyceum_core::{CallContext, ChatModel, ChatRequest, ChatStream, ModelTraits, Tokens};
use lyceum_queue::Queue;
use secrecy::SecretString;

use self::response::EventReader;
use crate::{
    BuildError, Preset, Timeouts,
    answer::answer,
    transport::{Setup, Transport},
};

/// The version of the API this file was written for ("API versioning").
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// How a provider of the Anthropic dialect is reached.
#[derive(Debug, Clone)]
pub struct AnthropicConfig {
    /// A short, bounded name for logs, labels and answers.
    pub name: String,
    /// The address up to and without `/v1/messages`, e.g. `https://api.anthropic.com`.
    pub base_url: String,
    /// The key; `None` for servers that want none.
    pub api_key: Option<SecretString>,
    /// The model asked when a request names none.
    pub model: String,
    /// The most output tokens when a request says nothing; the API wants a number.
    /// Default 4,096.
    pub max_output: Tokens,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// What the model can do.
    pub traits: ModelTraits,
    /// The queue that is told what answers' headers say about the provider's quotas.
    pub queue: Option<Queue>,
}

impl AnthropicConfig {
    /// A preset's configuration, without a key.
    #[must_use]
    pub fn from_preset(preset: &Preset, model: impl Into<String>) -> Self {
        Self {
            name: preset.name.to_owned(),
            base_url: preset.base_url.to_owned(),
            api_key: None,
            model: model.into(),
            max_output: Tokens(4_096),
            timeouts: Timeouts::default(),
            traits: ModelTraits::default(),
            queue: None,
        }
    }
}

/// A model behind the Messages API. Build it once: it owns a connection pool.
#[derive(Debug, Clone)]
pub struct Anthropic {
    model: Arc<str>,
    max_output: Tokens,
    traits: ModelTraits,
    transport: Arc<Transport>,
}

impl Anthropic {
    /// A provider with its own HTTP client; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`BuildError`] when the address or the key cannot be used, or the client not built.
    pub fn new(config: AnthropicConfig) -> Result<Self, BuildError> {
        let transport = Transport::new(Setup {
            provider: config.name.into(),
            base_url: &config.base_url,
            path: &["v1", "messages"],
            key: config.api_key,
            key_header: (HeaderName::from_static("x-api-key"), ""),
            more_headers: &[(HeaderName::from_static("anthropic-version"), VERSION)],
            timeouts: config.timeouts,
            queue: config.queue,
        })?;
        Ok(Self {
            model: config.model.into(),
            max_output: config.max_output,
            traits: config.traits,
            transport: Arc::new(transport),
        })
    }
}

impl ChatModel for Anthropic {
    fn name(&self) -> &str {
        &self.transport.provider
    }

    fn traits(&self) -> ModelTraits {
        self.traits
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let asked = request.model.as_deref();
        let asked = asked.map_or_else(|| Arc::clone(&self.model), Arc::from);
        let reader = EventReader::new(Arc::clone(&self.transport), Arc::clone(&asked));
        let max_output = self.max_output;
        let body = move || request::body(&request, &asked, max_output);
        answer(Arc::clone(&self.transport), call.deadline, body, reader)
    }
}
