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
    /// Whether the upstream refuses the call when this does not fit.
    asks: bool,
}

impl Counted {
    fn last(&self) -> u64 {
        self.corrected.map_or(self.amount, |(_, amount)| amount)
    }
}

/// What a [`Judge`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// Calls that arrived when they did not fit.
    pub(super) violations: u64,
    /// How full the window was on average between the two times.
    pub(super) used: f64,
    /// How full it was at most.
    pub(super) fullest: f64,
}

/// In the order in which they take effect at one time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Leaves,
    Corrected,
    Enters,
}

impl Judge {
    /// A call arrives that counts for this amount at once. Of nothing, it still needs a
    /// window that is not full.
    pub(super) fn arrives(&mut self, at: u64, amount: u64) {
        self.counted.push(Counted {
            at,
            amount,
            corrected: None,
            asks: true,
        });
    }

    /// Counts the amount of a call that ends, which cannot be refused any more.
    pub(super) fn ends(&mut self, at: u64, amount: u64) {
        self.counted.push(Counted {
            at,
            amount,
            corrected: None,
            asks: false,
        });
    }

    /// A call arrives whose amount turns into another one at the time `until`.
    pub(super) fn arrives_corrected(&mut self, at: u64, amount: u64, until: u64, to: u64) {
        self.counted.push(Counted {
            at,
            amount,
            corrected: Some((until, to)),
            asks: true,
        });
    }

    /// What counts at this time. What begins to count is expected in order, but for less
    /// than a minute.
    pub(super) fn level(&self, at: u64) -> u64 {
        let recent = self.counted.iter().rev();
        recent
            .take_while(|entry| entry.at + 2 * MINUTE > at)
            .filter(|entry| entry.at <= at && entry.at + MINUTE > at)
            .map(|entry| match entry.corrected {
                Some((from, amount)) if from <= at => amount,
                _ => entry.amount,
            })
            .sum()
    }

    /// Judges everything against `limit`, and the use between `from` and `to`.
    pub(super) fn verdict(&self, limit: Option<u64>, from: u64, to: u64) -> Verdict {
        let Some(limit) = limit else {
            return Verdict {
                violations: 0,
                used: 0.0,
                fullest: 0.0,
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
        let (mut sum, mut most, mut violations) = (0_u64, 0_u64, 0);
        let (mut since, mut filled) = (from, 0.0);
        for (at, change, number) in changes {
            let until = at.clamp(since, to);
            filled += sum as f64 * (until - since) as f64;
            since = until;
            sum -= amounts[number];
            amounts[number] = match change {
                Change::Leaves => 0,
                Change::Corrected => self.counted[number].last(),
                Change::Enters => self.counted[number].amount,
            };
            sum += amounts[number];
            most = most.max(sum);
            let entry = self.counted[number];
            let needed = u64::from(entry.amount == 0);
            violations += u64::from(entry.asks && change == Change::Enters && sum + needed > limit);
        }
        Verdict {
            violations,
            used: filled / (limit as f64 * (to - from) as f64),
            fullest: most as f64 / limit as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_half_open() {
        let mut judge = Judge::default();
        judge.arrives(0, 5);
        judge.arrives(MINUTE, 5);
        assert_eq!(judge.verdict(Some(5), 0, MINUTE).violations, 0);
        judge.arrives(MINUTE - 1, 1);
        assert_eq!(judge.verdict(Some(5), 0, MINUTE).violations, 2);
    }

    #[test]
    fn an_end_fills_the_minute_but_only_an_arrival_is_refused() {
        let mut judge = Judge::default();
        judge.arrives(0, 0);
        judge.ends(1, 6);
        let verdict = judge.verdict(Some(5), 0, MINUTE);
        assert_eq!((verdict.violations, verdict.fullest), (0, 1.2));
        judge.arrives(2, 0);
        assert_eq!(judge.verdict(Some(5), 0, MINUTE).violations, 1);
    }

    #[test]
    fn a_correction_counts_from_its_time_on() {
        let mut judge = Judge::default();
        judge.arrives_corrected(0, 10, 20, 2);
        judge.arrives(10, 1);
        judge.arrives(30, 7);
        let verdict = judge.verdict(Some(10), 0, MINUTE);
        assert_eq!(verdict.violations, 1, "only before the correction");
        let filled = (10 * 10 + 11 * 10 + 3 * 10) as f64 + (MINUTE - 30) as f64 * 10.0;
        assert!((verdict.used - filled / (MINUTE as f64 * 10.0)).abs() < 1e-9);
    }
}
