//! Learns from an upstream's headers how it counts the output of calls in flight.
//!
//! The ways of counting differ in the calls in flight: they have taken nothing yet, or what
//! they will really make, or what they declared as their limit. Telling the first two apart
//! is not needed, as a queue can keep both; telling the last one from them is worth what
//! calls declare beyond what they make.
//!
//! Invariants: nothing is concluded from few reports, from reports that disagree, or from
//! an upstream that forgets sooner than a minute does; each refusal makes a conclusion
//! twice as hard. What others use of the same quota makes a report larger, so it cannot
//! lead to a conclusion that is too generous.

use crate::smoothed::Moments;

/// Reports before anything is concluded.
const REPORTS: u32 = 64;
/// How often a refusal doubles that.
const DOUBLINGS: u32 = 5;
/// What calls declare beyond what they make says too little below this share of the limit.
const TELLING: f64 = 0.01;
/// The share of that which is not counted, between what is declared and what is made.
const BETWEEN: f64 = 0.6;
/// How sure a mean has to be, in its standard deviations.
const SURE: f64 = 3.0;
/// How far below the calls that ended a report may be, as a share of the limit.
const REMEMBERED: f64 = 0.15;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    /// Of what calls in flight declare beyond what they make, the share not counted.
    uncounted: Moments,
    /// What is reported beyond the calls that ended, as a share of the limit.
    beyond: Moments,
    refusals: u32,
}

/// What an upstream would report under each way of counting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    /// The calls that ended.
    pub(crate) ended: f64,
    /// The same, and what those in flight will probably make.
    pub(crate) made: f64,
    /// The same as the first, and what those in flight declared.
    pub(crate) declared: f64,
}

impl Counting {
    /// An upstream reports `used` of `limit`.
    pub(crate) fn report(&mut self, limit: u64, used: u64, levels: Levels) {
        let (limit, used) = (limit as f64, used as f64);
        let between = levels.declared - levels.made;
        if between < limit * TELLING {
            return;
        }
        let uncounted = (levels.declared - used) / between;
        self.uncounted.learn(uncounted.clamp(-4.0, 4.0));
        let beyond = (used - levels.ended) / limit;
        self.beyond.learn(beyond.clamp(-1.0, 1.0));
    }

    /// The upstream refused a call: what was concluded may be why.
    pub(crate) fn refused(&mut self) {
        *self = Self {
            refusals: self.refusals.saturating_add(1),
            ..Self::default()
        };
    }

    /// Whether the upstream ever refused a call.
    pub(crate) fn was_refused(&self) -> bool {
        self.refusals > 0
    }

    /// Whether what calls make is counted, and not what they declare.
    pub(crate) fn made(&self) -> bool {
        let needed = REPORTS << self.refusals.min(DOUBLINGS);
        self.uncounted.seen() >= needed
            && self.uncounted.above(-self.doubt()) >= BETWEEN
            && self.beyond.above(0.0) >= -REMEMBERED
    }

    /// Whether what calls declare is counted while they run.
    pub(crate) fn declared(&self) -> bool {
        self.uncounted.seen() >= REPORTS && self.uncounted.above(self.doubt()) < BETWEEN
    }

    /// Standard deviations of a report that its mean may be off.
    fn doubt(&self) -> f64 {
        SURE / f64::from(self.uncounted.seen().max(1)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is concluded from an upstream that reports so much beyond the calls that ended,
    /// where those in flight will make 9,000 and declared 30,000.
    fn concluded(counting: &mut Counting, reports: u32, beyond: f64) {
        for number in 0..reports {
            let ended = 50_000.0 + f64::from(number) * 100.0;
            let noise = f64::from(number % 5) * 1_000.0 - 2_000.0;
            let levels = Levels {
                ended,
                made: ended + 9_000.0,
                declared: ended + 30_000.0,
            };
            counting.report(100_000, (ended + beyond + noise) as u64, levels);
        }
    }

    fn made(reports: u32, beyond: f64) -> bool {
        let mut counting = Counting::default();
        concluded(&mut counting, reports, beyond);
        counting.made()
    }

    #[test]
    fn what_is_made_and_what_is_declared_are_told_apart() {
        assert!(made(80, 0.0), "counted at the end");
        assert!(made(80, 9_000.0), "counted at the start");
        assert!(!made(20, 0.0), "too few reports");
        assert!(!made(80, 30_000.0), "what they declared");
        assert!(!made(80, -40_000.0), "a bucket that refills");
        let mut declaring = Counting::default();
        concluded(&mut declaring, 80, 30_000.0);
        assert!(declaring.declared());
    }

    #[test]
    fn each_refusal_makes_it_twice_as_hard() {
        let mut counting = Counting::default();
        concluded(&mut counting, 80, 0.0);
        counting.refused();
        assert!(!counting.made());
        concluded(&mut counting, 80, 0.0);
        assert!(!counting.made());
        concluded(&mut counting, 80, 0.0);
        assert!(counting.made());
    }

    #[test]
    fn calls_that_declare_what_they_make_say_nothing() {
        let mut counting = Counting::default();
        for _ in 0..100 {
            let levels = Levels {
                ended: 50_000.0,
                made: 60_000.0,
                declared: 60_500.0,
            };
            counting.report(100_000, 50_000, levels);
        }
        assert!(!counting.made() && !counting.declared());
    }
}
