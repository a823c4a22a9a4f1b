//! How near an upstream's own count came to its limit, and what is kept free for it.
//!
//! Headers say what was left when a call arrived. Where that is nearly nothing, calls took
//! longer ways than was thought, or the upstream counts a little more: the next one may be
//! refused. So a part of the quota is kept free that grows by what was missing and shrinks
//! slowly. Invariant: it is never more than [`MOST`].

use crate::window::MINUTE;

/// What should be left of a limit, as a share of it.
const LEFT: f64 = 0.003;
/// The most that is kept free.
const MOST: f64 = 0.03;
/// Given back of it with every minute in which twice as much was left.
const BACK: f64 = 0.25;

/// See the module's text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Margin {
    /// As a share of the limit.
    kept: f64,
    /// The least that was left since then.
    least: f64,
    since: Option<u64>,
    /// When more was kept last: what was on its way then does not know of it.
    grown: Option<u64>,
}

impl Margin {
    /// An upstream reports `remaining` of `limit`. Whether the margin changed.
    pub(super) fn report(&mut self, limit: u64, remaining: u64, now: u64) -> bool {
        let left = remaining as f64 / limit.max(1) as f64;
        let wanted = LEFT.max(1.0 / limit.max(1) as f64);
        let again = self.grown.is_none_or(|grown| now >= grown + MINUTE / 30);
        if left < wanted && again {
            self.kept = (self.kept + wanted - left).min(MOST);
            (self.grown, self.since) = (Some(now), None);
            return true;
        }
        let since = *self.since.get_or_insert(now);
        if since == now {
            self.least = left;
        }
        self.least = self.least.min(left);
        if now < since + MINUTE {
            return false;
        }
        let free = self.least > 2.0 * wanted;
        (self.since, self.least) = (Some(now), left);
        if free {
            self.kept *= 1.0 - BACK;
        }
        free
    }

    /// What is kept free of a limit.
    pub(super) fn of(&self, limit: u64) -> u64 {
        (self.kept * limit as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_when_nothing_is_left_and_shrinks_slowly() {
        let mut margin = Margin::default();
        assert!(margin.report(1_000, 0, 0));
        let grown = margin.of(1_000);
        assert_eq!(grown, 3);
        assert!(!margin.report(1_000, 0, 1), "the same moment");
        for second in 0..200 {
            margin.report(1_000, 0, MINUTE + second * 2 * MINUTE / 30);
        }
        assert_eq!(margin.of(1_000), 30);
        for minute in 100..130 {
            margin.report(1_000, 500, minute * MINUTE);
        }
        assert_eq!(margin.of(1_000), 0);
    }
}
