//! How long a waiting call will probably wait.
//!
//! Two views: how long virtual time took of late to come as far as it is to the call's
//! turn, and how arrivals overtake, which is known at once. The first is late to see that
//! a crowd grows, the second that it does not, and they are wrong for different reasons, so
//! their mean is told to callers. Whether a deadline can be met is decided by the more
//! pessimistic of both, or by their mean widened by how far forecasts were off before.
//!
//! Deliberately absent: a correction of what is told by how waits turned out. It is learned
//! only when waits are over, from those that were short first, and in simulations of all
//! kinds of quotas it made the median error larger.

use std::time::Duration;

use crate::{
    Refused,
    inflow::Inflow,
    order::{BANDS, Place},
    quota::{Cost, Limiter},
    smoothed::{Moments, Smoothed},
    window::Room,
};

/// Waits seen before their deviation is trusted.
const WARM: u32 = 8;
/// Deviations above the mean that a call with a deadline must have left.
const CAUTION: f64 = 2.0;
/// Waits below this, in nanoseconds, say nothing about forecasts.
const SHORT: f64 = 2e8;
/// A call with this much time left goes first in its band: five seconds, or four turns
/// where those take longer, in nanoseconds.
const LEAD: f64 = 5e9;
const LEAD_TURNS: f64 = 4.0;
const LONGEST_LEAD: f64 = 60e9;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Forecast {
    inflow: Inflow,
    /// The length of a call, in nanoseconds.
    run: Moments,
    /// Reserved and used tokens, input and output.
    reserved: [Moments; 2],
    used: [Moments; 2],
    /// Real waits as multiples of forecasts.
    ratio: [Smoothed; BANDS],
    /// Calls a nanosecond, as last computed.
    rate: f64,
    aged_turn: f64,
}

/// A waiting call's prospects, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlook {
    /// `None` while nothing is known about how long calls run.
    pub(crate) likely: Option<u64>,
    /// A wait that it will hardly exceed.
    pub(crate) cautious: u64,
}

impl Forecast {
    pub(crate) fn new(aged_turn: u32) -> Self {
        Self {
            inflow: Inflow::default(),
            run: Moments::default(),
            reserved: Default::default(),
            used: Default::default(),
            ratio: Default::default(),
            rate: f64::INFINITY,
            aged_turn: f64::from(aged_turn.max(2)),
        }
    }

    /// The prospects of a call at `place` among calls of `mean` cost.
    pub(crate) fn outlook(
        &mut self,
        limiter: &mut Limiter,
        place: Place,
        mean: Cost,
        now: u64,
    ) -> Outlook {
        let expected = self.expected(mean);
        let run = self.run.above(0.0);
        let by_quota = limiter.rate(mean, expected, run);
        let by_slots = match limiter.concurrency() {
            Some(slots) if run > 0.0 => f64::from(slots) / run,
            _ => f64::INFINITY,
        };
        self.rate = by_quota.min(by_slots);
        let pause = match limiter.room(mean, now) {
            Room::At(at) => at.saturating_sub(now) as f64,
            Room::Now | Room::Settlement => 0.0,
        };
        let measured = (place.until > 0).then_some(place.until as f64);
        if self.rate.is_infinite() {
            let unknown = limiter.concurrency().is_some() && measured.is_none();
            let likely = measured.unwrap_or(0.0).max(pause) as u64;
            return Outlook {
                likely: (!unknown).then_some(likely),
                cautious: likely,
            };
        }
        // A burst passes the quota at once, but not the slots.
        let burst = limiter.burst(mean);
        let beyond = (place.ahead as f64 - burst).max(0.0) as usize;
        let least = (beyond as f64 / by_quota).max(place.ahead as f64 / by_slots);
        let mut overtaken = self.inflow.pass(place.ahead, by_slots, now);
        if burst <= place.ahead as f64 {
            overtaken = overtaken.max(self.inflow.pass(beyond, by_quota, now));
        }
        if place.in_band < place.ahead {
            // Whatever comes in above it, an aged band has every so-many-th turn.
            let turns = (place.in_band as f64 + 1.0) * self.aged_turn / self.rate;
            overtaken = overtaken.min(turns).max(least);
        }
        let seen = measured.map_or(overtaken, |measured| f64::midpoint(measured, overtaken));
        let likely = pause + seen.max(least);
        let slower = measured.map_or(overtaken, |measured| measured.max(overtaken));
        let cautious = (likely * self.margin(place.band)).max(pause + slower);
        Outlook {
            likely: Some(likely as u64),
            cautious: cautious as u64,
        }
    }

    /// Learns from a call that came in behind `ahead` others, and behind all or not.
    pub(crate) fn arrived(&mut self, ahead: usize, last: bool, now: u64) {
        self.inflow.arrived(ahead, last, now);
    }

    /// Learns from a call that waited this long, whether it started or expired.
    pub(crate) fn waited(&mut self, band: usize, likely: Option<u64>, waited: u64) {
        if let Some(likely) = likely.map(|likely| likely as f64).filter(|l| *l >= SHORT) {
            self.ratio[band].learn((waited as f64 / likely).clamp(0.1, 10.0));
        }
    }

    /// Learns from a call that ended.
    pub(crate) fn ran(&mut self, run: u64, reserved: Cost, used: Cost) {
        self.run.learn(run as f64);
        for (kind, (before, after)) in
            [(reserved.input, used.input), (reserved.output, used.output)]
                .into_iter()
                .enumerate()
        {
            self.reserved[kind].learn(before as f64);
            self.used[kind].learn(after as f64);
        }
    }

    /// How long before its deadline a call should be put first.
    pub(crate) fn lead(&self) -> u64 {
        (LEAD_TURNS / self.rate).clamp(LEAD, LONGEST_LEAD) as u64
    }

    /// What calls really use that reserve this much.
    fn expected(&self, reserved: Cost) -> Cost {
        let share = |kind: usize| match self.reserved[kind].above(0.0) {
            reserved if reserved > 0.0 => self.used[kind].above(0.0) / reserved,
            _ => 1.0,
        };
        Cost::new(
            (reserved.input as f64 * share(0)) as u64,
            (reserved.output as f64 * share(1)) as u64,
        )
    }

    /// The refusal of a call when `waiting` others fill the queue: come back when a
    /// tenth of them is served.
    pub(crate) fn full(&self, waiting: usize) -> Refused {
        let tenth = (waiting as f64 / 10.0).max(1.0) / self.rate;
        Refused::Full {
            retry_after: Duration::from_nanos(tenth as u64)
                .clamp(Duration::from_secs(1), Duration::from_secs(60)),
        }
    }

    /// The refusal of a call that would wait for `expected` but has only `left`.
    pub(crate) fn too_late(expected: u64, left: u64) -> Refused {
        let missing = Duration::from_nanos(expected.saturating_sub(left));
        Refused::Deadline {
            estimated_wait: Duration::from_nanos(expected),
            retry_after: missing.max(Duration::from_secs(1)),
        }
    }

    fn margin(&self, band: usize) -> f64 {
        let ratio = &self.ratio[band];
        if ratio.seen() < WARM {
            return 1.0;
        }
        ratio.above(CAUTION).max(1.0)
    }
}
