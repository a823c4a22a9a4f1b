//! What a caller asks for, and why it may be refused.

use std::time::{Duration, Instant};

use lyceum_core::{CallContext, Priority, Scope, Tokens};

/// What a call is expected to consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Input tokens, as the caller counts them.
    pub input: Tokens,
    /// The most output tokens; the limit sent upstream where there is one.
    pub output: Tokens,
    /// Whether `output` is a limit that the upstream keeps. Where it is not, it is a first
    /// guess, and experience may exceed it.
    pub limited: bool,
}

impl Default for Estimate {
    /// Of a call that consumes no tokens.
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Estimate {
    /// An estimate of that many input and at most that many output tokens.
    #[must_use]
    pub fn new(input: u64, output: u64) -> Self {
        Self {
            input: Tokens(input),
            output: Tokens(output),
            limited: true,
        }
    }

    /// An estimate of a call without an output limit, which probably makes this many
    /// output tokens.
    #[must_use]
    pub fn unlimited(input: u64, output: u64) -> Self {
        Self {
            limited: false,
            ..Self::new(input, output)
        }
    }
}

/// A call that asks to be sent.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Whose call it is. Tenants share the upstream fairly, then the conversations of a
    /// tenant: a scope's session, or its user where there is none.
    pub scope: Scope,
    /// The band; a higher one goes first.
    pub priority: Priority,
    /// After this instant the call is not sent.
    pub deadline: Option<Instant>,
    /// What it is expected to consume.
    pub estimate: Estimate,
    /// The kind of call, e.g. a workflow's node; estimates are learned per agent and kind.
    /// Must come from a small fixed set.
    pub kind: &'static str,
    /// How much of its conversation's workflow still depends on this call, e.g. the number
    /// of steps after it. Among the calls of one conversation the highest goes first.
    pub critical: u32,
    /// The tenant's share compared with others, at least 1. Default 1.
    pub weight: u32,
}

impl Ask {
    /// An ask of normal priority without a deadline.
    #[must_use]
    pub fn new(scope: Scope, estimate: Estimate) -> Self {
        Self {
            scope,
            priority: Priority::Normal,
            deadline: None,
            estimate,
            kind: "",
            critical: 0,
            weight: 1,
        }
    }

    /// An ask with a call's scope, priority, deadline, purpose and place on the critical path.
    #[must_use]
    pub fn from_call(call: &CallContext, estimate: Estimate) -> Self {
        Self {
            priority: call.priority,
            deadline: call.deadline,
            kind: call.purpose,
            critical: call.critical,
            ..Self::new(call.scope.clone(), estimate)
        }
    }
}

/// Why a call was not let into the queue. A refusal takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// As many calls wait as may.
    #[error("queue the call: the queue is full; retry in {retry_after:?}")]
    Full {
        /// When there is probably room.
        retry_after: Duration,
    },
    /// The call would still wait at its deadline.
    #[error("queue the call: it would wait for {estimated_wait:?}, past its deadline")]
    Deadline {
        /// How long it would wait.
        estimated_wait: Duration,
        /// When the same patience would probably be enough.
        retry_after: Duration,
    },
    /// The call alone exceeds a quota; waiting never helps.
    #[error("queue the call: its {cost} {quota} exceed the quota of {limit}")]
    TooLarge {
        /// Which quota.
        quota: &'static str,
        /// What the call needs.
        cost: u64,
        /// What the quota allows in a minute.
        limit: u64,
    },
}

impl Refused {
    /// When a new attempt may succeed; `None` when it never will.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after } | Self::Deadline { retry_after, .. } => Some(*retry_after),
            Self::TooLarge { .. } => None,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retry_after().is_some()
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Deadline { .. } => "deadline",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

/// Why a call left the queue without being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Its deadline passed while it waited.
    #[error("start the call before its deadline")]
    Expired,
    /// Its conversation was cancelled.
    #[error("start the call: its conversation was cancelled")]
    Cancelled,
}

impl WaitError {
    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_takes_over_all_that_decides_a_calls_place() {
        let call = CallContext::new(Scope::local())
            .with_priority(Priority::High)
            .with_purpose("gaps", 2);
        let ask = Ask::from_call(&call, Estimate::new(10, 20));
        assert_eq!(ask.priority, Priority::High);
        assert_eq!((ask.kind, ask.critical), ("gaps", 2));
    }
}
