//! What an upstream's refusal (429, 529) does: a pause, a smaller share, slow recovery.
//!
//! Additive increase, multiplicative decrease: a refusal takes 15 % of the present
//! share, 5 % of the full one come back every 10 s. Refusals within one pause are one
//! event, so a burst of them shrinks the share once. Latency is deliberately not a
//! signal: a model's latency follows the length of its answers.

const SECOND: u64 = 1_000_000_000;
/// Kept of the share at a refusal; gentler than TCP's half, as a pause comes with it, and
/// a quota that is known is refused for a little too much, not for twice too much.
const DECREASE: f64 = 0.85;
/// The share never falls below this.
const FLOOR: f64 = 0.1;
/// Given back with every [`STEP`] after the pause.
const INCREASE: f64 = 0.05;
const STEP: u64 = 10 * SECOND;
/// The shortest pause: refusals that name none would each shrink the share.
const SHORTEST: u64 = SECOND;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Throttle {
    paused_until: u64,
    share: f64,
    /// When the share last changed.
    changed: u64,
    /// A cap on running calls where the configuration has none.
    cap: Option<u32>,
}

impl Throttle {
    pub(crate) fn new() -> Self {
        Self {
            paused_until: 0,
            share: 1.0,
            changed: 0,
            cap: None,
        }
    }

    /// Notes a refusal that asks for a `pause` while `running` calls run.
    pub(crate) fn refuse(&mut self, pause: u64, running: u32, now: u64) {
        if now >= self.paused_until {
            self.share = (self.share * DECREASE).max(FLOOR);
            let cap = self.cap.unwrap_or(running).min(running);
            self.cap = Some(((f64::from(cap) * DECREASE) as u32).max(1));
        }
        let pause = pause.max(SHORTEST);
        self.paused_until = self.paused_until.max(now.saturating_add(pause));
        self.changed = self.paused_until;
    }

    /// Brings the share up to date and says whether it changed.
    pub(crate) fn recover(&mut self, running: u32, now: u64) -> bool {
        if self.share >= 1.0 && self.cap.is_none() {
            return false;
        }
        let steps = now.saturating_sub(self.changed) / STEP;
        if steps == 0 {
            return false;
        }
        self.changed += steps * STEP;
        self.share = (self.share + INCREASE * steps as f64).min(1.0);
        // A cap that no longer holds anything back at a full share has done its work.
        self.cap = self.cap.and_then(|cap| {
            let raised = cap.saturating_add((cap / 10).max(1).saturating_mul(steps as u32));
            (self.share < 1.0 || raised <= running).then_some(raised)
        });
        true
    }

    pub(crate) fn paused_until(&self) -> u64 {
        self.paused_until
    }

    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// The most running calls, given the configured limit.
    pub(crate) fn concurrency(&self, configured: Option<u32>) -> Option<u32> {
        match configured {
            Some(limit) => Some(((f64::from(limit) * self.share) as u32).max(1)),
            None => self.cap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_without_a_pause_are_one_event_too() {
        let mut throttle = Throttle::new();
        for tenth in 0..10 {
            throttle.refuse(0, 10, SECOND + tenth);
        }
        assert!((throttle.share() - 0.85).abs() < 1e-9);
    }

    #[test]
    fn refusals_of_one_pause_shrink_once_and_recovery_is_gradual() {
        let mut throttle = Throttle::new();
        for _ in 0..20 {
            throttle.refuse(5 * SECOND, 10, SECOND);
        }
        assert!((throttle.share() - 0.85).abs() < 1e-9);
        assert_eq!(throttle.concurrency(Some(50)), Some(42));
        assert_eq!(throttle.paused_until(), 6 * SECOND);
        assert!(!throttle.recover(10, 15 * SECOND));
        assert!(throttle.recover(10, 16 * SECOND));
        assert!((throttle.share() - 0.9).abs() < 1e-9);
        throttle.recover(0, 500 * SECOND);
        assert!((throttle.share() - 1.0).abs() < 1e-9);
        assert_eq!(throttle.concurrency(None), None, "the cap is gone");
    }
}
