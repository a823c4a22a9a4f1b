//! The student port: what a front end asks of an AI student, and what it hears back.
//!
//! The gateway calls it and the feynman agent implements it, so it lives below both.

use std::{fmt, pin::Pin, time::Duration};

use async_trait::async_trait;
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::{CallContext, ChatError, QueuePosition, Role, SessionId, Tone, Usage};

/// One message of a conversation as clients send and get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who spoke.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// What the learner teaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The subject, e.g. `photosynthesis`.
    pub topic: String,
    /// The learner's words.
    pub text: String,
    /// The conversation it belongs to.
    pub session: SessionId,
    /// The conversation so far as the client remembers it, oldest first; may be empty.
    pub short_term_memory: Vec<Turn>,
    /// In which role the student asks; `None` for the one it is configured with.
    pub tone: Option<Tone>,
}

/// The kinds of gap an explanation can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GapKind {
    /// It contradicts what was said before.
    Contradiction,
    /// A term is explained by itself.
    CircularDefinition,
    /// It says that something happens, not how.
    MissingMechanism,
    /// A conclusion does not follow from what stands before it.
    MissingStep,
    /// A term is used without saying what it means.
    UndefinedTerm,
    /// A claim stands without a reason or evidence.
    UnsupportedClaim,
    /// "Always", "never", "all": said without limits.
    OverGeneralisation,
    /// Where it stops being true is not said.
    BoundaryCase,
    /// A comparison is left to carry the explanation.
    BrokenAnalogy,
    /// There is nothing concrete.
    MissingExample,
    /// A word says less than it seems to.
    VagueWord,
}

impl GapKind {
    /// The kind's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::CircularDefinition => "circular_definition",
            Self::MissingMechanism => "missing_mechanism",
            Self::MissingStep => "missing_step",
            Self::UndefinedTerm => "undefined_term",
            Self::UnsupportedClaim => "unsupported_claim",
            Self::OverGeneralisation => "over_generalisation",
            Self::BoundaryCase => "boundary_case",
            Self::BrokenAnalogy => "broken_analogy",
            Self::MissingExample => "missing_example",
            Self::VagueWord => "vague_word",
        }
    }
}

/// How much a gap matters to the explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nice to know.
    Low,
    /// The explanation is weaker for it.
    Medium,
    /// The explanation does not hold without it.
    High,
}

/// How sure a student is of a gap, in hundredths; a fraction of 0–1 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Confidence(u8);

impl From<f64> for Confidence {
    fn from(fraction: f64) -> Self {
        Self::from_fraction(fraction)
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> Self {
        confidence.fraction()
    }
}

impl Confidence {
    /// From a fraction of 0–1; what lies outside counts as the nearer end.
    #[must_use]
    pub fn from_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * 100.0).round() as u8)
    }

    /// As a fraction, 0–1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0.min(100)) / 100.0
    }
}

impl Default for Confidence {
    /// As likely as not: nobody said.
    fn default() -> Self {
        Self(50)
    }
}

/// A hole in an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What kind of hole.
    pub kind: GapKind,
    /// The learner's own words it refers to, copied exactly from the explanation.
    pub quote: String,
    /// What is missing, in the learner's language.
    pub reason: String,
    /// How much it matters.
    pub severity: Severity,
    /// How sure it is that something is missing.
    #[serde(default)]
    pub confidence: Confidence,
}

/// A tool call that the student made while thinking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolTrace {
    /// The tool's name.
    pub tool: String,
    /// Its arguments, shortened.
    pub arguments: String,
    /// Its result or error, shortened.
    pub result: String,
    /// Whether it gave a result.
    pub ok: bool,
}

/// What came of one explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// The conversation.
    pub session: SessionId,
    /// The student's questions, one to three.
    pub questions: Vec<String>,
    /// The gaps found, most important first.
    pub gaps: Vec<Gap>,
    /// The client's memory with this exchange added.
    pub short_term_memory: Vec<Turn>,
    /// Who answered: a provider's name, or `offline`.
    pub provider: String,
    /// The model that answered, where there was one.
    pub model: Option<String>,
    /// Parts that were missing while answering, e.g. `memory`; empty when all was well.
    pub degraded: Vec<String>,
    /// The tool calls made.
    pub tools: Vec<ToolTrace>,
    /// All model calls together.
    pub usage: Usage,
}

/// What happens while a student thinks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TeachEvent {
    /// A model call waits for its turn.
    Queued(QueuePosition),
    /// A node of the workflow began.
    Node(&'static str),
    /// A tool was called.
    Tool(ToolTrace),
    /// The gaps are known.
    Gaps(Vec<Gap>),
    /// More of the student's words.
    Text(String),
    /// The whole result. Nothing follows.
    Finished(Box<Lesson>),
}

/// A conversation to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The subject.
    pub topic: String,
    /// The conversation, oldest first.
    pub history: Vec<Turn>,
    /// Where it took place, if known.
    pub session: Option<SessionId>,
}

/// What was remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memorized {
    /// The id of the stored memory.
    pub id: String,
    /// The stored summary.
    pub summary: String,
    /// Who wrote the summary: a provider's name, or `offline` for the simplified one.
    pub provider: String,
}

/// Why a student could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeachError {
    /// The model call failed.
    #[error(transparent)]
    Model(#[from] ChatError),
    /// The conversation could not be read or stored.
    #[error("keep the conversation")]
    Storage {
        /// Whether the same call may succeed later.
        retryable: bool,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The workflow failed.
    #[error("run the workflow")]
    Workflow {
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TeachError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Model(error) => error.is_retryable(),
            Self::Storage { retryable, .. } => *retryable,
            Self::Workflow { .. } => false,
        }
    }

    /// When to come back, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Model(error) => error.retry_after(),
            Self::Storage { .. } | Self::Workflow { .. } => None,
        }
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Model(error) => error.label(),
            Self::Storage { .. } => "storage",
            Self::Workflow { .. } => "workflow",
        }
    }
}

/// What happens while a student thinks, ending in [`TeachEvent::Finished`] or an error.
///
/// # Cancel safety
///
/// Dropping it cancels the model calls; nothing of the unfinished turn is stored.
pub type TeachStream = Pin<Box<dyn Stream<Item = Result<TeachEvent, TeachError>> + Send>>;

/// An AI student. `call.scope` says whose; its session is set by the implementation.
#[async_trait]
pub trait Student: Send + Sync + fmt::Debug {
    /// Explains something to the student. Nothing happens before the stream is polled.
    fn teach(&self, call: CallContext, explanation: Explanation) -> TeachStream;

    /// Summarises a conversation and stores it in semantic memory.
    ///
    /// # Errors
    ///
    /// [`TeachError::Storage`] when it cannot be stored. A model that fails is not an
    /// error: a simplified summary is stored instead.
    async fn memorize(
        &self,
        call: CallContext,
        conversation: Conversation,
    ) -> Result<Memorized, TeachError>;
}
