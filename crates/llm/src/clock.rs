//! The time limits of one call.
//!
//! Invariant: no wait of a call is without a limit, and none passes the call's end.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use lyceum_core::{ChatError, TimeoutStage};
use tokio::time::{Instant, timeout_at};

use crate::Timeouts;

/// The time limits of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    end: Instant,
    timeouts: Timeouts,
}

impl Clock {
    /// Starts now. Nobody waits for the answer after `deadline`, so it ends the call too.
    pub(crate) fn start(timeouts: Timeouts, deadline: Option<std::time::Instant>) -> Self {
        let started = Instant::now();
        let end = later(started, timeouts.total);
        let end = deadline.map_or(end, |deadline| end.min(deadline.into()));
        Self {
            started,
            end,
            timeouts,
        }
    }

    /// Waits within the limit for the first token, counted from the start.
    pub(crate) async fn first_token<F: Future>(&self, future: F) -> Result<F::Output, ChatError> {
        let after = self.timeouts.first_token;
        self.within(
            TimeoutStage::FirstToken,
            later(self.started, after),
            after,
            future,
        )
        .await
    }

    /// Waits within the limit between chunks, counted from `since`.
    pub(crate) async fn between_chunks<F: Future>(
        &self,
        since: Instant,
        future: F,
    ) -> Result<F::Output, ChatError> {
        let after = self.timeouts.between_chunks;
        self.within(
            TimeoutStage::BetweenChunks,
            later(since, after),
            after,
            future,
        )
        .await
    }

    /// Fails a call whose time is over before it began.
    pub(crate) fn check_total(&self) -> Result<(), ChatError> {
        if Instant::now() >= self.end {
            return Err(self.total());
        }
        Ok(())
    }

    fn total(&self) -> ChatError {
        ChatError::Timeout {
            stage: TimeoutStage::Total,
            after: self.end.saturating_duration_since(self.started),
        }
    }

    async fn within<F: Future>(
        &self,
        stage: TimeoutStage,
        limit: Instant,
        after: Duration,
        future: F,
    ) -> Result<F::Output, ChatError> {
        let mut future = pin!(future);
        // Most waits are none, and setting up a timer costs more than they do. A peer that
        // never lets a wait begin is still held to the limits: tokio's cooperative budget
        // makes every socket pend now and then.
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Ok(output);
        }
        let outcome = timeout_at(limit.min(self.end), future).await;
        outcome.map_err(|_| match limit < self.end {
            true => ChatError::Timeout { stage, after },
            false => self.total(),
        })
    }
}

/// The moment `after` a moment. A limit too large for a clock is none: 30 years.
fn later(moment: Instant, after: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    moment + after.min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_nearest_limit_ends_a_wait() {
        let timeouts = Timeouts::default();
        let never = std::future::pending::<()>;
        let stage = |result: Result<(), ChatError>| match result {
            Err(ChatError::Timeout { stage, after }) => (stage, after),
            other => panic!("{other:?}"),
        };
        let clock = Clock::start(timeouts, None);
        let first = stage(clock.first_token(never()).await);
        assert_eq!(first, (TimeoutStage::FirstToken, timeouts.first_token));
        let between = stage(clock.between_chunks(Instant::now(), never()).await);
        assert_eq!(
            between,
            (TimeoutStage::BetweenChunks, timeouts.between_chunks)
        );

        let endless = Timeouts {
            total: Duration::MAX,
            first_token: Duration::MAX,
            ..timeouts
        };
        let clock = Clock::start(endless, None);
        let between = stage(clock.between_chunks(Instant::now(), never()).await);
        assert_eq!(between.0, TimeoutStage::BetweenChunks);

        let soon = Instant::now() + Duration::from_secs(1);
        let clock = Clock::start(timeouts, Some(soon.into_std()));
        let total = stage(clock.between_chunks(Instant::now(), never()).await);
        assert_eq!(total, (TimeoutStage::Total, Duration::from_secs(1)));
    }
}
