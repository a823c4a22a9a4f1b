//! How the server fared in the last minute, for `/api/health`.
//!
//! Pure: callers pass `now`. Invariant: memory is fixed, 60 slots of one second each.
//! Deliberately absent: routes and labels; Prometheus has those.

use std::time::Duration;

/// The seconds looked back on.
const WINDOW: u64 = 60;

/// Latency buckets: bucket `i` ends at `100 µs × 2^(i/2)`, the last at about 20 minutes.
const BUCKETS: usize = 48;

#[derive(Debug, Clone)]
struct Slot {
    second: u64,
    requests: u64,
    failures: u64,
    total: Duration,
    buckets: [u32; BUCKETS],
}

impl Slot {
    const EMPTY: Self = Self {
        second: u64::MAX,
        requests: 0,
        failures: 0,
        total: Duration::ZERO,
        buckets: [0; BUCKETS],
    };
}

/// Counts requests in a sliding minute.
#[derive(Debug)]
pub(crate) struct Traffic(Vec<Slot>);

/// The last minute at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Minute {
    pub(crate) requests_per_second: f64,
    pub(crate) average: Duration,
    pub(crate) p95: Duration,
    /// The share of answers with a status of 500 or more, 0 to 1.
    pub(crate) error_rate: f64,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self(vec![Slot::EMPTY; WINDOW as usize])
    }

    /// Counts one answer. `now` is the time since the server's start.
    pub(crate) fn record(&mut self, now: Duration, took: Duration, failed: bool) {
        let second = now.as_secs();
        let slot = &mut self.0[(second % WINDOW) as usize];
        if slot.second != second {
            *slot = Slot {
                second,
                ..Slot::EMPTY
            };
        }
        slot.requests += 1;
        slot.failures += u64::from(failed);
        slot.total += took;
        slot.buckets[bucket(took)] += 1;
    }

    /// Sums up the last minute.
    pub(crate) fn minute(&self, now: Duration) -> Minute {
        let second = now.as_secs();
        let recent = |slot: &&Slot| slot.second <= second && second - slot.second < WINDOW;
        let mut sum = Slot::EMPTY;
        for slot in self.0.iter().filter(recent) {
            sum.requests += slot.requests;
            sum.failures += slot.failures;
            sum.total += slot.total;
            for (all, one) in sum.buckets.iter_mut().zip(slot.buckets) {
                *all += one;
            }
        }
        if sum.requests == 0 {
            return Minute::default();
        }
        let requests = sum.requests as f64;
        Minute {
            requests_per_second: requests / now.as_secs_f64().clamp(1.0, WINDOW as f64),
            average: sum.total.div_f64(requests),
            p95: quantile(&sum.buckets, sum.requests, 0.95),
            error_rate: sum.failures as f64 / requests,
        }
    }
}

fn bucket(took: Duration) -> usize {
    let hundreds = took.as_secs_f64() * 10_000.0;
    let index = (hundreds.log2() * 2.0).ceil().max(0.0) as usize;
    index.min(BUCKETS - 1)
}

/// The end of the bucket that holds the quantile: at most 41 % too high.
fn quantile(buckets: &[u32; BUCKETS], count: u64, share: f64) -> Duration {
    let rank = (count as f64 * share).ceil() as u64;
    let mut seen = 0;
    let index = buckets.iter().position(|&n| {
        seen += u64::from(n);
        seen >= rank
    });
    let end = 2_f64.powf(index.unwrap_or(BUCKETS - 1) as f64 / 2.0) / 10_000.0;
    Duration::from_secs_f64(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_minute_is_summed_and_forgotten() {
        let mut traffic = Traffic::new();
        for i in 0..100 {
            let took = if i < 90 { 10 } else { 1_000 };
            traffic.record(at(100 + i % 10), Duration::from_millis(took), i == 99);
        }
        let minute = traffic.minute(at(110));
        assert_eq!(minute.average, Duration::from_millis(109));
        assert_eq!(minute.error_rate, 0.01);
        let p95 = minute.p95.as_secs_f64();
        assert!((1.0..1.42).contains(&p95), "{p95}");
        assert!((minute.requests_per_second - 100.0 / 60.0).abs() < 1e-9);
        assert_eq!(traffic.minute(at(170)), Minute::default());
    }

    #[test]
    fn extreme_latencies_stay_in_range() {
        let mut traffic = Traffic::new();
        traffic.record(at(0), Duration::ZERO, false);
        traffic.record(at(0), Duration::from_secs(1 << 40), false);
        assert!(traffic.minute(at(0)).p95 > Duration::from_secs(600));
    }
}
