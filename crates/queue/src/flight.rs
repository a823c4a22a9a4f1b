//! What the calls in flight will still add to a quota that counts output at their ends.
//!
//! Three facts are learned from calls that ended: how long calls run, how many tokens go
//! with a run, and how both vary. From them follow, for the calls now in flight, the sum
//! that they will have when they end, how uncertain it is, and over what time it falls
//! due. A call that is long in flight is a long one: calls that are seen in flight are
//! larger than calls are on average (the inspection paradox), and the older the larger.
//! Deliberately absent: single calls; only sums are kept, so a decision costs the same
//! however many are in flight.

/// Ends that a smoothed value remembers.
const MEMORY: u32 = 8192;
/// How far the products of two lengths vary, relative to their mean, where these are as
/// uneven as an exponential's.
const UNEVEN: f64 = 2.2;
/// Ends seen before anything is concluded.
const WARM: u32 = 16;
/// Runs that vary less than this share of their length say nothing about tokens.
const STEADY: f64 = 0.05;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    calls: u64,
    /// The sums over the calls in flight of what each is expected to make, of the
    /// variance of that, and of their starts.
    expected: u64,
    variance: u128,
    started: u128,
    ends: u32,
    /// Smoothed: run in nanoseconds, tokens, and the products of the two.
    run: f64,
    tokens: f64,
    run_run: f64,
    run_tokens: f64,
    run_run_run: f64,
    run_run_tokens: f64,
    run_tokens_tokens: f64,
    tokens_tokens: f64,
}

/// How the tokens of a call in flight follow from its age.
struct Growth {
    /// The mean age, in nanoseconds.
    age: f64,
    /// More tokens for each nanosecond of age.
    slope: f64,
    /// What stays uncertain, as a share of the variance of calls that ended.
    uncertain: f64,
}

/// What is due of the calls in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Due {
    /// Tokens in all.
    pub(crate) tokens: f64,
    /// The variance of that.
    variance: f64,
    /// By how much of it all that was learned may be wrong.
    doubt: f64,
    /// How much the tokens that end in a short time vary, as a multiple of their mean.
    grain: f64,
    /// Nanoseconds in which they fall due, evenly.
    pub(crate) over: u64,
}

impl Flight {
    /// A call starts that is expected to make so many tokens.
    pub(crate) fn start(&mut self, expected: u64, variance: u64, at: u64) {
        self.calls += 1;
        self.expected = self.expected.saturating_add(expected);
        self.variance = self.variance.saturating_add(u128::from(variance));
        self.started += u128::from(at);
    }

    /// A call ends that was started with these values.
    pub(crate) fn end(&mut self, expected: u64, variance: u64, at: u64) {
        self.calls = self.calls.saturating_sub(1);
        self.expected = self.expected.saturating_sub(expected);
        self.variance = self.variance.saturating_sub(u128::from(variance));
        self.started = self.started.saturating_sub(u128::from(at));
    }

    /// Learns from a call that ran for so many nanoseconds and made so many tokens.
    pub(crate) fn learn(&mut self, run: u64, tokens: u64) {
        let (run, tokens) = (run as f64, tokens as f64);
        self.ends = (self.ends + 1).min(MEMORY);
        let gain = 1.0 / f64::from(self.ends);
        self.run += gain * (run - self.run);
        self.tokens += gain * (tokens - self.tokens);
        self.run_run += gain * (run * run - self.run_run);
        self.run_tokens += gain * (run * tokens - self.run_tokens);
        self.run_run_run += gain * (run * run * run - self.run_run_run);
        self.run_run_tokens += gain * (run * run * tokens - self.run_run_tokens);
        self.run_tokens_tokens += gain * (run * tokens * tokens - self.run_tokens_tokens);
        self.tokens_tokens += gain * (tokens * tokens - self.tokens_tokens);
    }

    /// What is due of the calls in flight at `now`.
    pub(crate) fn due(&self, now: u64) -> Due {
        let (calls, expected) = (self.calls as f64, self.expected as f64);
        let variance = self.variance as f64;
        if self.ends < WARM || self.run <= 0.0 || self.tokens <= 0.0 {
            // All might end at once.
            return Due {
                tokens: expected,
                variance,
                doubt: 0.0,
                grain: 0.0,
                over: 0,
            };
        }
        // By Little's law calls in flight are a token's mean stay times the token rate.
        let over = self.run_tokens / self.tokens;
        let larger = over / self.run;
        let growth = self.growth();
        let ages = (u128::from(now) * u128::from(self.calls)).saturating_sub(self.started) as f64;
        let older = growth.slope * (ages - calls * growth.age);
        let tokens = expected * larger;
        Due {
            tokens: tokens + older.max(-tokens * 0.5),
            variance: variance * growth.uncertain,
            doubt: UNEVEN / f64::from(self.ends).sqrt(),
            grain: self.tokens_tokens / self.tokens,
            over: over as u64,
        }
    }

    /// The best line through the tokens of calls in flight by their ages.
    ///
    /// A call is in flight in proportion to its run, at an age that is uniform in it; so
    /// the moments of calls in flight follow from those of calls that ended.
    fn growth(&self) -> Growth {
        let age = self.run_run / self.run / 2.0;
        let tokens = self.run_tokens / self.run;
        let together = (self.run_run_tokens / self.run / 2.0 - age * tokens).max(0.0);
        let spread = (self.run_run_run / self.run / 3.0 - age * age).max(0.0);
        let slope = together / (spread + STEADY * age * age);
        let ended = self.tokens_tokens - self.tokens * self.tokens;
        let flying = self.run_tokens_tokens / self.run - tokens * tokens;
        let left = (flying - slope * together) / ended.max(1.0);
        Growth {
            age,
            slope,
            uncertain: left.clamp(0.25, 4.0),
        }
    }
}

impl Due {
    /// What falls due within a share of the time, at most with so many standard deviations.
    ///
    /// In a short time it is as many calls as happen to end, a compound Poisson sum; in all
    /// of it, it is those in flight, of which only the length is uncertain.
    pub(crate) fn most(&self, share: f64, deviations: f64) -> f64 {
        let chance = self.tokens * self.grain * (1.0 - share);
        let doubt = self.tokens * share * self.doubt;
        let variance = share * (chance + self.variance * share) + doubt * doubt;
        self.tokens * share + deviations * variance.sqrt()
    }

    /// The variance of all of it.
    pub(crate) fn spread(&self) -> f64 {
        let doubt = self.tokens * self.doubt;
        self.variance + doubt * doubt
    }

    /// The share of the time that so many nanoseconds are.
    pub(crate) fn share(&self, nanos: f64) -> f64 {
        if self.over == 0 {
            return 1.0;
        }
        (nanos / self.over as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Calls that all make 100 tokens in 10 s, one started each second.
    #[test]
    fn equal_calls_are_due_evenly_over_their_length() {
        let mut flight = Flight::default();
        for _ in 0..100 {
            flight.learn(10 * SECOND, 100);
        }
        for second in 0..10 {
            flight.start(100, 0, second * SECOND);
        }
        let due = flight.due(10 * SECOND);
        assert!((due.tokens - 1_000.0).abs() < 50.0, "{due:?}");
        assert_eq!(due.over, 10 * SECOND);
        assert!((due.most(0.5, 0.0) - due.tokens / 2.0).abs() < 1e-6);
        let doubt = due.most(1.0, 1.0) / due.tokens;
        assert!(
            (1.2..1.25).contains(&doubt),
            "only what was learned is in doubt"
        );
        for second in 0..10 {
            flight.end(100, 0, second * SECOND);
        }
        assert!(flight.due(20 * SECOND).tokens < 1e-9);
    }

    #[test]
    fn calls_long_in_flight_are_expected_to_make_more() {
        let mut flight = Flight::default();
        for tenth in 0..100 {
            flight.learn(tenth * SECOND / 5, tenth * 2);
        }
        flight.start(100, 0, 0);
        let (young, old) = (flight.due(SECOND).tokens, flight.due(15 * SECOND).tokens);
        assert!(old > young + 50.0, "{young} {old}");
    }

    #[test]
    fn nothing_is_concluded_from_few_ends() {
        let mut flight = Flight::default();
        flight.start(1_000, 0, 0);
        flight.learn(SECOND, 10);
        let due = flight.due(SECOND);
        assert_eq!((due.tokens, due.over), (1_000.0, 0));
    }
}
