//! Which endpoint the next call goes to. Pure: randomness and `now` are arguments.
//!
//! Invariant: `busy` of an endpoint is the number of calls begun and not ended there.

use std::time::{Duration, Instant};

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// In turn, by weight (smooth weighted round robin, as in nginx).
    Weighted,
    /// The fewest running calls for its weight.
    LeastBusy,
    /// Of two at random the one with the lower product of recent first-token time and
    /// running calls (Mitzenmacher, "The Power of Two Choices", 2001; peak EWMA as in
    /// Finagle). A slow answer counts at once, a fast one slowly.
    #[default]
    PeakEwma,
    /// The lowest price; among equals the least busy.
    Cheapest,
}

impl Strategy {
    /// A bounded name for labels and configuration.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::LeastBusy => "least_busy",
            Self::PeakEwma => "peak_ewma",
            Self::Cheapest => "cheapest",
        }
    }
}

/// After this time without an answer a slow one is nearly forgotten to a third, so that
/// the endpoint is tried again.
const MEMORY: Duration = Duration::from_secs(30);

/// A failure weighs like an answer that took this much longer, or failing fast would
/// attract calls.
const FAILURE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Picker {
    strategy: Strategy,
    ends: Vec<End>,
}

#[derive(Debug)]
struct End {
    weight: u32,
    price: u64,
    busy: u32,
    /// The credit of smooth weighted round robin.
    credit: i64,
    /// Seconds to the first content, and when it was last updated.
    latency: Option<(f64, Instant)>,
    barred: Option<Instant>,
}

impl Picker {
    pub(super) fn new(strategy: Strategy, ends: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let end = |(weight, price): (u32, u64)| End {
            weight: weight.max(1),
            price,
            busy: 0,
            credit: 0,
            latency: None,
            barred: None,
        };
        Self {
            strategy,
            ends: ends.into_iter().map(end).collect(),
        }
    }

    /// Chooses among the endpoints that `allowed` lets through and begins a call there.
    /// `random` holds two numbers in 0 to 1.
    pub(super) fn begin(
        &mut self,
        allowed: impl Fn(usize) -> bool,
        random: [f64; 2],
        now: Instant,
    ) -> Option<usize> {
        let candidates: Vec<usize> = (0..self.ends.len()).filter(|at| allowed(*at)).collect();
        let chosen = match self.strategy {
            Strategy::Weighted => self.next_in_turn(&candidates),
            Strategy::LeastBusy => self.least_busy(candidates),
            Strategy::PeakEwma => self.better_of_two(&candidates, random, now),
            Strategy::Cheapest => {
                let cheapest = candidates.iter().map(|at| self.ends[*at].price).min();
                let cheap = |at: &usize| Some(self.ends[*at].price) == cheapest;
                self.least_busy(candidates.into_iter().filter(cheap).collect())
            }
        }?;
        self.ends[chosen].busy += 1;
        Some(chosen)
    }

    /// Ends a call.
    pub(super) fn end(&mut self, at: usize) {
        let end = &mut self.ends[at];
        end.busy = end.busy.saturating_sub(1);
    }

    /// Notes the time to the first content of a call.
    pub(super) fn began(&mut self, at: usize, after: Duration, now: Instant) {
        let seen = after.as_secs_f64();
        let latency = match self.ends[at].latency {
            None => seen,
            Some((old, _)) if seen > old => seen,
            Some((old, updated)) => {
                let weight = decay(updated, now);
                old * weight + seen * (1.0 - weight)
            }
        };
        self.ends[at].latency = Some((latency, now));
    }

    /// Notes a call that failed before its content.
    pub(super) fn failed(&mut self, at: usize, after: Duration, now: Instant) {
        self.began(at, after + FAILURE, now);
    }

    /// Leaves an endpoint out until then.
    pub(super) fn bar(&mut self, at: usize, until: Instant) {
        self.ends[at].barred = Some(until);
    }

    pub(super) fn is_barred(&self, at: usize, now: Instant) -> bool {
        self.ends[at].barred.is_some_and(|until| now < until)
    }

    fn next_in_turn(&mut self, candidates: &[usize]) -> Option<usize> {
        let total: i64 = candidates
            .iter()
            .map(|at| i64::from(self.ends[*at].weight))
            .sum();
        for at in candidates {
            self.ends[*at].credit += i64::from(self.ends[*at].weight);
        }
        // The first of equals, so that the turn is the order of the configuration.
        let chosen = candidates
            .iter()
            .copied()
            .rev()
            .max_by_key(|at| self.ends[*at].credit)?;
        self.ends[chosen].credit -= total;
        Some(chosen)
    }

    fn least_busy(&self, candidates: Vec<usize>) -> Option<usize> {
        let load = |at: &usize| f64::from(self.ends[*at].busy) / f64::from(self.ends[*at].weight);
        candidates
            .into_iter()
            .min_by(|a, b| load(a).total_cmp(&load(b)))
    }

    fn better_of_two(&self, candidates: &[usize], random: [f64; 2], now: Instant) -> Option<usize> {
        let pick = |random: f64, of: usize| ((random * of as f64) as usize).min(of - 1);
        if candidates.len() < 2 {
            return candidates.first().copied();
        }
        let one = pick(random[0], candidates.len());
        let mut other = pick(random[1], candidates.len() - 1);
        if other >= one {
            other += 1;
        }
        let (one, other) = (candidates[one], candidates[other]);
        match self.load(one, now) <= self.load(other, now) {
            true => Some(one),
            false => Some(other),
        }
    }

    fn load(&self, at: usize, now: Instant) -> f64 {
        let end = &self.ends[at];
        let busy = f64::from(end.busy);
        let latency = match end.latency {
            Some((latency, updated)) => latency * decay(updated, now),
            // Nothing is known: one call finds out, and until then it gets no second one.
            None if end.busy > 0 => f64::from(u32::MAX),
            None => 0.0,
        };
        latency * (busy + 1.0) / f64::from(end.weight)
    }
}

/// What is left of an old value's weight.
fn decay(updated: Instant, now: Instant) -> f64 {
    let age = now.saturating_duration_since(updated);
    (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shares(picker: &mut Picker, calls: usize, now: Instant) -> Vec<usize> {
        let mut counts = vec![0; picker.ends.len()];
        for call in 0..calls {
            let random = [(call % 10) as f64 / 10.0, (call % 7) as f64 / 7.0];
            let at = picker.begin(|_| true, random, now).unwrap();
            picker.end(at);
            counts[at] += 1;
        }
        counts
    }

    #[test]
    fn weights_are_kept_exactly_and_smoothly() {
        let mut picker = Picker::new(Strategy::Weighted, [(5, 0), (1, 0), (1, 0)]);
        let now = Instant::now();
        let order: Vec<usize> = (0..7)
            .map(|_| picker.begin(|_| true, [0.0; 2], now).unwrap())
            .collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(shares(&mut picker, 700, now), [500, 100, 100]);
    }

    #[test]
    fn the_least_busy_for_its_weight_is_next() {
        let mut picker = Picker::new(Strategy::LeastBusy, [(1, 0), (3, 0)]);
        let now = Instant::now();
        let order: Vec<usize> = (0..4)
            .map(|_| picker.begin(|_| true, [0.0; 2], now).unwrap())
            .collect();
        assert_eq!(order, [0, 1, 1, 1]);
        picker.end(0);
        assert_eq!(picker.begin(|_| true, [0.0; 2], now), Some(0));
    }

    #[test]
    fn a_slow_endpoint_gets_little_until_it_is_forgotten() {
        let mut picker = Picker::new(Strategy::PeakEwma, [(1, 0), (1, 0)]);
        let now = Instant::now();
        picker.began(0, SECOND / 10, now);
        picker.began(1, 10 * SECOND, now);
        assert_eq!(shares(&mut picker, 100, now), [100, 0]);
        picker.began(0, SECOND, now + 200 * SECOND);
        let [_, second] = shares(&mut picker, 100, now + 200 * SECOND)[..] else {
            panic!()
        };
        assert_eq!(second, 100, "its slow answer is long ago");
    }

    #[test]
    fn failing_fast_does_not_attract_calls() {
        let mut picker = Picker::new(Strategy::PeakEwma, [(1, 0), (1, 0)]);
        let now = Instant::now();
        picker.began(0, SECOND, now);
        picker.failed(1, Duration::ZERO, now);
        assert_eq!(shares(&mut picker, 50, now), [50, 0]);
    }

    #[test]
    fn the_cheapest_that_is_allowed_is_chosen() {
        let mut picker = Picker::new(Strategy::Cheapest, [(1, 3), (1, 1), (1, 1)]);
        let now = Instant::now();
        assert_eq!(picker.begin(|_| true, [0.0; 2], now), Some(1));
        assert_eq!(picker.begin(|_| true, [0.0; 2], now), Some(2));
        assert_eq!(picker.begin(|at| at == 0, [0.0; 2], now), Some(0));
        assert_eq!(picker.begin(|_| false, [0.0; 2], now), None);
    }
}
