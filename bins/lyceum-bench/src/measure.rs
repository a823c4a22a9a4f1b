//! Repeats work and keeps the time of every repeat.
//!
//! Invariant: caches and lazily made things are warm before the first kept repeat.
//! Deliberately absent: throwing outliers away.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::machine::cpu_time;

/// How long one case is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Repeats end after this time.
    pub time: Duration,
    /// Repeats made however long they take.
    pub at_least: usize,
    /// Repeats that are enough however short they are.
    pub at_most: usize,
}

/// The times of the repeats of one case.
#[derive(Debug)]
pub struct Samples {
    /// Sorted, never empty.
    times: Vec<Duration>,
    cpu: Duration,
}

/// Repeats `work` until the budget is spent.
///
/// # Errors
///
/// The first error of `work`.
pub async fn sample(budget: Budget, mut work: impl AsyncFnMut() -> Result<()>) -> Result<Samples> {
    let warm_until = Instant::now() + budget.time / 5;
    for _ in 0..budget.at_most {
        work().await?;
        if Instant::now() >= warm_until {
            break;
        }
    }
    let mut times = Vec::new();
    let (start, cpu_before) = (Instant::now(), cpu_time()?);
    let mut last = start;
    while times.is_empty()
        || times.len() < budget.at_least
        || (times.len() < budget.at_most && last.duration_since(start) < budget.time)
    {
        work().await?;
        let now = Instant::now();
        times.push(now.duration_since(last));
        last = now;
    }
    let cpu = cpu_time()?.saturating_sub(cpu_before);
    times.sort_unstable();
    Ok(Samples { times, cpu })
}

impl Samples {
    /// The number of repeats.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// The mean time in microseconds.
    #[must_use]
    pub fn mean_us(&self) -> f64 {
        let sum: Duration = self.times.iter().sum();
        sum.as_secs_f64() * 1e6 / self.times.len() as f64
    }

    /// CPU time of one repeat in microseconds, in all threads: what a busy machine distorts
    /// least.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.times.len() as f64
    }

    /// The time in microseconds that this share of the repeats, in `[0, 1]`, stayed within
    /// (nearest rank).
    #[must_use]
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "the rank is between 0 and the number of repeats"
    )]
    pub fn percentile_us(&self, share: f64) -> f64 {
        let rank = (share * self.times.len() as f64).ceil() as usize;
        let index = rank.clamp(1, self.times.len()) - 1;
        self.times[index].as_secs_f64() * 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = (1..=10).map(Duration::from_micros).collect();
        let samples = Samples {
            times,
            cpu: Duration::from_micros(20),
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(samples.percentile_us(0.5), 5.0));
        assert!(near(samples.percentile_us(0.99), 10.0));
        assert!(near(samples.percentile_us(0.0), 1.0));
        assert!(near(samples.mean_us(), 5.5));
        assert!(near(samples.cpu_us(), 2.0));
    }
}
