//! A histogram of durations in fixed memory.
//!
//! Buckets are log-linear: 32 to every power of two of microseconds, so that a quantile is
//! at most 3.2 % too high (the idea of HdrHistogram).

use std::time::Duration;

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB;

/// Counts durations; a quantile is the upper edge of the bucket that holds it.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
        }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    /// Counts everything that another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The duration that this share of the counted ones, 0 to 1, does not exceed; `None`
    /// if there are none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is far below 2^53 and not negative"
    )]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share.clamp(0.0, 1.0) * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper_edge(at)))
    }
}

/// Values below `SUB` have a bucket each; above, the five bits after the first decide.
fn bucket(micros: u64) -> usize {
    let Some(power) = micros.checked_ilog2().filter(|power| *power >= SUB_BITS) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    let shift = power - SUB_BITS;
    let within = usize::try_from(micros >> shift).unwrap_or(0) - SUB;
    (shift as usize + 1) * SUB + within
}

fn upper_edge(bucket: usize) -> u64 {
    let Some(shift) = (bucket / SUB).checked_sub(1) else {
        return bucket as u64;
    };
    let within = (bucket % SUB + SUB) as u64;
    (((u128::from(within) + 1) << shift) - 1)
        .try_into()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_known_sample() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=1_000 {
            histogram.record(Duration::from_millis(millis));
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = histogram.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!(
                (expected..expected * 1.032).contains(&found),
                "{share}: {found}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket(micros: u64) {
            let at = bucket(micros);
            prop_assert!(at < BUCKETS);
            prop_assert!(micros <= upper_edge(at));
            prop_assert!(at == 0 || micros > upper_edge(at - 1));
        }
    }
}
