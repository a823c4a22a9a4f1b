//! Who calls, how urgent it is and until when: the context of a model or tool call.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{RequestId, Scope};

/// The order in which waiting calls are served; ageing keeps the lower ones from starving.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Background work: consolidation, pre-warming.
    Low,
    /// A person waits for the answer.
    #[default]
    Normal,
    /// Everybody in a conversation waits for this call, e.g. the panel's host.
    High,
}

/// The place of a waiting call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePosition {
    /// One for the call that is served next.
    pub position: u64,
    /// When the call is expected to start; `None` while nothing is known yet.
    pub estimated_wait: Option<Duration>,
}

/// What travels with every model and tool call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Whose call it is.
    pub scope: Scope,
    /// The request that caused it.
    pub request: RequestId,
    /// Its place in the order of waiting calls.
    pub priority: Priority,
    /// After this instant nobody waits for the answer, and the call is not sent.
    pub deadline: Option<Instant>,
    /// What kind of call it is, e.g. `gaps` or `summary`: calls of one purpose need about
    /// as much, so a queue learns from each what the next will use. Comes from a small
    /// fixed set; empty where nothing is known.
    pub purpose: &'static str,
    /// How many steps of its workflow wait for this call: of one conversation's calls a
    /// queue sends the one with the most first. 0 where nothing is known.
    pub critical: u32,
}

impl CallContext {
    /// A call of normal priority without a deadline, under a new request id.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            request: RequestId::random(),
            priority: Priority::default(),
            deadline: None,
            purpose: "",
            critical: 0,
        }
    }

    /// The same call at another priority.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The same call for this purpose, on which so many further steps wait.
    #[must_use]
    pub fn with_purpose(mut self, purpose: &'static str, critical: u32) -> Self {
        self.purpose = purpose;
        self.critical = critical;
        self
    }
}
