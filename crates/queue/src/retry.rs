//! How long to wait before another attempt, and whether there may be one at all.
//!
//! Pure: randomness and `now` are arguments. Deliberately absent: which errors are
//! worth another attempt; the client knows.

use std::time::{Duration, Instant};

/// Waits that double, with full jitter above a floor.
///
/// The wait before the n-th retry is uniform between `min` and `min * 2^n`, at most
/// `max`; the spread keeps callers that failed together from returning together
/// (Brooker, "Exponential Backoff and Jitter", 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. Default 3.
    pub attempts: u32,
    /// The shortest wait. Default 2 s.
    pub min: Duration,
    /// The longest wait, unless the upstream asks for more. Default 10 s.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            min: Duration::from_secs(2),
            max: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after `failed` attempts, with `random` in 0 to 1; `None` when
    /// there is no attempt left. A `retry_after` of the upstream is never undercut.
    #[must_use]
    pub fn delay(
        &self,
        failed: u32,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        if failed == 0 || failed >= self.attempts {
            return None;
        }
        let ceiling = self.min.saturating_mul(1 << failed.min(16));
        let spread = ceiling.min(self.max).saturating_sub(self.min);
        let delay = self.min + spread.mul_f64(random.clamp(0.0, 1.0));
        Some(delay.max(retry_after.unwrap_or_default()))
    }

    /// [`delay`](Self::delay) with the thread's random numbers.
    #[must_use]
    pub fn random_delay(&self, failed: u32, retry_after: Option<Duration>) -> Option<Duration> {
        self.delay(failed, retry_after, rand::random())
    }
}

/// Keeps retries a small share of all calls, so that they never make an outage worse.
///
/// Every call adds `ratio` to the balance and every retry takes one. One retry comes
/// back every 10 s besides, so that a quiet caller still has some.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    ratio: f64,
    balance: f64,
    updated: Option<Instant>,
}

/// The most retries that can be saved up.
const SAVED: f64 = 10.0;
const TRICKLE: Duration = Duration::from_secs(10);

impl Default for RetryBudget {
    /// At most 20 % extra calls.
    fn default() -> Self {
        Self::new(0.2)
    }
}

impl RetryBudget {
    /// A budget that lets retries be this share of calls, 0 to 1.
    #[must_use]
    pub fn new(ratio: f64) -> Self {
        Self {
            ratio: ratio.clamp(0.0, 1.0),
            balance: 1.0,
            updated: None,
        }
    }

    /// Notes a first attempt.
    pub fn deposit(&mut self, now: Instant) {
        self.trickle(now);
        self.balance = (self.balance + self.ratio).min(SAVED);
    }

    /// Asks for a retry and says whether there may be one.
    #[must_use]
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.trickle(now);
        // The tolerance absorbs the rounding of sums such as five times 0.2.
        if self.balance < 1.0 - 1e-9 {
            return false;
        }
        self.balance -= 1.0;
        true
    }

    /// Takes back a call that was promised its turn: the balance may fall to `debt` below
    /// zero. Where that is used up nothing is taken, and the answer says after how long it
    /// will not be.
    #[must_use]
    pub fn borrow(&mut self, now: Instant, debt: u32) -> Option<Duration> {
        self.trickle(now);
        let left = self.balance + f64::from(debt);
        if left < 1.0 - 1e-9 {
            return Some(TRICKLE.mul_f64(1.0 - left));
        }
        self.balance -= 1.0;
        None
    }

    fn trickle(&mut self, now: Instant) {
        let since = self.updated.replace(now).unwrap_or(now);
        let earned = now.saturating_duration_since(since).as_secs_f64() / TRICKLE.as_secs_f64();
        self.balance = (self.balance + earned).min(SAVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_maximum_and_attempts_end() {
        let policy = RetryPolicy {
            attempts: 5,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.delay(1, None, 0.0), Some(2 * SECOND));
        assert_eq!(policy.delay(1, None, 1.0), Some(4 * SECOND));
        assert_eq!(policy.delay(2, None, 1.0), Some(8 * SECOND));
        assert_eq!(policy.delay(3, None, 1.0), Some(10 * SECOND));
        assert_eq!(policy.delay(5, None, 1.0), None);
    }

    #[test]
    fn the_upstreams_own_wait_is_never_undercut() {
        let delay = RetryPolicy::default().delay(1, Some(107 * SECOND), 0.5);
        assert_eq!(delay, Some(107 * SECOND));
    }

    #[test]
    fn retries_stay_within_a_fifth_of_the_calls() {
        let (mut budget, now) = (RetryBudget::default(), Instant::now());
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.deposit(now);
            retries += u32::from(budget.withdraw(now));
        }
        assert!((195..=201).contains(&retries), "{retries}");
        assert!(budget.withdraw(now + 10 * SECOND), "one comes back");
    }

    #[test]
    fn a_debt_has_a_limit_and_blocks_retries_until_it_is_paid() {
        let (mut budget, now) = (RetryBudget::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(budget.borrow(now, 2), None);
        }
        assert_eq!(budget.borrow(now, 2), Some(10 * SECOND));
        assert!(!budget.withdraw(now + 20 * SECOND), "two are owed");
        assert_eq!(budget.borrow(now + 20 * SECOND, 2), None);
        for _ in 0..10 {
            budget.deposit(now + 20 * SECOND);
        }
        assert!(budget.withdraw(now + 20 * SECOND));
    }
}
