//! What can go wrong in a node and in a run.
//!
//! Invariant: whether a retry may help is said where the error is raised, never guessed
//! from its type. Deliberately absent: cancelled and interrupted, which are outcomes.

use std::{error::Error, fmt, time::Duration};

use crate::{NodeName, SaverError};

/// Why a node failed.
///
/// There is no conversion by `?` from any error on purpose: only the author of the node
/// knows whether a second attempt may succeed.
#[derive(Debug)]
pub struct NodeError {
    retryable: bool,
    source: Box<dyn Error + Send + Sync>,
}

impl NodeError {
    /// A failure that a later attempt may not meet: a time-out, an overload.
    #[must_use]
    pub fn transient(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            retryable: true,
            source: source.into(),
        }
    }

    /// A failure that every attempt will meet: bad input, a broken invariant.
    #[must_use]
    pub fn permanent(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            retryable: false,
            source: source.into(),
        }
    }

    pub(crate) fn from_saver(source: SaverError) -> Self {
        Self {
            retryable: source.is_retryable(),
            source: source.into(),
        }
    }

    pub(crate) fn from_run(source: RunError) -> Self {
        Self {
            retryable: source.is_retryable(),
            source: source.into(),
        }
    }

    /// Whether a later attempt may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The failure itself, to be downcast.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }

    /// Takes the failure out, to be downcast by value.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.source
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for NodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A node gave up.
    #[error("run node {node}: {source}")]
    Node {
        /// The node.
        node: NodeName,
        /// Its last failure.
        source: NodeError,
    },
    /// A node panicked. The run is over, the process is not.
    #[error("run node {node}: it panicked: {message}")]
    Panicked {
        /// The node.
        node: NodeName,
        /// What it said.
        message: String,
    },
    /// Two nodes wrote a channel in one step that takes one write.
    #[error(
        "merge step {step}: {first} and {second} both wrote {channel}; \
         give the field a reducer, e.g. #[state(append)]"
    )]
    Conflict {
        /// The step.
        step: u64,
        /// The channel.
        channel: &'static str,
        /// The first writer.
        first: NodeName,
        /// The second writer.
        second: NodeName,
    },
    /// A node wrote a field that it does not declare to write.
    #[error("merge step {step}: {node} wrote {channel}, which it does not declare to write")]
    UndeclaredWrite {
        /// The step.
        step: u64,
        /// The node.
        node: NodeName,
        /// The field.
        channel: &'static str,
    },
    /// A run shall stop before or after a node that the graph does not have.
    #[error("stop at node {node}: the graph has none{}", suggest(.near))]
    UnknownPause {
        /// The node.
        node: NodeName,
        /// A node of a similar name.
        near: Option<NodeName>,
    },
    /// A route or a command named a node that the graph does not declare for its source.
    #[error("leave node {from}: {target} is not among its declared targets{}", suggest(.near))]
    UndeclaredTarget {
        /// Where the route or command came from.
        from: NodeName,
        /// What it named.
        target: NodeName,
        /// A declared name like it.
        near: Option<NodeName>,
    },
    /// The saver refused or failed.
    #[error(transparent)]
    Saver(#[from] SaverError),
    /// A channel or a result cannot be serialised.
    #[error("write {what} into a checkpoint")]
    Encode {
        /// The channel, or what else it was.
        what: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A stored channel or result does not fit the graph's types.
    #[error("read {what} from a checkpoint; was its type changed?")]
    Decode {
        /// The channel, or what else it was.
        what: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A write from outside is not one that the graph's state takes.
    #[error("take the update: {source}")]
    Refused {
        /// Why not.
        source: serde_json::Error,
    },
    /// A checkpoint plans a node that the graph no longer has.
    #[error("continue with node {node} of the checkpoint: the graph has none{}", suggest(.near))]
    UnknownInPlan {
        /// The node.
        node: NodeName,
        /// A node of a similar name.
        near: Option<NodeName>,
    },
    /// The thread has no checkpoint, or not the one asked for.
    #[error("continue the thread: there is no such checkpoint")]
    NoCheckpoint,
    /// The run was displaced or cancelled while it waited for its turn, see
    /// [`crate::Multitask`]; it changed nothing.
    #[error("start the run: it was displaced or cancelled while it waited for its turn")]
    NotStarted,
    /// One answer was given without an id, but not exactly one interrupt is pending.
    #[error("answer the interrupt: {} are pending, name the one by its id", .pending.len())]
    AmbiguousAnswer {
        /// The ids of the pending interrupts.
        pending: Vec<String>,
    },
    /// An answer names an interrupt that is not pending.
    #[error("answer interrupt {id}: it is not pending")]
    UnknownInterrupt {
        /// The id.
        id: String,
    },
    /// A step took longer than the run's limit for one. Its unfinished nodes run again when
    /// the thread is resumed.
    #[error("finish step {step} within {limit:?}")]
    StepTimeLimit {
        /// The step.
        step: u64,
        /// The limit.
        limit: Duration,
    },
    /// A send leads to a node that takes no payload.
    #[error(
        "leave node {from}: {target} takes no payload, so nothing can be sent to it; \
         make it a `worker` or a `subgraph_worker`"
    )]
    NotAWorker {
        /// Where the send came from.
        from: NodeName,
        /// What it named.
        target: NodeName,
    },
    /// The graph was not done after as many steps as the run's limit.
    #[error("finish within {limit} steps: raise `step_limit` or end the cycle")]
    StepLimit {
        /// The limit.
        limit: u64,
    },
}

impl RunError {
    /// Whether running again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Node { source, .. } => source.is_retryable(),
            Self::Saver(source) => source.is_retryable(),
            Self::StepTimeLimit { .. } => true,
            _ => false,
        }
    }

    /// A bounded name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Node { .. } => "node",
            Self::Panicked { .. } => "panicked",
            Self::Conflict { .. } => "conflict",
            Self::UndeclaredWrite { .. } => "undeclared_write",
            Self::UnknownPause { .. } => "unknown_pause",
            Self::UndeclaredTarget { .. } => "undeclared_target",
            Self::Saver(source) => source.label(),
            Self::Encode { .. } => "encode",
            Self::Decode { .. } => "decode",
            Self::Refused { .. } => "refused",
            Self::UnknownInPlan { .. } => "unknown_in_plan",
            Self::NoCheckpoint => "no_checkpoint",
            Self::NotStarted => "not_started",
            Self::AmbiguousAnswer { .. } => "ambiguous_answer",
            Self::UnknownInterrupt { .. } => "unknown_interrupt",
            Self::StepLimit { .. } => "step_limit",
            Self::StepTimeLimit { .. } => "step_time_limit",
            Self::NotAWorker { .. } => "not_a_worker",
        }
    }
}

/// `; did you mean x?`, or nothing.
pub(crate) fn suggest(near: &Option<NodeName>) -> String {
    near.as_ref()
        .map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// The name most like the given one, if any is like it at all.
pub(crate) fn nearest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a NodeName>,
) -> Option<NodeName> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known.as_str()), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.clone())
}
