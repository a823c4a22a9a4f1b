//! How long a place in the queue takes to reach the front while others overtake it.
//!
//! A call's rank falls as calls leave at the front and rises with each arrival that comes
//! in before it. Both rates are known: the first from the quotas, the second from where
//! late arrivals came in. It knows from the first seconds of an overload what measured
//! progress only shows after minutes.

/// Rank 0, 1, 2 to 3, 4 to 7, and so on.
const OCTAVES: usize = 32;
/// How long arrivals are remembered, in nanoseconds.
const MEMORY: f64 = 20e9;
/// A call advances at least at this share of the rate at the front.
const SLOWEST: f64 = 0.05;

/// Arrivals by the rank at which they came in, fading over time.
#[derive(Debug, Default)]
pub(crate) struct Inflow {
    counts: [f64; OCTAVES],
    began: Option<u64>,
    updated: u64,
}

impl Inflow {
    /// Notes an arrival that came in at this rank, before others or behind all. Who comes in
    /// behind all overtakes nobody, however short the queue is.
    pub(crate) fn arrived(&mut self, rank: usize, last: bool, now: u64) {
        self.began.get_or_insert(now);
        if last {
            return;
        }
        let passed = now.saturating_sub(self.updated) as f64;
        let kept = (-passed / MEMORY).exp();
        self.counts.iter_mut().for_each(|count| *count *= kept);
        self.updated = self.updated.max(now);
        self.counts[octave(rank)] += 1.0;
    }

    /// Nanoseconds for a call of this rank to reach the front, where `rate` calls leave
    /// in a nanosecond, if arrivals keep coming in as they did.
    pub(crate) fn pass(&self, rank: usize, rate: f64, now: u64) -> f64 {
        let age = now.saturating_sub(self.began.unwrap_or(now)) as f64;
        // What a steady rate would have left of itself by now, at least a second's worth.
        let memory = (MEMORY * (1.0 - (-age / MEMORY).exp())).max(1e9);
        let (mut time, mut overtaking) = (0.0, 0.0);
        for octave in 0..=octave(rank) {
            let low = (1_usize << octave) >> 1;
            let high = (1_usize << octave).min(rank + 1);
            let arriving = self.counts[octave] / memory;
            let speed = (rate - overtaking - arriving / 2.0).max(rate * SLOWEST);
            time += (high - low) as f64 / speed;
            overtaking += arriving;
        }
        time
    }
}

fn octave(rank: usize) -> usize {
    ((usize::BITS - rank.leading_zeros()) as usize).min(OCTAVES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overtaking_arrivals_slow_a_call_down() {
        let mut inflow = Inflow::default();
        let per_second = 10.0 / 1e9;
        assert!((inflow.pass(99, per_second, 0) - 10e9).abs() < 1e6);
        for tenth in 0..1_000 {
            // Five a second come in at the front.
            if tenth % 2 == 0 {
                inflow.arrived(0, false, tenth * 100_000_000);
            }
        }
        let wait = inflow.pass(99, per_second, 100_000_000_000);
        assert!((19e9..21e9).contains(&wait), "{wait}");
        assert!(inflow.pass(0, per_second, 100_000_000_000) < 1e9);

        let mut filling = Inflow::default();
        (0..50).for_each(|rank| filling.arrived(rank, true, 0));
        assert!((filling.pass(49, per_second, 0) - 5e9).abs() < 1e6);
    }
}
