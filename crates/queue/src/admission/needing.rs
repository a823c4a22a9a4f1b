//! What a call that is to start needs of a shared ledger.

use super::Admission;
use crate::{
    order::Index,
    quota::Cost,
    shared::{Beyond, Need},
};

impl Admission {
    pub(super) fn need(&mut self, index: Index, cost: Cost, now: u64) -> Need {
        let (counted, held) = self.limiter.split(cost);
        let entry = self.order.get(index);
        let ageing = u64::try_from(self.config.ageing.as_nanos()).unwrap_or(u64::MAX);
        // One that aged goes before the others' higher bands too, but not each time it asks:
        // what waits long everywhere has no claim to more than its share.
        self.asked = self.asked.wrapping_add(1);
        let turn = self.asked.is_multiple_of(self.config.aged_turn.max(2));
        let band = entry.map_or(0, |entry| {
            let aged = now.saturating_sub(entry.arrived) > ageing;
            if aged && turn { 0 } else { entry.band }
        });
        let mut beyond = self.limiter.beyond(now);
        if self.limiter.expects() {
            beyond.variance = beyond.variance.saturating_add(cost.variance);
        }
        Need {
            counted,
            held,
            limits: self.limiter.limits(),
            concurrency: self.limiter.concurrency(),
            beyond,
            band,
            flows: u32::try_from(self.order.flows()).unwrap_or(u32::MAX),
        }
    }

    /// What calls in flight may come to count for beyond what a ledger was told.
    pub(crate) fn beyond(&self, now: u64) -> Beyond {
        self.limiter.beyond(now)
    }
}
