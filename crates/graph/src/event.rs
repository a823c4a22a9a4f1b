//! What a stream of a run says, and how a run ends.
//!
//! Invariant: sequence numbers rise by one from 1, and the last event of a run that did not
//! fail is [`EventKind::Finished`]. Deliberately absent: a serialised form.

use std::{fmt, sync::Arc};

use crate::{Interrupt, NodeName, State};

/// One event of a run.
#[derive(Clone)]
pub struct Event<S: State, E = ()> {
    /// Its place in the stream; the first is 1.
    pub seq: u64,
    /// The subgraph it comes from: names of nodes, joined by `/`; empty for the run itself.
    pub path: String,
    /// The step it belongs to, in its own graph.
    pub step: u64,
    /// What happened.
    pub kind: EventKind<S, E>,
}

/// What happened in a run.
#[derive(Clone)]
#[non_exhaustive]
pub enum EventKind<S: State, E = ()> {
    /// A node started. Mode [`Mode::Tasks`].
    Started {
        /// The node.
        node: NodeName,
    },
    /// A node is done and wrote this. Mode [`Mode::Updates`].
    Updated {
        /// The node.
        node: NodeName,
        /// Its writes, not merged yet; `None` when it wrote nothing.
        update: Option<S::Update>,
    },
    /// A node emitted this. Mode [`Mode::Custom`].
    Custom {
        /// The node.
        node: NodeName,
        /// What it gave to `Context::emit`.
        value: E,
    },
    /// The state after the step was merged. Mode [`Mode::States`].
    State(Arc<S>),
    /// A node of a subgraph is done and wrote this. Mode [`Mode::Updates`].
    NestedUpdated {
        /// The node.
        node: NodeName,
        /// Its writes as JSON: the subgraph's types are its own.
        update: serde_json::Value,
    },
    /// The state of a subgraph after a step was merged, as JSON. Mode [`Mode::States`].
    NestedState(serde_json::Value),
    /// The run is over. Always sent.
    Finished(Output<S>),
}

/// Which events a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// [`EventKind::Started`].
    Tasks,
    /// [`EventKind::Updated`].
    Updates,
    /// [`EventKind::Custom`].
    Custom,
    /// [`EventKind::State`]. A reader that keeps the states makes the run copy them.
    States,
}

/// A set of modes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Modes(u8);

impl Modes {
    pub(crate) const ALL: Self = Self(u8::MAX);

    pub(crate) fn has(self, mode: Mode) -> bool {
        self.0 & (1 << mode as u8) != 0
    }
}

impl FromIterator<Mode> for Modes {
    fn from_iter<T: IntoIterator<Item = Mode>>(modes: T) -> Self {
        Self(modes.into_iter().fold(0, |set, mode| set | 1 << mode as u8))
    }
}

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

/// Shows names and numbers, not values: a log is no place for a state.
impl<S: State, E> fmt::Debug for Event<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.seq)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, " step {} {:?}", self.step, self.kind)
    }
}

/// Shows names, not values.
impl<S: State, E> fmt::Debug for EventKind<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { node } => write!(f, "started {node}"),
            Self::Updated { node, .. } => write!(f, "updated {node}"),
            Self::Custom { node, .. } => write!(f, "custom {node}"),
            Self::NestedUpdated { node, .. } => write!(f, "updated {node}"),
            Self::State(_) | Self::NestedState(_) => f.write_str("state"),
            Self::Finished(output) => write!(f, "finished {:?}", output.status),
        }
    }
}
