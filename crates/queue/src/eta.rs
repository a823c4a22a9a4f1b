//! How long a waiting call will probably wait.
//!
//! The raw forecast divides the calls ahead by the rate that the tightest quota
//! allows them. What it cannot know (later arrivals that overtake, calls that use
//! less than they reserved) is learned per band as the ratio of real to forecast waits.

use std::time::Duration;

use crate::{
    Refused,
    order::BANDS,
    quota::{Cost, Limiter},
    window::Room,
};

/// Weight of a new value in the smoothed ones.
const GAIN: f64 = 0.05;
/// Forecasts shorter than this say nothing about the ratio.
const SHORT: f64 = 2e8;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Forecast {
    /// Smoothed length of a call, in nanoseconds.
    run: Option<f64>,
    ratio: [f64; BANDS],
    /// Calls a nanosecond, as last computed.
    rate: f64,
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            run: None,
            ratio: [1.0; BANDS],
            rate: f64::INFINITY,
        }
    }
}

impl Forecast {
    /// The raw forecast for a call with `ahead` calls before it, each of `mean` cost.
    /// `None` while nothing is known about how long calls run.
    pub(crate) fn raw(
        &mut self,
        limiter: &mut Limiter,
        ahead: usize,
        mean: Cost,
        now: u64,
    ) -> Option<u64> {
        let by_quota = limiter.rate(mean);
        let by_slots = match (limiter.concurrency(), self.run) {
            (Some(slots), Some(run)) => f64::from(slots) / run.max(1.0),
            (Some(_), None) if by_quota.is_infinite() => return None,
            _ => f64::INFINITY,
        };
        self.rate = by_quota.min(by_slots);
        let first = match limiter.room(mean, now) {
            Room::At(at) => at.saturating_sub(now),
            Room::Now | Room::Settlement => 0,
        };
        let burst = limiter.burst(mean);
        let rest = (ahead as f64 - burst).max(0.0) / self.rate;
        Some(first.saturating_add(rest as u64))
    }

    /// A raw forecast corrected by what its band has seen.
    pub(crate) fn corrected(&self, band: usize, raw: u64) -> u64 {
        (raw as f64 * self.ratio[band]) as u64
    }

    /// Learns from a call that started.
    pub(crate) fn granted(&mut self, band: usize, raw: Option<u64>, waited: u64) {
        let Some(raw) = raw.map(|raw| raw as f64).filter(|raw| *raw >= SHORT) else {
            return;
        };
        let seen = (waited as f64 / raw).clamp(0.1, 10.0);
        self.ratio[band] += GAIN * (seen - self.ratio[band]);
    }

    /// Learns from a call that ended.
    pub(crate) fn ran(&mut self, run: u64) {
        let run = run as f64;
        let mean = self.run.get_or_insert(run);
        *mean += GAIN * (run - *mean);
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
}
