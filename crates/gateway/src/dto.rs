//! The JSON that clients send and get, and its rules.
//!
//! Invariant: what leaves this module inward keeps core's rules. Fields that are not
//! known are ignored, so that a client may be newer than the server.

mod library;
mod panel;
mod pupil;
pub(crate) mod refusals;

use lyceum_core::{
    Conversation, Explanation, Gap, Lesson, Memorized, Role, SessionId, ToolTrace, Turn, Usage,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{config::Limits, error::ApiError, streams::Place};

pub(crate) use library::{
    ErasedOutput, FoundOutput, MEMORY_BYTES, MemoriesOutput, MemoryEdit, MemoryOutput, MemoryQuery,
    QUERY_BYTES, SessionsOutput, TranscriptOutput,
};
pub(crate) use panel::{PanelInput, PanelOutput, PanelSpeech};
pub(crate) use pupil::{
    ChatTone, ExamInput, ExamOutput, KnowledgeOutput, ReviewOutput, TeachBackInput, TeachBackOutput,
};

/// The longest topic, in characters.
const MAX_TOPIC: usize = 200;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speaker {
    User,
    Assistant,
    System,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ChatMessage {
    /// Who said it.
    role: Speaker,
    /// What was said.
    content: String,
}

impl From<ChatMessage> for Turn {
    fn from(message: ChatMessage) -> Self {
        Self {
            role: match message.role {
                Speaker::User => Role::User,
                Speaker::Assistant => Role::Assistant,
                Speaker::System => Role::System,
            },
            content: message.content,
        }
    }
}

impl From<Turn> for ChatMessage {
    fn from(turn: Turn) -> Self {
        Self {
            role: match turn.role {
                Role::User => Speaker::User,
                Role::Assistant => Speaker::Assistant,
                Role::System | Role::Tool => Speaker::System,
            },
            content: turn.content,
        }
    }
}

/// An explanation for the student.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatInput {
    /// What is taught, e.g. `photosynthesis`.
    #[schema(max_length = 200, pattern = r"\S")]
    topic: String,
    /// The learner's own words, at most 64 KiB unless the server is configured otherwise.
    #[schema(pattern = r"\S")]
    explanation: String,
    /// The conversation: 1 to 128 of letters, digits and `. _ : @ -`. Left out, a new one begins.
    #[schema(min_length = 1, max_length = 128, pattern = "NAME")]
    session_id: Option<String>,
    /// The conversation so far, oldest first.
    #[schema(max_items = 1000)]
    short_term_memory: Option<Vec<ChatMessage>>,
    /// In which role the student asks. Left out, as the server is configured.
    tone: Option<ChatTone>,
    /// Whether a stream goes on when its connection is lost, so that it can be gone on with;
    /// left out, it does not. Without a stream it means nothing.
    durable: Option<bool>,
}

impl ChatInput {
    /// Whether a stream goes on without its connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable == Some(true)
    }

    /// Checks the rules that types cannot say.
    pub(crate) fn check(self, limits: &Limits) -> Result<Explanation, ApiError> {
        check_topic(&self.topic)?;
        let bytes = self.explanation.len();
        if self.explanation.trim().is_empty() {
            return Err(invalid("explanation", "it is blank: say something".into()));
        }
        if bytes > limits.explanation_bytes {
            let most = limits.explanation_bytes;
            return Err(invalid(
                "explanation",
                format!("it has {bytes} bytes: at most {most} are allowed"),
            ));
        }
        let memory = self.short_term_memory.unwrap_or_default();
        check_count("short_term_memory", memory.len(), limits)?;
        Ok(Explanation {
            topic: self.topic,
            text: self.explanation,
            session: session(self.session_id)?.unwrap_or_else(SessionId::random),
            short_term_memory: memory.into_iter().map(Turn::from).collect(),
            tone: self.tone.map(Into::into),
        })
    }
}

/// A hole that the student found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatGap {
    /// What kind of hole.
    #[schema(examples("undefined_term"))]
    kind: &'static str,
    /// The learner's own words it refers to.
    quote: String,
    /// What is missing.
    reason: String,
    /// How much it matters.
    severity: ChatSeverity,
    /// How sure the student is, 0–1.
    #[schema(minimum = 0, maximum = 1)]
    confidence: f64,
}

/// How much a gap matters.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ChatSeverity {
    Low,
    Medium,
    High,
}

impl From<Gap> for ChatGap {
    fn from(gap: Gap) -> Self {
        Self {
            kind: gap.kind.as_str(),
            quote: gap.quote,
            reason: gap.reason,
            confidence: gap.confidence.fraction(),
            severity: match gap.severity {
                lyceum_core::Severity::Low => ChatSeverity::Low,
                lyceum_core::Severity::Medium => ChatSeverity::Medium,
                lyceum_core::Severity::High => ChatSeverity::High,
            },
        }
    }
}

/// A tool call that the student made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatTool {
    /// The tool's name.
    tool: String,
    /// Its arguments, shortened.
    arguments: String,
    /// Its result or error, shortened.
    result: String,
    /// Whether it gave a result.
    ok: bool,
}

impl From<ToolTrace> for ChatTool {
    fn from(trace: ToolTrace) -> Self {
        Self {
            tool: trace.tool,
            arguments: trace.arguments,
            result: trace.result,
            ok: trace.ok,
        }
    }
}

/// What the model calls of an answer consumed together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatUsage {
    /// All input tokens, cached ones included.
    input_tokens: u64,
    /// All output tokens.
    output_tokens: u64,
    /// The part of the input read from the provider's prompt cache.
    cached_input_tokens: u64,
}

impl From<Usage> for ChatUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input.0,
            output_tokens: usage.output.0,
            cached_input_tokens: usage.cached_input.0,
        }
    }
}

/// The student's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatOutput {
    /// The student's questions.
    questions: Vec<String>,
    /// The conversation, to be sent with the next explanation.
    session_id: String,
    /// The conversation with this exchange added.
    short_term_memory: Vec<ChatMessage>,
    /// Who answered: a provider's name, or `offline`.
    provider: String,
    /// The model that answered, where there was one.
    model: Option<String>,
    /// The gaps found, most important first.
    gaps: Vec<ChatGap>,
    /// Parts that were missing while answering; empty when all was well.
    degraded: Vec<String>,
    /// The tool calls made.
    tools: Vec<ChatTool>,
    /// What the answer consumed.
    usage: ChatUsage,
}

impl From<Lesson> for ChatOutput {
    fn from(lesson: Lesson) -> Self {
        Self {
            questions: lesson.questions,
            session_id: lesson.session.into(),
            short_term_memory: convert(lesson.short_term_memory),
            provider: lesson.provider,
            model: lesson.model,
            gaps: convert(lesson.gaps),
            degraded: lesson.degraded,
            tools: convert(lesson.tools),
            usage: lesson.usage.into(),
        }
    }
}

/// A conversation to be remembered.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MemorizeInput {
    /// What it was about.
    #[schema(max_length = 200, pattern = r"\S")]
    topic: String,
    /// The conversation, oldest first.
    #[schema(min_items = 1, max_items = 1000)]
    conversation_history: Vec<ChatMessage>,
    /// Where it took place.
    #[schema(min_length = 1, max_length = 128, pattern = "NAME")]
    session_id: Option<String>,
}

impl MemorizeInput {
    /// Checks the rules that types cannot say.
    pub(crate) fn check(self, limits: &Limits) -> Result<Conversation, ApiError> {
        check_topic(&self.topic)?;
        let count = self.conversation_history.len();
        if count == 0 {
            let detail = "it is empty: give at least one message".to_owned();
            return Err(invalid("conversation_history", detail));
        }
        check_count("conversation_history", count, limits)?;
        Ok(Conversation {
            topic: self.topic,
            session: session(self.session_id)?,
            history: convert(self.conversation_history),
        })
    }
}

/// What was remembered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemorizeOutput {
    /// The id of the stored memory.
    memory_id: String,
    /// The stored summary.
    summary: String,
    /// Who wrote it: a provider's name, or `offline` for the simplified one.
    provider: String,
}

impl From<Memorized> for MemorizeOutput {
    fn from(memorized: Memorized) -> Self {
        Self {
            memory_id: memorized.id,
            summary: memorized.summary,
            provider: memorized.provider,
        }
    }
}

/// Why a request was not answered as asked. The answer's `x-request-id` header names
/// the request to the operator.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorOutput {
    /// What is wrong and what to do.
    detail: String,
}

/// An event of a stream, as it is read from `text/event-stream`.
#[expect(dead_code, reason = "it describes what is written elsewhere")]
#[derive(ToSchema)]
pub(crate) struct StreamEvent {
    /// Its number, to go on from with `Last-Event-ID`; absent where streams cannot be gone on with.
    #[schema(nullable = false)]
    id: Option<String>,
    /// Its name; absent for those that have none.
    #[schema(nullable = false)]
    event: Option<String>,
    /// JSON, or `[DONE]`.
    data: String,
}

/// Why a stream was not opened, and the place in the line of those who wait for one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BusyOutput {
    /// What is wrong and what to do.
    detail: String,
    /// What to send in `x-queue-token` when coming back; a place is kept for ten seconds
    /// beyond `Retry-After`, which is half a minute at most.
    queue_token: Option<String>,
    /// The place in the line, from 1; absent where there is no line.
    #[schema(required = false)]
    position: usize,
    /// When a stream is expected to be free, in seconds; absent where there is no line.
    #[schema(required = false)]
    estimated_wait_seconds: f64,
}

impl BusyOutput {
    pub(crate) fn new(detail: String, place: &Place) -> Self {
        Self {
            detail,
            queue_token: place.token.map(|token| token.to_string()),
            position: place.position,
            estimated_wait_seconds: place.wait.as_secs_f64(),
        }
    }

    /// Strings and finite numbers always serialise.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

pub(crate) fn convert<A: Into<B>, B>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(Into::into).collect()
}

fn invalid(path: &str, detail: String) -> ApiError {
    ApiError::Invalid {
        path: path.to_owned(),
        detail,
    }
}

fn check_topic(topic: &str) -> Result<(), ApiError> {
    let characters = topic.chars().count();
    if topic.trim().is_empty() {
        return Err(invalid("topic", "it is blank: name the subject".into()));
    }
    if characters > MAX_TOPIC {
        let detail = format!("it has {characters} characters: at most {MAX_TOPIC} are allowed");
        return Err(invalid("topic", detail));
    }
    Ok(())
}

fn check_count(path: &str, count: usize, limits: &Limits) -> Result<(), ApiError> {
    if count > limits.messages {
        let most = limits.messages;
        let detail = format!("it has {count} messages: at most {most} are allowed");
        return Err(invalid(path, detail));
    }
    Ok(())
}

fn session(id: Option<String>) -> Result<Option<SessionId>, ApiError> {
    id.map(SessionId::new)
        .transpose()
        .map_err(|error| invalid("session_id", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(topic: &str, explanation: &str) -> ChatInput {
        ChatInput {
            topic: topic.into(),
            explanation: explanation.into(),
            session_id: None,
            short_term_memory: None,
            tone: None,
            durable: None,
        }
    }

    #[test]
    fn limits_count_what_they_say_they_count() {
        let limits = Limits {
            explanation_bytes: 6,
            ..Limits::default()
        };
        assert!(input(&"光".repeat(200), "光合").check(&limits).is_ok());
        let topic = input(&"光".repeat(201), "x").check(&limits).unwrap_err();
        assert!(topic.to_string().contains("201 characters"), "{topic}");
        let text = input("t", "光合作").check(&limits).unwrap_err();
        assert!(text.to_string().contains("9 bytes"), "{text}");
        assert!(input("t", " \n\u{3000}").check(&limits).is_err());
    }

    #[test]
    fn a_session_is_made_when_none_is_given() {
        let limits = Limits::default();
        let first = input("t", "x").check(&limits).unwrap().session;
        let second = input("t", "x").check(&limits).unwrap().session;
        assert_ne!(first, second);
    }
}
