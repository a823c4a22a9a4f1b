//! How a run that did not fail ended.
//!
//! Invariant: `interrupts` is empty unless somebody has to answer. Deliberately absent:
//! failures, which are [`crate::RunError`].

use std::{fmt, sync::Arc};

use crate::{CheckpointId, Interrupt, NodeName, checkpoint::Children};

/// How a run that did not fail ended.
#[derive(Clone)]
pub struct Output<S> {
    /// The state after the last merged step.
    pub state: Arc<S>,
    /// Why the run stopped there.
    pub status: Status,
    /// How many steps this run merged.
    pub steps: u64,
    /// What waits for an answer; empty unless the status is [`Status::Interrupted`].
    pub interrupts: Vec<Interrupt>,
    /// Nodes of the enclosing graph that this graph leaves to.
    pub(crate) left_to: Vec<NodeName>,
    /// The last checkpoint, and where the subgraphs with memory stand.
    pub(crate) checkpoint: Option<CheckpointId>,
    pub(crate) children: Arc<Children>,
}

/// Why a run stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Every path reached its end.
    Done,
    /// The run was cancelled; the step that was running is not part of the state, but a
    /// thread keeps what its finished nodes wrote.
    Cancelled,
    /// Nodes wait for answers, see [`Output::interrupts`]; everything else of the step is
    /// done.
    Interrupted,
    /// The graph or the run's configuration stops here, see
    /// [`crate::GraphBuilder::interrupt_before`]; resume without an answer.
    Paused,
    /// The run was asked to stop at a step boundary and did.
    Drained,
}

impl<S> fmt::Debug for Output<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("status", &self.status)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}
