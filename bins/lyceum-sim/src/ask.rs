//! What a request asks for, the same for both wire formats.
//!
//! Invariant: every fact that the answer or its price depends on is here, so that the
//! wire formats only translate. Deliberately absent: sampling settings, which a simulated
//! model ignores.

use serde_json::Value;

/// A request for an answer, whichever format it came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    pub(crate) model: String,
    /// The system prompt; several are joined by newlines.
    pub(crate) system: String,
    /// The text of the last message that a user wrote.
    pub(crate) user: String,
    /// The text of the tool results at the end of the conversation, if it ends in such.
    pub(crate) tool_result: Option<String>,
    pub(crate) input_tokens: u64,
    pub(crate) tools: Vec<ToolOffer>,
    pub(crate) tool_choice: ToolChoice,
    pub(crate) json: Option<JsonForm>,
    pub(crate) max_output: Option<u64>,
    pub(crate) stop: Vec<String>,
    pub(crate) stream: bool,
    /// Whether a stream ends with the usage; always so in Anthropic's format.
    pub(crate) stream_usage: bool,
}

/// A tool that the model may call.
#[derive(Debug, Clone)]
pub(crate) struct ToolOffer {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// In which form JSON is wanted.
#[derive(Debug, Clone)]
pub(crate) enum JsonForm {
    Object,
    Schema(Value),
}

/// Every message costs a few tokens beyond its words; vendors state 3 to 4.
pub(crate) const TOKENS_PER_MESSAGE: u64 = 4;
