//! A circuit breaker: stops calling what keeps failing, and finds out when it works again.
//!
//! Closed → open after a number of failures in a row; open → half-open after a time;
//! half-open lets a few probes through: their success closes it, one failure opens it
//! again. Invariant: results of calls that began before the last change of state change
//! nothing, so stragglers neither trip nor close it. Pure: callers pass `now`.
//! Deliberately absent: locks, and judging which errors are failures.

use std::time::{Duration, Instant};

/// When a [`Breaker`] opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it, at least 1. Default 5.
    pub failures: u32,
    /// How long it stays open. Default 60 s.
    pub open_for: Duration,
    /// Calls let through half-open, all of which must succeed, at least 1. Default 1.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(60),
            probes: 1,
        }
    }
}

/// The state of a [`Breaker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open,
    /// A few probes go through.
    HalfOpen,
}

impl BreakerState {
    /// A bounded name for labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The breaker is open, or half-open with all its probes under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("call through the open circuit breaker; retry in {retry_after:?}")]
pub struct Rejected {
    /// When a call may go through.
    pub retry_after: Duration,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// The upstream works.
    Success,
    /// The upstream does not work.
    Failure,
    /// It says nothing about the upstream, e.g. the caller gave up.
    Unknown,
}

/// A call that a breaker let through; to be given back with its outcome.
#[derive(Debug)]
#[must_use = "record the call's outcome with Breaker::record"]
pub struct BreakerPermit {
    era: u64,
}

/// See the module's text.
///
/// ```
/// use std::time::{Duration, Instant};
/// use lyceum_queue::{Breaker, BreakerConfig, BreakerState, CallOutcome};
///
/// let (mut breaker, now) = (Breaker::new(BreakerConfig::default()), Instant::now());
/// for _ in 0..5 {
///     let permit = breaker.permit(now).unwrap();
///     breaker.record(permit, CallOutcome::Failure, now);
/// }
/// assert_eq!(breaker.permit(now).unwrap_err().retry_after, Duration::from_secs(60));
/// assert_eq!(breaker.state(now + Duration::from_secs(60)), BreakerState::HalfOpen);
/// ```
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    era: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        started: u32,
        succeeded: u32,
        since: Instant,
    },
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            era: 0,
            stage: Stage::Closed { failures: 0 },
        }
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.stage {
            Stage::Closed { .. } => BreakerState::Closed,
            Stage::Open { until } if now < until => BreakerState::Open,
            Stage::Open { .. } | Stage::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Asks to call.
    ///
    /// # Errors
    ///
    /// [`Rejected`] while open, and half-open while its probes are under way. A probe
    /// that is never recorded is given up after the time the breaker stays open.
    pub fn permit(&mut self, now: Instant) -> Result<BreakerPermit, Rejected> {
        match &mut self.stage {
            Stage::Closed { .. } => {}
            Stage::Open { until } if now < *until => {
                let retry_after = until.duration_since(now);
                return Err(Rejected { retry_after });
            }
            Stage::HalfOpen { started, since, .. } => {
                let given_up = *since + self.config.open_for;
                if *started < self.config.probes.max(1) {
                    *started += 1;
                } else if now < given_up {
                    let retry_after = given_up.duration_since(now);
                    return Err(Rejected { retry_after });
                } else {
                    self.half_open(now);
                }
            }
            Stage::Open { .. } => self.half_open(now),
        }
        Ok(BreakerPermit { era: self.era })
    }

    /// Records what came of a call.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "taking the permit makes a second record impossible"
    )]
    pub fn record(&mut self, permit: BreakerPermit, outcome: CallOutcome, now: Instant) {
        if permit.era != self.era {
            return;
        }
        match (&mut self.stage, outcome) {
            (Stage::Closed { failures }, CallOutcome::Success) => *failures = 0,
            (Stage::Closed { failures }, CallOutcome::Failure) => {
                *failures += 1;
                if *failures >= self.config.failures {
                    self.open(now);
                }
            }
            (Stage::HalfOpen { succeeded, .. }, CallOutcome::Success) => {
                *succeeded += 1;
                if *succeeded >= self.config.probes.max(1) {
                    self.change(Stage::Closed { failures: 0 });
                }
            }
            (Stage::HalfOpen { .. }, CallOutcome::Failure) => self.open(now),
            (Stage::HalfOpen { started, .. }, CallOutcome::Unknown) => *started -= 1,
            (Stage::Closed { .. } | Stage::Open { .. }, _) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        let until = now + self.config.open_for;
        self.change(Stage::Open { until });
    }

    /// Half-open, with the first probe under way.
    fn half_open(&mut self, now: Instant) {
        self.change(Stage::HalfOpen {
            started: 1,
            succeeded: 0,
            since: now,
        });
    }

    fn change(&mut self, stage: Stage) {
        self.era += 1;
        self.stage = stage;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            let permit = breaker.permit(now).unwrap();
            breaker.record(permit, CallOutcome::Failure, now);
        }
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (mut breaker, now) = (Breaker::new(BreakerConfig::default()), Instant::now());
        fail(&mut breaker, 4, now);
        let permit = breaker.permit(now).unwrap();
        breaker.record(permit, CallOutcome::Success, now);
        fail(&mut breaker, 4, now);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        fail(&mut breaker, 1, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    #[test]
    fn half_open_lets_one_probe_through_and_its_result_decides() {
        let (mut breaker, now) = (Breaker::new(BreakerConfig::default()), Instant::now());
        fail(&mut breaker, 5, now);
        assert!(breaker.permit(now + 59 * SECOND).is_err());
        let later = now + 60 * SECOND;
        let probe = breaker.permit(later).unwrap();
        assert!(breaker.permit(later).is_err(), "one probe at a time");
        breaker.record(probe, CallOutcome::Failure, later);
        assert_eq!(breaker.state(later + 59 * SECOND), BreakerState::Open);
        let later = later + 60 * SECOND;
        let probe = breaker.permit(later).unwrap();
        breaker.record(probe, CallOutcome::Success, later);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn stragglers_change_nothing_and_lost_probes_are_replaced() {
        let (mut breaker, now) = (Breaker::new(BreakerConfig::default()), Instant::now());
        let straggler = breaker.permit(now).unwrap();
        fail(&mut breaker, 5, now);
        let later = now + 60 * SECOND;
        let lost = breaker.permit(later).unwrap();
        breaker.record(straggler, CallOutcome::Success, later);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        let probe = breaker.permit(later + 60 * SECOND).unwrap();
        breaker.record(lost, CallOutcome::Failure, later + 60 * SECOND);
        breaker.record(probe, CallOutcome::Success, later + 60 * SECOND);
        assert_eq!(breaker.state(later + 60 * SECOND), BreakerState::Closed);
    }

    #[test]
    fn a_probe_of_unknown_outcome_makes_room_for_another() {
        let (mut breaker, now) = (Breaker::new(BreakerConfig::default()), Instant::now());
        fail(&mut breaker, 5, now);
        let later = now + 60 * SECOND;
        let probe = breaker.permit(later).unwrap();
        breaker.record(probe, CallOutcome::Unknown, later);
        assert!(breaker.permit(later).is_ok());
    }
}
