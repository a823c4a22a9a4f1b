//! Why a model call failed, classified where it is raised.

use std::{error::Error, time::Duration};

use crate::MicroUsd;

/// Which wait ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeoutStage {
    /// The connection was not made in time.
    Connect,
    /// No first token came in time.
    FirstToken,
    /// The pause between two pieces was too long.
    BetweenChunks,
    /// The whole answer took too long.
    Total,
}

impl TimeoutStage {
    /// A bounded name for labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstToken => "first_token",
            Self::BetweenChunks => "between_chunks",
            Self::Total => "total",
        }
    }
}

type Source = Box<dyn Error + Send + Sync>;

/// Why a model call failed.
///
/// `message` fields hold the provider's own words, capped by the adapter; they may
/// be shown to the operator, not to an untrusted client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The provider could not be reached.
    #[error("reach the provider {provider}")]
    Connect {
        /// The provider's name.
        provider: String,
        /// What failed.
        #[source]
        source: Source,
    },
    /// The provider did not answer in time.
    #[error("get an answer in time: {} time-out after {after:?}", stage.label())]
    Timeout {
        /// Which wait ran out.
        stage: TimeoutStage,
        /// How long it lasted.
        after: Duration,
    },
    /// The key is missing, wrong or not allowed to use the model.
    #[error("authenticate with the provider (status {status}): {message}")]
    Authentication {
        /// The HTTP status.
        status: u16,
        /// The provider's words.
        message: String,
    },
    /// The provider's quota is used up for now.
    #[error("call within the provider's rate limit: {message}")]
    RateLimited {
        /// When to come back, where the provider said so.
        retry_after: Option<Duration>,
        /// The provider's words.
        message: String,
    },
    /// The provider is overloaded or failed (5xx, 529).
    #[error("get an answer from the provider (status {status}): {message}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// When to come back, where the provider said so.
        retry_after: Option<Duration>,
        /// The provider's words.
        message: String,
    },
    /// The provider refused the request as it is (4xx); repeating it never helps.
    #[error("get the request accepted by the provider (status {status}): {message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The provider's words.
        message: String,
    },
    /// The request is longer than the model's context; a shorter one may do.
    #[error("fit the request into the model's context (status {status}): {message}")]
    ContextTooLong {
        /// The HTTP status.
        status: u16,
        /// The provider's words.
        message: String,
    },
    /// The answer is not what the wire format promises.
    #[error("read the provider's answer: {detail}")]
    Protocol {
        /// What was wrong.
        detail: String,
    },
    /// The connection broke after the answer had begun.
    #[error("read the rest of the provider's answer")]
    Interrupted {
        /// What failed.
        #[source]
        source: Source,
    },
    /// The stream ended before the answer did.
    #[error("read the rest of the provider's answer: the stream ended early")]
    Truncated,
    /// Our own queue is full, or the wait would pass the caller's deadline.
    #[error("queue the call; retry in {retry_after:?}")]
    Shed {
        /// When a new attempt may succeed.
        retry_after: Duration,
    },
    /// The conversation was ended while its call waited; nothing was sent.
    #[error("wait for the call's turn: its conversation was ended")]
    Cancelled,
    /// The provider failed again and again, so it is left alone for a while; nothing was sent.
    #[error("call {provider} through its open circuit breaker; retry in {retry_after:?}")]
    BreakerOpen {
        /// The provider's name.
        provider: String,
        /// When a call may go through.
        retry_after: Duration,
    },
    /// The caller's budget does not cover the call; nothing was sent.
    #[error("pay for the call: it may cost {needed}, and {left} of the {budget} budget are left")]
    OverBudget {
        /// Which budget, e.g. `tenant_day`.
        budget: &'static str,
        /// What the call may cost at most.
        needed: MicroUsd,
        /// What is left of the budget.
        left: MicroUsd,
        /// When the budget is whole again; `None` when it never is.
        retry_after: Option<Duration>,
    },
    /// The embedded model failed.
    #[error("run the local model: {detail}")]
    Local {
        /// What was wrong.
        detail: String,
    },
}

impl ChatError {
    /// Whether the same call may succeed later, provided nothing was shown to the client yet.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::RateLimited { .. }
            | Self::Unavailable { .. }
            | Self::Protocol { .. }
            | Self::Interrupted { .. }
            | Self::Truncated => true,
            Self::Authentication { .. }
            | Self::Rejected { .. }
            | Self::ContextTooLong { .. }
            | Self::Shed { .. }
            | Self::Cancelled
            | Self::BreakerOpen { .. }
            | Self::OverBudget { .. }
            | Self::Local { .. } => false,
        }
    }

    /// When to come back, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            Self::Shed { retry_after } | Self::BreakerOpen { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::OverBudget { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "timeout",
            Self::Authentication { .. } => "authentication",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::Rejected { .. } => "rejected",
            Self::ContextTooLong { .. } => "context_too_long",
            Self::Protocol { .. } => "protocol",
            Self::Interrupted { .. } => "interrupted",
            Self::Truncated => "truncated",
            Self::Shed { .. } => "shed",
            Self::Cancelled => "cancelled",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::OverBudget { .. } => "over_budget",
            Self::Local { .. } => "local",
        }
    }
}
