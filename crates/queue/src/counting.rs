//! Learns from an upstream's headers that it counts output when calls end.
//!
//! The ways of counting differ in the calls in flight: counted at their ends they have
//! taken nothing yet, counted at their starts they have taken what they will make or even
//! what they declared. So what an upstream reports beyond the calls that ended, as a share
//! of what is held for those in flight, is about zero or about one and more.
//!
//! Invariants: nothing is concluded from few reports or from reports that disagree, and a
//! refusal takes a conclusion back for good. What others use of the same quota makes the
//! share larger, so it cannot lead to a wrong conclusion. Deliberately absent: telling the
//! other ways of counting apart; what is held is enough for them.

use crate::smoothed::Moments;

/// Reports before anything is concluded.
const REPORTS: u32 = 32;
/// Calls in flight that hold less than this share of the limit say too little.
const TELLING: f64 = 0.05;
/// The share of what is held that may be reported beyond the calls that ended: those whose
/// ends were not heard of yet.
const NEAR: f64 = 0.3;
/// How far reports may differ from each other.
const AGREEING: f64 = 0.3;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    shares: Moments,
    refused: bool,
}

impl Counting {
    /// An upstream reports `used` of `limit` where calls that ended made `ended` and those
    /// in flight hold `held`.
    pub(crate) fn report(&mut self, limit: u64, used: u64, ended: u64, held: u64) {
        if (held as f64) < limit as f64 * TELLING {
            return;
        }
        let share = (used as f64 - ended as f64) / held as f64;
        self.shares.learn(share.clamp(-4.0, 4.0));
    }

    /// The upstream refused a call: what was concluded may be why.
    pub(crate) fn refused(&mut self) {
        self.refused |= self.at_end();
    }

    /// Whether output is counted when calls end.
    pub(crate) fn at_end(&self) -> bool {
        !self.refused
            && self.shares.seen() >= REPORTS
            && self.shares.above(0.0).abs() <= NEAR
            && self.shares.variance().sqrt() <= AGREEING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is concluded from an upstream that reports this share of what is held.
    fn concluded(reports: u32, share: f64) -> Counting {
        let mut counting = Counting::default();
        for number in 0..reports {
            let ended = 50_000 + u64::from(number) * 100;
            let noise = f64::from(number % 5) * 400.0 - 800.0;
            let used = ended as f64 + share * 20_000.0 + noise;
            counting.report(100_000, used as u64, ended, 20_000);
        }
        counting
    }

    #[test]
    fn output_that_calls_in_flight_have_not_taken_is_counted_at_their_ends() {
        assert!(concluded(40, 0.0).at_end());
        assert!(!concluded(20, 0.0).at_end(), "too few reports");
        assert!(!concluded(40, 0.7).at_end(), "what they will make");
        assert!(!concluded(40, 1.5).at_end(), "what they declared");
        assert!(!concluded(40, -0.9).at_end(), "a bucket that refills");
    }

    #[test]
    fn a_refusal_takes_it_back_for_good() {
        let mut counting = concluded(40, 0.0);
        counting.refused();
        assert!(!counting.at_end());
        for _ in 0..100 {
            counting.report(100_000, 50_000, 50_000, 20_000);
        }
        assert!(!counting.at_end());
    }

    #[test]
    fn few_calls_in_flight_say_nothing() {
        let mut counting = Counting::default();
        for _ in 0..100 {
            counting.report(100_000, 50_000, 50_000, 1_000);
        }
        assert!(!counting.at_end());
    }
}
