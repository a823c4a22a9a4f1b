//! Whether a shared tier that failed is asked again.
//!
//! Pure: callers pass `now`. After a failure nobody asks for 100 ms, then one caller may try,
//! and every further failure doubles the pause up to 5 s. One success ends it. So a dead tier
//! costs one caller in a while one time-out, and nobody else anything.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Gate {
    failures: u32,
    until: Option<Instant>,
}

impl Gate {
    /// Whether a call may go through now. While it is shut, each pause lets one through.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        match self.until {
            None => true,
            Some(until) if now < until => false,
            // Counted as failed until it is not: a trial that is dropped shuts nothing for ever.
            Some(_) => {
                self.shut(now);
                true
            }
        }
    }

    /// A call went well; says whether the gate was shut.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.until.take().is_some()
    }

    /// A call failed; says whether that shut the gate.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        // Those that were under way when it shut say nothing new, and a trial is counted.
        let shuts = self.until.is_none();
        if shuts {
            self.shut(now);
        }
        shuts
    }

    pub(crate) fn is_open(&self) -> bool {
        self.until.is_none()
    }

    fn shut(&mut self, now: Instant) {
        let pause = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_tier_is_tried_ever_more_rarely_and_comes_back_at_once() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut gate = Gate::default();
        assert!(gate.admits(at(0)));
        assert!(gate.failed(at(10)));
        assert!(!gate.failed(at(11)), "one that was under way");
        assert!(!gate.admits(at(109)));
        assert!(gate.admits(at(110)), "one trial");
        assert!(!gate.admits(at(111)), "and no second one");
        gate.failed(at(150));
        assert!(!gate.admits(at(309)));
        assert!(gate.admits(at(310)));
        for second in [10, 20, 30, 40, 50] {
            assert!(gate.admits(at(second * 1_000)));
            gate.failed(at(second * 1_000));
        }
        assert!(!gate.admits(at(54_999)), "5 s at most");
        assert!(gate.admits(at(55_000)));
        assert!(gate.succeeded());
        assert!(gate.admits(at(55_001)) && gate.is_open());
        assert!(!gate.succeeded());
    }
}
