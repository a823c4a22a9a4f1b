//! The 95th percentile of recent times.

use std::time::Duration;

/// How many times are kept.
const KEPT: usize = 256;

/// From how many on the percentile says something.
const ENOUGH: usize = 20;

/// The latest times, a ring.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    times: Vec<Duration>,
    next: usize,
    p95: Option<Duration>,
    stale: u32,
}

/// How many new times leave the percentile as it is: sorting for each would cost more
/// than it says.
const STALE: u32 = 8;

impl Latencies {
    pub(super) fn learn(&mut self, time: Duration) {
        match self.times.len() {
            KEPT => self.times[self.next] = time,
            _ => self.times.push(time),
        }
        self.next = (self.next + 1) % KEPT;
        self.stale += 1;
        if self.times.len() >= ENOUGH && (self.p95.is_none() || self.stale >= STALE) {
            self.stale = 0;
            let mut sorted = self.times.clone();
            let at = (sorted.len() * 95).div_ceil(100) - 1;
            self.p95 = Some(*sorted.select_nth_unstable(at).1);
        }
    }

    pub(super) fn p95(&self) -> Option<Duration> {
        self.p95
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_follows_the_latest_times() {
        let mut latencies = Latencies::default();
        for ms in 1..=19 {
            latencies.learn(Duration::from_millis(ms));
        }
        assert_eq!(latencies.p95(), None);
        latencies.learn(Duration::from_millis(20));
        assert_eq!(latencies.p95(), Some(Duration::from_millis(19)));
        for _ in 0..KEPT {
            latencies.learn(Duration::from_secs(1));
        }
        assert_eq!(latencies.p95(), Some(Duration::from_secs(1)));
    }
}
