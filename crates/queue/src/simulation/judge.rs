//! An upstream's view: does any sliding minute hold more than the quota?

use crate::window::MINUTE;

/// What an upstream counted, and when; in any order.
#[derive(Debug, Default)]
pub(super) struct Judge {
    counted: Vec<Counted>,
}

/// An amount that counts from `at` on, and may be corrected later.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: u64,
    amount: u64,
    corrected: Option<(u64, u64)>,
}

impl Counted {
    fn last(&self) -> u64 {
        self.corrected.map_or(self.amount, |(_, amount)| amount)
    }
}

/// What a [`Judge`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Entries at which the minute before them held more than the limit.
    pub(super) violations: u64,
    /// What was counted between the two times, as a share of what the limit allowed.
    pub(super) used: f64,
}

/// In the order in which they take effect at one time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Leaves,
    Corrected,
    Enters,
}

impl Judge {
    /// Counts an amount.
    pub(super) fn count(&mut self, at: u64, amount: u64) {
        self.counted.push(Counted {
            at,
            amount,
            corrected: None,
        });
    }

    /// Counts an amount that turns into another one at the time `until`.
    pub(super) fn count_corrected(&mut self, at: u64, amount: u64, until: u64, to: u64) {
        self.counted.push(Counted {
            at,
            amount,
            corrected: Some((until, to)),
        });
    }

    /// Judges everything against `limit`, and the use between `from` and `to`.
    pub(super) fn verdict(&self, limit: Option<u64>, from: u64, to: u64) -> Verdict {
        let Some(limit) = limit else {
            return Verdict {
                violations: 0,
                used: 0.0,
            };
        };
        let mut changes = Vec::with_capacity(self.counted.len() * 2);
        for (number, entry) in self.counted.iter().enumerate() {
            let leaves = entry.at + MINUTE;
            changes.push((entry.at, Change::Enters, number));
            changes.push((leaves, Change::Leaves, number));
            if let Some((at, _)) = entry.corrected.filter(|(at, _)| *at < leaves) {
                changes.push((at, Change::Corrected, number));
            }
        }
        changes.sort_unstable();
        let mut amounts: Vec<u64> = vec![0; self.counted.len()];
        let (mut sum, mut violations) = (0, 0);
        for (_, change, number) in changes {
            sum -= amounts[number];
            amounts[number] = match change {
                Change::Leaves => 0,
                Change::Corrected => self.counted[number].last(),
                Change::Enters => self.counted[number].amount,
            };
            sum += amounts[number];
            violations += u64::from(change == Change::Enters && sum > limit);
        }
        let inside = self.counted.iter().filter(|c| (from..to).contains(&c.at));
        let total: u64 = inside.map(Counted::last).sum();
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

    #[test]
    fn a_correction_counts_from_its_time_on() {
        let mut judge = Judge::default();
        judge.count_corrected(0, 10, 20, 2);
        judge.count(10, 1);
        judge.count(30, 7);
        let verdict = judge.verdict(Some(10), 0, MINUTE);
        assert_eq!(verdict.violations, 1, "only before the correction");
        assert!((verdict.used - 1.0).abs() < 1e-9);
    }
}
