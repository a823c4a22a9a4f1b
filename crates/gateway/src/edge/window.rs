//! Requests in any 60 seconds, and never one more.
//!
//! Pure: callers pass `now`, the time since any fixed moment. A bucket that refills at the
//! same rate would let through twice as many in its first minute, and a window that begins
//! anew each minute as many around its edge; therefore requests are counted by the second in
//! which they came. Invariant: no interval of 60 s holds more than the limit. The price is
//! that a request counts for up to 61 s.

use std::{collections::VecDeque, time::Duration};

/// The length of the window, in seconds.
pub(crate) const WINDOW_SECONDS: u64 = 60;

/// What one client, key or tenant sent lately: at most 61 pairs.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Seconds with requests, oldest first.
    seen: VecDeque<(u64, u32)>,
    total: u32,
}

/// What is left after a request was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Requests that would be let through now.
    pub(crate) remaining: u32,
    /// When there will be more.
    pub(crate) more_after: Duration,
}

impl Window {
    /// Lets a request through and counts it.
    ///
    /// # Errors
    ///
    /// The time after which the next may be let through.
    pub(crate) fn take(&mut self, limit: u32, now: Duration) -> Result<Left, Duration> {
        let second = self.forget(now);
        if self.total >= limit {
            return Err(self.more_after(now));
        }
        self.total += 1;
        match self.seen.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.seen.push_back((second, 1)),
        }
        Ok(Left {
            remaining: limit - self.total,
            more_after: self.more_after(now),
        })
    }

    /// What is left, without a request.
    pub(crate) fn left(&mut self, limit: u32, now: Duration) -> Left {
        self.forget(now);
        Left {
            remaining: limit.saturating_sub(self.total),
            more_after: match self.total {
                0 => Duration::ZERO,
                _ => self.more_after(now),
            },
        }
    }

    /// Forgets what is too long ago, and gives the second that counts as now.
    fn forget(&mut self, now: Duration) -> u64 {
        // Threads may arrive in another order than they read the clock.
        let second = self.seen.back().map_or(0, |(last, _)| *last);
        let second = second.max(now.as_secs());
        while let Some((old, count)) = self.seen.front().copied()
            && second > old + WINDOW_SECONDS
        {
            self.total -= count;
            self.seen.pop_front();
        }
        second
    }

    /// Forgets the last request: something else refused it.
    pub(crate) fn give_back(&mut self) {
        let Some((_, count)) = self.seen.back_mut() else {
            return;
        };
        *count -= 1;
        self.total -= 1;
        if *count == 0 {
            self.seen.pop_back();
        }
    }

    fn more_after(&self, now: Duration) -> Duration {
        let oldest = self.seen.front().map_or(0, |(second, _)| *second);
        Duration::from_secs(oldest + WINDOW_SECONDS + 1).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(WINDOW_SECONDS);

    #[test]
    fn what_is_refused_is_let_through_when_it_was_promised() {
        let mut window = Window::default();
        let start = Duration::from_millis(5_400);
        assert_eq!(window.take(2, start).unwrap().remaining, 1);
        assert_eq!(window.take(2, start).unwrap().remaining, 0);
        let wait = window.take(2, start).unwrap_err();
        assert!(
            window
                .take(2, start + wait - Duration::from_millis(1))
                .is_err()
        );
        assert!(window.take(2, start + wait).is_ok());
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let mut window = Window::default();
        assert!(window.take(1, Duration::ZERO).is_ok());
        window.give_back();
        window.give_back();
        assert!(window.take(1, Duration::ZERO).is_ok());
        assert!(window.take(1, Duration::ZERO).is_err());
    }

    fn steps() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0_u64..9_000, 1..400)
    }

    proptest! {
        #[test]
        fn no_interval_of_a_minute_holds_more_than_the_limit(steps in steps(), limit in 1_u32..20) {
            let (mut window, mut now) = (Window::default(), Duration::ZERO);
            let mut passed: Vec<Duration> = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                match window.take(limit, now) {
                    Ok(_) => passed.push(now),
                    Err(wait) => prop_assert!(wait <= MINUTE + Duration::from_secs(1)),
                }
                let recent = passed.iter().filter(|at| now - **at < MINUTE).count();
                prop_assert!(recent <= limit as usize, "{recent} of {limit}");
                prop_assert!(window.seen.len() <= 61);
                let counted: u32 = window.seen.iter().map(|(_, count)| count).sum();
                prop_assert_eq!(counted, window.total);
            }
        }
    }
}
