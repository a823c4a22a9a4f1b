//! The chat port: a request goes in, a lazy stream of events comes out.
//!
//! Invariant of a [`ChatStream`]: `Queued* Started? Origin? (Text|Reasoning|ToolCall|Usage)* Finished`,
//! or an error as the last item. A stream that ends without `Finished` or an error
//! was cut, and [`ChatAnswer::collect`] reports it as [`ChatError::Truncated`].

use std::{
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_core::Stream;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{CallContext, ChatError, Message, QueuePosition, Tokens, ToolCall, ToolSpec, Usage};

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
    /// Fields Lyceum does not know, sent on unchanged at the top level.
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
    /// More of a tool call.
    ToolCall(ToolCallDelta),
    /// What the call consumed so far; a later one replaces an earlier one.
    Usage(Usage),
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

/// A whole answer: a collected [`ChatStream`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChatAnswer {
    /// The provider that answered, where it said so.
    pub provider: Option<Arc<str>>,
    /// The model that answered, where it said so.
    pub model: Option<Arc<str>>,
    /// Where the answer comes from; `None` for a model that was asked just now.
    pub origin: Option<Origin>,
    /// The text.
    pub text: String,
    /// The visible reasoning.
    pub reasoning: String,
    /// The tool calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// The last usage reported.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish: FinishReason,
}

impl ChatAnswer {
    /// Reads a stream to its end.
    ///
    /// # Errors
    ///
    /// The stream's own error, or [`ChatError::Truncated`] when it ends without one
    /// and without [`ChatEvent::Finished`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream and so cancels the call.
    pub async fn collect<S>(stream: S) -> Result<Self, ChatError>
    where
        S: Stream<Item = Result<ChatEvent, ChatError>>,
    {
        let mut stream = pin!(stream);
        let mut partial = PartialAnswer::default();
        while let Some(event) = stream.next().await {
            if let Some(answer) = partial.push(event?) {
                return Ok(answer);
            }
        }
        Err(ChatError::Truncated)
    }

    /// The answer as the assistant's message of the conversation.
    #[must_use]
    pub fn into_message(self) -> Message {
        Message {
            tool_calls: self.tool_calls,
            ..Message::assistant(self.text)
        }
    }
}

#[derive(Debug, Default)]
struct PartialAnswer {
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
    origin: Option<Origin>,
    text: String,
    reasoning: String,
    tool_calls: Vec<(u32, ToolCall)>,
    usage: Option<Usage>,
}

impl PartialAnswer {
    fn push(&mut self, event: ChatEvent) -> Option<ChatAnswer> {
        match event {
            ChatEvent::Queued(_) => {}
            ChatEvent::Started { provider, model } => {
                self.provider = Some(provider);
                self.model = Some(model);
            }
            ChatEvent::Origin(origin) => self.origin = Some(origin),
            ChatEvent::Text(text) => self.text.push_str(&text),
            ChatEvent::Reasoning(text) => self.reasoning.push_str(&text),
            ChatEvent::ToolCall(delta) => self.tool_call(delta),
            ChatEvent::Usage(usage) => self.usage = Some(usage),
            ChatEvent::Finished(finish) => {
                let whole = std::mem::take(self);
                return Some(ChatAnswer {
                    provider: whole.provider,
                    model: whole.model,
                    origin: whole.origin,
                    text: whole.text,
                    reasoning: whole.reasoning,
                    tool_calls: whole.tool_calls.into_iter().map(|(_, call)| call).collect(),
                    usage: whole.usage,
                    finish,
                });
            }
        }
        None
    }

    fn tool_call(&mut self, delta: ToolCallDelta) {
        let at = match self
            .tool_calls
            .iter()
            .position(|(index, _)| *index == delta.index)
        {
            Some(at) => at,
            None => {
                let empty = ToolCall {
                    id: String::new(),
                    name: String::new(),
                    arguments: String::new(),
                };
                self.tool_calls.push((delta.index, empty));
                self.tool_calls.len() - 1
            }
        };
        let call = &mut self.tool_calls[at].1;
        if let Some(id) = delta.id {
            call.id = id;
        }
        if let Some(name) = delta.name {
            call.name = name;
        }
        call.arguments.push_str(&delta.arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, stream};

    fn collect(events: Vec<Result<ChatEvent, ChatError>>) -> Result<ChatAnswer, ChatError> {
        block_on(ChatAnswer::collect(Box::pin(stream::iter(events))))
    }

    #[test]
    fn pieces_of_tool_calls_are_joined_by_index() {
        let piece = |index, id: Option<&str>, arguments: &str| {
            Ok(ChatEvent::ToolCall(ToolCallDelta {
                index,
                id: id.map(Into::into),
                name: id.map(|_| "calculate".into()),
                arguments: arguments.into(),
            }))
        };
        let answer = collect(vec![
            piece(0, Some("a"), "{\"x\""),
            piece(1, Some("b"), "{}"),
            piece(0, None, ":1}"),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
        ])
        .unwrap();
        let arguments: Vec<&str> = answer
            .tool_calls
            .iter()
            .map(|c| c.arguments.as_str())
            .collect();
        assert_eq!(arguments, ["{\"x\":1}", "{}"]);
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let cut = collect(vec![Ok(ChatEvent::Text("half an ans".into()))]);
        assert!(matches!(cut, Err(ChatError::Truncated)));
    }
}
