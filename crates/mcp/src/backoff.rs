//! How long to wait before a server is tried again.
//!
//! Pure: callers pass the random number. Invariant: waits grow from `first` to `most` by
//! doubling, each between half and all of its step ("equal jitter", Brooker, "Exponential
//! Backoff And Jitter", AWS Architecture Blog, 2015), so restarts of many servers spread.

use std::time::Duration;

/// The waits between attempts.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most: most.max(first),
            attempt: 0,
        }
    }

    /// The next wait; `random` is in `0.0..1.0`.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempt.min(16));
        self.attempt = self.attempt.saturating_add(1);
        let step = step.min(self.most);
        step / 2 + (step / 2).mul_f64(random.clamp(0.0, 1.0))
    }

    /// Begins again, after a connection that held.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<f64> = (0..8).map(|_| backoff.next(1.0).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
    }

    #[test]
    fn it_never_overflows() {
        let mut backoff = Backoff::new(Duration::from_secs(u64::MAX / 4), Duration::MAX);
        for _ in 0..100 {
            backoff.next(0.5);
        }
    }
}
