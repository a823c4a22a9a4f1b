//! The chat port: a request goes in, a lazy stream of events comes out.
//!
//! Invariant of a [`ChatStream`]: `Queued* Started? Origin? (Text|Reasoning|ReasoningEnd|ToolCall|Usage|
//! Extra|Choice)* Finished`, or an error as the last item. A stream that ends without `Finished` or an error
//! was cut, and [`ChatAnswer::collect`](crate::ChatAnswer::collect) reports it as [`ChatError::Truncated`].

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    CallContext, ChatError, Message, QueuePosition, ReasoningSeal, Tokens, ToolSpec, Usage,
};

/// Which tool the model has to use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No tool.
    None,
    /// Some tool.
    Required,
    /// The named tool.
    Named(String),
}

/// The form of the answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ResponseFormat {
    /// Free text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// The JSON schema.
        schema: Value,
        /// Whether the provider must enforce it exactly.
        strict: bool,
    },
}

/// Whether an answer that was given before will do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CacheUse {
    /// As the cache's policy says.
    #[default]
    Policy,
    /// It will, if the request is the same.
    Allow,
    /// It will not, and this one is not kept.
    Never,
}

/// What is asked of a model. Fields left `None` use the provider's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatRequest {
    /// The model's name; `None` for the provider's configured one.
    pub model: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools offered.
    pub tools: Vec<ToolSpec>,
    /// Which of them must be used.
    pub tool_choice: ToolChoice,
    /// The form of the answer.
    pub response_format: ResponseFormat,
    /// The most output tokens.
    pub max_output: Option<Tokens>,
    /// Randomness, 0 to 2.
    pub temperature: Option<f32>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// For repeatable sampling where the provider has it.
    pub seed: Option<i64>,
    /// Whether an earlier answer will do. It is not sent to the provider.
    pub cache: CacheUse,
    /// Tools of kinds Lyceum does not know, e.g. a provider's own search, sent on as they
    /// are behind [`ChatRequest::tools`].
    pub other_tools: Vec<Value>,
    /// Fields Lyceum does not know, sent on unchanged at the top level. A provider of
    /// another dialect gets its own form of those that mean the same there, and not the rest.
    pub extra: Map<String, Value>,
}

impl ChatRequest {
    /// A request of messages alone.
    #[must_use]
    pub fn new(messages: impl Into<Vec<Message>>) -> Self {
        Self {
            messages: messages.into(),
            ..Self::default()
        }
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It met the output limit.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// The provider withheld the answer.
    ContentFilter,
    /// A reason Lyceum does not know.
    Other(String),
}

/// A piece of a tool call; pieces with the same index belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCallDelta {
    /// Which call of the answer.
    pub index: u32,
    /// The call's id, in its first piece.
    pub id: Option<String>,
    /// The tool's name, in its first piece.
    pub name: Option<String>,
    /// More of the arguments' JSON text.
    pub arguments: String,
    /// Fields Lyceum does not know; a later value replaces an earlier one.
    pub extra: Map<String, Value>,
}

/// The part of an answer that unknown fields belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtraPlace {
    /// The answer as a whole: its id, the system's fingerprint, the service tier.
    Answer,
    /// The choice: log probabilities, filter results.
    Choice,
    /// The message or its delta: annotations, citations, audio.
    Message,
    /// The usage: its details.
    Usage,
}

/// Fields of an answer that Lyceum does not know, as the provider wrote them.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// What they belong to.
    pub place: ExtraPlace,
    /// The fields. Repeated ones are sent only when they change.
    pub fields: Map<String, Value>,
}

/// Where an answer comes from, when it is not from a model that was asked just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It was given before. The usage reported with it is zero.
    Cached {
        /// How long ago.
        age: Duration,
        /// What it consumed then, and so saves now.
        saved: Usage,
    },
    /// No model could be reached; the answer is a fixed text.
    Degraded,
}

impl Origin {
    /// A bounded name for labels and headers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cached { .. } => "cached",
            Self::Degraded => "degraded",
        }
    }
}

/// One event of an answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// The call waits for its turn; sent again when the position changes.
    Queued(QueuePosition),
    /// The provider has begun to answer.
    Started {
        /// The provider's name, e.g. `openai`.
        provider: Arc<str>,
        /// The model that answers, as the provider names it.
        model: Arc<str>,
    },
    /// The answer is not from a model that was asked just now.
    Origin(Origin),
    /// More of the answer's text.
    Text(String),
    /// More of the model's visible reasoning.
    Reasoning(String),
    /// The reasoning since the last such event is complete, or there is a piece of it that
    /// only the provider can read.
    ReasoningEnd(ReasoningSeal),
    /// More of a tool call.
    ToolCall(ToolCallDelta),
    /// What the call consumed so far; a later one replaces an earlier one.
    Usage(Usage),
    /// Fields Lyceum does not know.
    Extra(Extra),
    /// An event of another choice than the first, where several were asked for (`n`). Its
    /// own `Finished` may come before or after the first choice's last event, and comes
    /// before that one's `Finished`.
    Choice {
        /// Which choice, from 1.
        index: u32,
        /// The event: text, reasoning, a tool call, unknown fields or `Finished`.
        event: Box<ChatEvent>,
    },
    /// The answer is complete. Nothing follows.
    Finished(FinishReason),
}

/// The events of one answer. Nothing happens before it is polled.
///
/// # Cancel safety
///
/// Dropping it cancels the call upstream.
pub type ChatStream = Pin<Box<dyn Stream<Item = Result<ChatEvent, ChatError>> + Send>>;

/// What a model can do, for callers that shape their prompts by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelTraits {
    /// It takes `tools` and answers with tool calls.
    pub native_tools: bool,
    /// The longest input and output together.
    pub context: Tokens,
    /// It is small: prompts should be short and forms simple.
    pub small: bool,
}

impl Default for ModelTraits {
    /// A large hosted model: native tools, 128,000 tokens.
    fn default() -> Self {
        Self {
            native_tools: true,
            context: Tokens(128_000),
            small: false,
        }
    }
}

/// A model that chats: a provider, or a decorator over another model.
pub trait ChatModel: Send + Sync + fmt::Debug {
    /// A short, bounded name for logs, labels and answers, e.g. `anthropic`.
    fn name(&self) -> &str;

    /// What the model can do.
    fn traits(&self) -> ModelTraits {
        ModelTraits::default()
    }

    /// Asks the model. Not idempotent upstream: each polled stream is one call.
    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream;
}

impl<M: ChatModel + ?Sized> ChatModel for Arc<M> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn traits(&self) -> ModelTraits {
        (**self).traits()
    }
    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        (**self).stream(call, request)
    }
}
