//! What can go wrong in a node and in a run.
//!
//! Invariant: whether a retry may help is said where the error is raised, never guessed
//! from its type. Deliberately absent: cancelled and interrupted, which are outcomes.

use std::{error::Error, fmt};

use crate::NodeName;

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
        matches!(self, Self::Node { source, .. } if source.is_retryable())
    }

    /// A bounded name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Node { .. } => "node",
            Self::Panicked { .. } => "panicked",
            Self::Conflict { .. } => "conflict",
            Self::UndeclaredTarget { .. } => "undeclared_target",
            Self::StepLimit { .. } => "step_limit",
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
