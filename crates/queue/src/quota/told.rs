//! What a ledger that several processes share is told of calls.

use super::{Cost, KINDS, Limiter};
use crate::{
    OutputCounted,
    shared::{Beyond, Ended, Kinds},
};

impl Limiter {
    /// What of a cost counts at a ledger from a call's start, and what is set aside for its
    /// end. A ledger counts all from the start on: what is expected where what is made
    /// counts, with a margin for all calls in flight; else what was declared.
    pub(crate) fn split(&self, cost: Cost) -> (Kinds<u64>, Kinds<u64>) {
        let output = match self.expects() {
            true => cost.output,
            false => Self::set_aside(cost),
        };
        (Self::amounts(cost.input, output), [0; KINDS])
    }

    /// Whether a ledger is told what calls are expected to make.
    pub(crate) fn expects(&self) -> bool {
        matches!(
            self.config.output_counted,
            OutputCounted::Made | OutputCounted::AtEnd | OutputCounted::ActualAtStart
        )
    }

    /// What calls in flight may come to count for beyond what a ledger was told.
    pub(crate) fn beyond(&self, now: u64) -> Beyond {
        if !self.expects() {
            return Beyond::default();
        }
        let due = self.flight.due(now);
        Beyond {
            likely: due.tokens as i64 - self.in_flight.expected as i64,
            variance: due.spread() as u64,
        }
    }

    /// How a call ended, in a ledger's words.
    pub(crate) fn ended(&self, seq: u64, reserved: Cost, used: Option<Cost>) -> Ended {
        // What was declared stays counted.
        let stays = self.config.output_counted == OutputCounted::Declared;
        let used = used.map(|used| match used {
            Cost { input, output, .. } if stays && output > 0 => {
                Cost::new(input, output.max(reserved.declared))
            }
            used => used,
        });
        let (counted, late) = used.map_or(([0; KINDS], [0; KINDS]), |used| self.split(used));
        Ended { seq, counted, late }
    }
}
