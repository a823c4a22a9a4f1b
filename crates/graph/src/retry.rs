//! When a failed node is tried again, and how long one attempt may take.
//!
//! Pure: the caller brings the randomness. Invariant: only failures that their author
//! called transient, and time-outs, are tried again. Deliberately absent: budgets shared
//! between runs, which belong to the queue.

use std::{num::NonZeroU32, time::Duration};

use crate::SendTo;

/// How often and how late a node is tried again after a transient failure.
///
/// The wait before attempt *n + 1* is a random share of `first_wait * 2^(n - 1)`, at most
/// `longest_wait` ("full jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most attempts, the first included. Default: 3.
    pub max_attempts: NonZeroU32,
    /// The longest wait after the first attempt. Default: 500 ms.
    pub first_wait: Duration,
    /// The longest wait after any attempt. Default: 30 s.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN.saturating_add(2),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// The wait after a failed attempt; `None` when it was the last. `share` is in `[0, 1]`.
    pub(crate) fn wait_after(&self, attempt: u32, share: f64) -> Option<Duration> {
        if attempt >= self.max_attempts.get() {
            return None;
        }
        let doubled = 1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX);
        let longest = self
            .first_wait
            .saturating_mul(doubled)
            .min(self.longest_wait);
        Some(longest.mul_f64(share.clamp(0.0, 1.0)))
    }
}

/// What surrounds a node's code.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeOptions {
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) idle_limit: Option<Duration>,
    /// The worker that takes over when the node has failed for good.
    pub(crate) rescue: Option<&'static str>,
}

/// Why an attempt was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeoutError {
    /// It ran longer than the node's time limit.
    #[error("finish within {0:?}")]
    TimeLimit(Duration),
    /// It gave no sign of life (an event, a heartbeat, a recorded effect) for so long.
    #[error("give a sign of life within {0:?}")]
    IdleLimit(Duration),
}

/// What an error handler is told: the payload of its worker.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The node that failed.
    pub node: crate::NodeName,
    /// What its last error said.
    pub message: String,
    /// How many attempts it made.
    pub attempts: u32,
}

impl Failure {
    pub(crate) fn send(&self, handler: &str) -> Result<SendTo, serde_json::Error> {
        let payload = serde_json::to_string(self)?.into();
        Ok(SendTo {
            target: handler.into(),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_attempts() {
        let policy = RetryPolicy {
            max_attempts: NonZeroU32::new(4).unwrap(),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(3),
        };
        let waits = [1, 2, 3, 4].map(|attempt| policy.wait_after(attempt, 1.0));
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(waits, [seconds(1), seconds(2), seconds(3), None]);
        assert_eq!(policy.wait_after(1, 0.5), Some(Duration::from_millis(500)));
        let endless = RetryPolicy {
            max_attempts: NonZeroU32::MAX,
            ..policy
        };
        assert_eq!(endless.wait_after(4_000_000_000, 1.0), seconds(3));
    }
}
