//! The panel's JSON.

use lyceum_core::{Discussion, PanelReport, PanelTurn, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ChatUsage, check_topic, convert, invalid, session};
use crate::{config::Limits, error::ApiError, whole};

/// A position for the panel.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PanelInput {
    /// What it is about, e.g. `photosynthesis`.
    #[schema(max_length = 200, pattern = r"\S")]
    topic: String,
    /// The position, explanation or question, at most 64 KiB unless the server is configured otherwise.
    #[schema(pattern = r"\S")]
    text: String,
    /// The conversation: 1 to 128 of letters, digits and `. _ : @ -`. Left out, a new one begins.
    #[schema(min_length = 1, max_length = 128, pattern = "NAME")]
    session_id: Option<String>,
    /// The most rounds. Left out, as the server is configured.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 3)]
    rounds: Option<u32>,
    /// Whether a stream goes on when its connection is lost, so that it can be gone on with;
    /// left out, it does not. Without a stream it means nothing.
    durable: Option<bool>,
}

impl PanelInput {
    /// Whether a stream goes on without its connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable == Some(true)
    }

    /// Checks the rules that types cannot say.
    pub(crate) fn check(self, limits: &Limits) -> Result<Discussion, ApiError> {
        check_topic(&self.topic)?;
        if self.text.trim().is_empty() {
            return Err(invalid("text", "it is blank: say something".into()));
        }
        let (bytes, most) = (self.text.len(), limits.explanation_bytes);
        if bytes > most {
            let detail = format!("it has {bytes} bytes: at most {most} are allowed");
            return Err(invalid("text", detail));
        }
        if let Some(rounds) = self.rounds
            && !(1..=3).contains(&rounds)
        {
            let detail = format!("it is {rounds}: 1 to 3 are allowed");
            return Err(invalid("rounds", detail));
        }
        Ok(Discussion {
            topic: self.topic,
            text: self.text,
            session: session(self.session_id)?.unwrap_or_else(SessionId::random),
            rounds: self.rounds,
        })
    }
}

/// What an agent said in a round.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PanelSpeech {
    /// The agent: `planner`, `critic`, `host` or `reporter`.
    agent: String,
    /// The round, from 1.
    round: u32,
    /// Its words.
    text: String,
}

impl From<PanelTurn> for PanelSpeech {
    fn from(turn: PanelTurn) -> Self {
        Self {
            agent: turn.agent.as_ref().to_owned(),
            round: turn.round,
            text: turn.text,
        }
    }
}

/// What came of a discussion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PanelOutput {
    /// The final report, dissent included.
    report: String,
    /// Objections that were not resolved, in the words they were made in.
    dissent: Vec<String>,
    /// Whether none was left.
    consensus: bool,
    /// How many rounds there were.
    rounds: u32,
    /// Everything that was said.
    turns: Vec<PanelSpeech>,
    /// The conversation.
    session_id: String,
    /// Who wrote the report: a provider's name, or `offline` for the rules.
    provider: String,
    /// The model that wrote it, where there was one.
    model: Option<String>,
    /// Agents for whom the rules spoke because their model failed; empty when all was well.
    degraded: Vec<String>,
    /// What the discussion consumed.
    usage: ChatUsage,
}

impl From<PanelReport> for PanelOutput {
    fn from(report: PanelReport) -> Self {
        Self {
            report: report.report,
            dissent: report.dissent,
            consensus: report.consensus,
            rounds: report.rounds,
            turns: convert(report.turns),
            session_id: report.session.into(),
            provider: report.provider,
            model: report.model,
            degraded: report.degraded,
            usage: report.usage.into(),
        }
    }
}
