//! The panel port: several agents discuss what somebody says, and report.
//!
//! The gateway calls it and the agents implement it, so it lives below both.

use std::{fmt, pin::Pin, sync::Arc};

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::{CallContext, QueuePosition, SessionId, TeachError, Usage};

/// What a panel discusses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discussion {
    /// The subject, e.g. `photosynthesis`.
    pub topic: String,
    /// The position, explanation or question that is discussed.
    pub text: String,
    /// The conversation it belongs to.
    pub session: SessionId,
    /// The most rounds; `None` for as many as the panel is configured for.
    pub rounds: Option<u32>,
}

/// What one agent said in one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanelTurn {
    /// The agent, e.g. `critic`.
    pub agent: Arc<str>,
    /// The round, from 1.
    pub round: u32,
    /// Its words.
    pub text: String,
}

/// What came of a discussion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelReport {
    /// The conversation.
    pub session: SessionId,
    /// The final report, dissent included.
    pub report: String,
    /// Objections that were not resolved, in the words they were made in.
    pub dissent: Vec<String>,
    /// Whether none was left.
    pub consensus: bool,
    /// How many rounds there were.
    pub rounds: u32,
    /// Everything that was said: by round, and in it in the order of the agents' roles.
    pub turns: Vec<PanelTurn>,
    /// Who wrote the report: a provider's name, or `offline` for the rules.
    pub provider: String,
    /// The model that wrote it, where there was one.
    pub model: Option<String>,
    /// Agents whose model failed and for whom the rules spoke; empty when all was well.
    pub degraded: Vec<String>,
    /// All model calls together.
    pub usage: Usage,
}

/// What happens while a panel discusses. Agents speak at the same time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PanelEvent {
    /// A round began.
    Round(u32),
    /// An agent's model call waits for its turn.
    Queued {
        /// The agent.
        agent: Arc<str>,
        /// Its place.
        position: QueuePosition,
    },
    /// More of an agent's words.
    Text(PanelTurn),
    /// All an agent said in a round.
    Spoke(PanelTurn),
    /// The whole result. Nothing follows.
    Finished(Box<PanelReport>),
}

/// What happens while a panel discusses, ending in [`PanelEvent::Finished`] or an error.
///
/// # Cancel safety
///
/// Dropping it cancels the model calls.
pub type PanelStream = Pin<Box<dyn Stream<Item = Result<PanelEvent, TeachError>> + Send>>;

/// Several agents that discuss.
pub trait Panel: Send + Sync + fmt::Debug {
    /// Discusses. Nothing happens before the stream is polled.
    fn discuss(&self, call: CallContext, discussion: Discussion) -> PanelStream;
}
