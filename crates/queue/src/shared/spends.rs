//! What one process spent within the window, coarsely: 128 bins.
//!
//! Invariant: an amount never seems older than it is.

use std::{collections::VecDeque, time::Duration};

use super::{Kinds, Spent};

const BINS: u64 = 128;

/// See the module's text. Times are nanoseconds.
#[derive(Debug)]
pub(crate) struct Spends {
    width: u64,
    /// By bin number, the oldest first.
    bins: VecDeque<(u64, Kinds<u64>)>,
}

impl Spends {
    /// Remembers a window of `length`.
    pub(crate) fn new(length: u64) -> Self {
        Self {
            width: (length / BINS).max(1),
            bins: VecDeque::new(),
        }
    }

    /// Counts `amounts` at `at`.
    pub(crate) fn add(&mut self, at: u64, amounts: &Kinds<u64>) {
        if amounts.iter().all(|amount| *amount == 0) {
            return;
        }
        let number = at / self.width;
        let bin = match self.bins.iter().rposition(|(n, _)| *n <= number) {
            Some(found) if self.bins[found].0 == number => found,
            Some(before) => {
                self.bins.insert(before + 1, (number, [0; 4]));
                before + 1
            }
            None => {
                self.bins.push_front((number, [0; 4]));
                0
            }
        };
        for (have, amount) in self.bins[bin].1.iter_mut().zip(amounts) {
            *have = have.saturating_add(*amount);
        }
        self.forget(at);
    }

    /// Replaces what was counted at `at`, where it is still remembered.
    pub(crate) fn correct(&mut self, at: u64, old: &Kinds<u64>, new: &Kinds<u64>) {
        let number = at / self.width;
        if let Some((_, have)) = self.bins.iter_mut().find(|(n, _)| *n == number) {
            for kind in 0..4 {
                have[kind] = (have[kind] + new[kind]).saturating_sub(old[kind]);
            }
        }
    }

    /// All that is remembered.
    pub(crate) fn list(&mut self, now: u64) -> Vec<Spent> {
        self.forget(now);
        let spent = |(number, amounts): &(u64, Kinds<u64>)| Spent {
            age: Duration::from_nanos(now.saturating_sub((number + 1) * self.width)),
            amounts: *amounts,
        };
        self.bins.iter().map(spent).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.bins.clear();
    }

    fn forget(&mut self, now: u64) {
        // Twice the window, as what is still remembered may be corrected.
        let oldest = (now / self.width).saturating_sub(2 * BINS);
        while self.bins.front().is_some_and(|(n, _)| *n < oldest) {
            self.bins.pop_front();
        }
    }
}
