//! A panel: planner, critic, host and reporter discuss a position over one to three rounds.
//!
//! The roles of a round run at once. The critic begins when a few of the planner's claims
//! are complete, and is called again for the claims that came after; the host when the plan
//! and the first objection are; the reporter, in the last round alone, when the first ruling
//! is, or after all rulings where only they made it the last. An objection that the host has
//! not resolved, also one it came too early to see, is open: the next round's planner answers
//! it, and what is open at the end stands in the report word for word. There is consensus
//! only where all claims were reviewed.
//!
//! Invariant: four model calls a round at most, and one report. Deliberately absent: memory of discussions.

mod claims;
mod graph;
mod rules;
mod seat;
mod speech;

use std::{fmt, sync::Arc};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, Discussion, PanelEvent, PanelReport, PanelStream, TeachError,
};
use lyceum_graph::{EventKind, Graph, Mode, RunConfig, RunError};

use crate::{Mind, WorkflowError};
use graph::{Board, PanelState, Shared};
use seat::Role;

pub use seat::Seat;

/// More rounds are no better, and take longer.
const MOST_ROUNDS: u32 = 3;

/// How far the roles of a round overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Each role waits for those before it to be done.
    None,
    /// The critic begins when the planner has said so many complete claims, at least one.
    AfterClaims(usize),
}

/// Who sits at the table.
#[derive(Debug, Clone)]
pub struct Seats {
    /// Works out the position, claim by claim.
    pub planner: Seat,
    /// Objects to claims.
    pub critic: Seat,
    /// Rules on objections; its calls have high priority.
    pub host: Seat,
    /// Writes the report.
    pub reporter: Seat,
}

impl Seats {
    /// The same mind on every seat, with the built-in instructions.
    #[must_use]
    pub fn all(mind: &Mind) -> Self {
        let seat = || Seat::new(mind.clone());
        Self {
            planner: seat(),
            critic: seat(),
            host: seat(),
            reporter: seat(),
        }
    }

    fn of(&self, role: Role) -> &Seat {
        match role {
            Role::Planner => &self.planner,
            Role::Critic => &self.critic,
            Role::Host => &self.host,
            Role::Reporter => &self.reporter,
        }
    }
}

/// How the panel works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanelConfig {
    /// The most rounds, 1 to 3. Default 3.
    pub rounds: u32,
    /// Default: the critic begins after three claims.
    pub overlap: Overlap,
}

impl Default for PanelConfig {
    fn default() -> Self {
        Self {
            rounds: MOST_ROUNDS,
            overlap: Overlap::AfterClaims(3),
        }
    }
}

/// The panel. Clones share everything.
#[derive(Clone)]
pub struct Panel {
    graph: Graph<PanelState, Shared, PanelEvent>,
    seats: Arc<Seats>,
    config: PanelConfig,
}

impl fmt::Debug for Panel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panel")
            .field("seats", &self.seats)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Panel {
    /// A panel of these seats.
    ///
    /// # Errors
    ///
    /// [`WorkflowError`] when the workflow does not compile, which only a change of its
    /// code can cause.
    pub fn new(seats: Seats, config: PanelConfig) -> Result<Self, WorkflowError> {
        Ok(Self {
            graph: graph::compile()?,
            seats: Arc::new(seats),
            config,
        })
    }
}

impl lyceum_core::Panel for Panel {
    fn discuss(&self, call: CallContext, discussion: Discussion) -> PanelStream {
        let panel = self.clone();
        Box::pin(async_stream::try_stream! {
            let mut watched = crate::metrics::Watched::begin("panel");
            let Discussion { topic, text, session, rounds } = discussion;
            let rounds = rounds.unwrap_or(panel.config.rounds).min(panel.config.rounds);
            let rounds = rounds.clamp(1, MOST_ROUNDS);
            let shared = Shared {
                seats: Seats::clone(&panel.seats),
                overlap: panel.config.overlap,
                call: CallContext { scope: call.scope.with_session(session.clone()), ..call },
                boards: (0..rounds).map(|_| Board::default()).collect(),
            };
            let state = PanelState { topic, text, most_rounds: rounds, ..PanelState::default() };
            let config = RunConfig::new(shared).modes([Mode::Custom]);
            let mut events = panel.graph.stream(state, config);
            while let Some(event) = events.next().await {
                let event = event.map_err(teach_error);
                match event.inspect_err(|error| watched.failed(error))?.kind {
                    EventKind::Custom { value, .. } => yield value,
                    EventKind::Finished(output) => {
                        let state = Arc::unwrap_or_clone(output.state);
                        watched.done(&state.degraded);
                        yield PanelEvent::Finished(Box::new(PanelReport {
                            session: session.clone(),
                            consensus: state.open.is_empty() && state.unreviewed == 0,
                            report: state.report,
                            dissent: state.open,
                            rounds: state.round,
                            turns: state.turns,
                            provider: state.provider,
                            model: state.model,
                            degraded: state.degraded,
                            usage: state.usage,
                        }));
                    }
                    _ => {}
                }
            }
        })
    }
}

fn teach_error(error: RunError) -> TeachError {
    match error {
        RunError::Node { source, .. } => match source.into_inner().downcast::<ChatError>() {
            Ok(error) => TeachError::Model(*error),
            Err(source) => TeachError::Workflow { source },
        },
        other => TeachError::Workflow {
            source: other.into(),
        },
    }
}
