//! The Anthropic dialect: the Messages API.
//!
//! Source: Claude API documentation, "Messages", "Streaming messages", "Errors" and
//! "Structured outputs". Deliberately absent: `seed` and other fields
//! that the API does not have.

mod messages;
mod request;
mod response;
mod thinking;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use lyceum_core::{CallContext, ChatModel, ChatRequest, ChatStream, ModelTraits, Tokens};
use lyceum_queue::Queue;
use secrecy::SecretString;

pub(crate) use self::response::EventReader;
use crate::{
    BuildError, Pool, Preset, Timeouts,
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
    /// Whether JSON of a schema is got by a tool that the model must call, for models
    /// without structured outputs. Its arguments come as the answer's text. A request with
    /// tools of its own asks for structured output all the same. Default false.
    pub json_by_tool: bool,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// The connections that are kept open.
    pub pool: Pool,
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
            json_by_tool: false,
            timeouts: Timeouts::default(),
            pool: Pool::default(),
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
    json_by_tool: bool,
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
            pool: config.pool,
            queue: config.queue,
        })?;
        Ok(Self {
            model: config.model.into(),
            max_output: config.max_output,
            json_by_tool: config.json_by_tool,
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
        let forced = request::forced_schema(&request, self.json_by_tool).is_some();
        let answer_tool = forced.then_some(request::ANSWER_TOOL);
        let reader = EventReader::new(self.transport.origin(&asked), answer_tool);
        let (max_output, json_by_tool) = (self.max_output, self.json_by_tool);
        let body = move || request::body(&request, &asked, max_output, json_by_tool);
        answer(Arc::clone(&self.transport), call.deadline, body, reader)
    }
}
