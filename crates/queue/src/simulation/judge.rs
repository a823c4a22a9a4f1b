//! An upstream's view: does any sliding minute hold more than the quota?

use crate::window::MINUTE;

/// What an upstream counted, and when; in any order.
#[derive(Debug, Default)]
pub(super) struct Judge {
    counted: Vec<(u64, u64)>,
}

/// What a [`Judge`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Entries at which the minute before them held more than the limit.
    pub(super) violations: u64,
    /// What was counted between the two times, as a share of what the limit allowed.
    pub(super) used: f64,
}

impl Judge {
    pub(super) fn count(&mut self, at: u64, amount: u64) {
        self.counted.push((at, amount));
    }

    /// Judges everything against `limit`, and the use between `from` and `to`.
    pub(super) fn verdict(&mut self, limit: Option<u64>, from: u64, to: u64) -> Verdict {
        let Some(limit) = limit else {
            return Verdict {
                violations: 0,
                used: 0.0,
            };
        };
        self.counted.sort_unstable();
        let (mut oldest, mut sum, mut violations) = (0, 0, 0);
        for (at, amount) in &self.counted {
            sum += amount;
            while self.counted[oldest].0 + MINUTE <= *at {
                sum -= self.counted[oldest].1;
                oldest += 1;
            }
            violations += u64::from(sum > limit);
        }
        let inside = self
            .counted
            .iter()
            .filter(|(at, _)| (from..to).contains(at));
        let total: u64 = inside.map(|(_, amount)| amount).sum();
        let allowed = limit as f64 * (to - from) as f64 / MINUTE as f64;
        Verdict {
            violations,
            used: total as f64 / allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_half_open() {
        let mut judge = Judge::default();
        judge.count(0, 5);
        judge.count(MINUTE, 5);
        assert_eq!(judge.verdict(Some(5), 0, MINUTE).violations, 0);
        judge.count(MINUTE - 1, 1);
        assert_eq!(judge.verdict(Some(5), 0, MINUTE).violations, 2);
    }
}
