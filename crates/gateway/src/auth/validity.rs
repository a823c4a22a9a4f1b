//! How long what a caller came with is taken, and the wait for its end.
//!
//! Invariant: who waits hears of the end whatever makes it, that it is no longer known or that
//! its time is over, also where that time was moved meanwhile. Deliberately absent: what ends
//! with it.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{sync::watch, time::sleep};

use crate::error::ApiError;

/// The longest between two looks at the clock, which may be set meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is taken, until a moment where there is one.
    Known(Option<OffsetDateTime>),
    /// It is taken no more.
    Unknown,
}

impl State {
    fn check(self, now: OffsetDateTime) -> Result<(), ApiError> {
        match self {
            Self::Unknown => Err(ApiError::KeyUnknown),
            Self::Known(Some(until)) if now >= until => Err(ApiError::KeyExpired),
            Self::Known(_) => Ok(()),
        }
    }
}

/// How long a key or a token is taken. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Validity(Arc<watch::Sender<State>>);

impl Validity {
    /// It is taken until a moment, or for ever.
    pub(super) fn new(until: Option<OffsetDateTime>) -> Self {
        Self(Arc::new(watch::Sender::new(State::Known(until))))
    }

    /// Moves its end.
    pub(super) fn set_until(&self, until: Option<OffsetDateTime>) {
        self.0.send_replace(State::Known(until));
    }

    /// It is no longer known.
    pub(super) fn revoke(&self) {
        self.0.send_replace(State::Unknown);
    }

    /// Whether it is taken.
    ///
    /// # Errors
    ///
    /// [`ApiError::KeyUnknown`], [`ApiError::KeyExpired`].
    pub(super) fn check(&self, now: OffsetDateTime) -> Result<(), ApiError> {
        self.0.borrow().check(now)
    }

    /// Waits until it is taken no more, and says why. Cancel safe.
    pub(super) async fn lapse(self, now: impl Fn() -> OffsetDateTime) -> ApiError {
        let mut state = self.0.subscribe();
        loop {
            let seen = *state.borrow_and_update();
            let now = now();
            if let Err(why) = seen.check(now) {
                return why;
            }
            // The sender is held here, so a change is the only way to be woken.
            let State::Known(Some(until)) = seen else {
                let _changed = state.changed().await;
                continue;
            };
            let left = Duration::try_from(until - now).unwrap_or_default();
            tokio::select! {
                _changed = state.changed() => {}
                () = sleep(left.min(LOOK_EVERY)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::{Instant, advance};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    /// A clock that goes with the runtime's.
    fn clock() -> impl Fn() -> OffsetDateTime {
        let began = Instant::now();
        move || START + began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_lapses_when_its_time_is_over_and_not_before() {
        let validity = Validity::new(Some(START + HOUR));
        let (began, lapse) = (Instant::now(), validity.clone().lapse(clock()));
        assert!(matches!(lapse.await, ApiError::KeyExpired));
        assert!(began.elapsed() >= HOUR && began.elapsed() < HOUR + LOOK_EVERY);
        assert!(validity.check(START).is_ok());
        assert!(validity.check(START + HOUR).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_end_and_a_revocation_are_heard() {
        let validity = Validity::new(None);
        let mut lapse = Box::pin(validity.clone().lapse(clock()));
        assert!(lapse.as_mut().now_or_never().is_none());
        validity.set_until(Some(START + HOUR));
        assert!(lapse.as_mut().now_or_never().is_none());
        validity.set_until(Some(START + 2 * HOUR));
        advance(HOUR).await;
        assert!(lapse.as_mut().now_or_never().is_none());
        validity.set_until(Some(START + HOUR));
        assert!(matches!(lapse.now_or_never(), Some(ApiError::KeyExpired)));
        let lapse = Box::pin(validity.clone().lapse(|| START));
        validity.revoke();
        assert!(matches!(lapse.now_or_never(), Some(ApiError::KeyUnknown)));
    }
}
