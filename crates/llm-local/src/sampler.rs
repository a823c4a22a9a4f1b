//! The choice of the next token.
//!
//! Pure but for the seed. Invariant: the same logits, settings and seed give the same
//! token. Deliberately absent: penalties and the many other truncations; temperature
//! and nucleus are what the chat port carries.

use std::cmp::Ordering;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Candidates among which the nucleus is sought before all tokens are sorted.
const LIKELY: usize = 256;

/// Draws tokens from logits.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Zero chooses the most likely token.
    temperature: f32,
    /// The probability mass that is drawn from; one is all of it.
    top_p: f32,
    random: StdRng,
}

impl Sampler {
    /// Values outside of their ranges are brought to the nearest bound; without a seed
    /// every sampler draws differently.
    pub(crate) fn new(temperature: f32, top_p: f32, seed: Option<i64>) -> Self {
        let in_range = |value: f32, most: f32| if value > 0.0 { value.min(most) } else { 0.0 };
        Self {
            temperature: in_range(temperature, 2.0),
            top_p: in_range(top_p, 1.0),
            random: match seed {
                Some(seed) => StdRng::seed_from_u64(seed.cast_unsigned()),
                None => StdRng::from_os_rng(),
            },
        }
    }

    /// The next token; `None` when the logits are no numbers, as a damaged model's are.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Option<u32> {
        let (best, &highest) = logits
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))?;
        if !highest.is_finite() {
            return None;
        }
        if self.temperature == 0.0 || self.top_p == 0.0 {
            return u32::try_from(best).ok();
        }
        let weight = |logit: &f32| ((logit - highest) / self.temperature).exp();
        let mut candidates: Vec<(usize, f32)> = logits.iter().map(weight).enumerate().collect();
        let total: f32 = candidates.iter().map(|(_, weight)| weight).sum();
        let mass = total * self.top_p;
        if self.top_p < 1.0 {
            nucleus(&mut candidates, mass);
        }
        let mass: f32 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut draw = self.random.random::<f32>() * mass;
        let chosen = candidates.iter().find(|(_, weight)| {
            draw -= weight;
            draw < 0.0
        });
        // Rounding may leave a trace of the draw after the last candidate.
        let (token, _) = chosen.or(candidates.first())?;
        u32::try_from(*token).ok()
    }
}

/// Keeps the fewest candidates that together weigh `mass`, the heaviest first.
fn nucleus(candidates: &mut Vec<(usize, f32)>, mass: f32) {
    let heavier = |a: &(usize, f32), b: &(usize, f32)| match b.1.total_cmp(&a.1) {
        Ordering::Equal => a.0.cmp(&b.0),
        order => order,
    };
    let enough = |sorted: &[(usize, f32)]| {
        let mut sum = 0.0;
        sorted.iter().position(|(_, weight)| {
            sum += weight;
            sum >= mass
        })
    };
    if candidates.len() > LIKELY {
        candidates.select_nth_unstable_by(LIKELY, heavier);
        let likely = &mut candidates[..LIKELY];
        likely.sort_unstable_by(heavier);
        if let Some(last) = enough(likely) {
            candidates.truncate(last + 1);
            return;
        }
    }
    candidates.sort_unstable_by(heavier);
    if let Some(last) = enough(candidates) {
        candidates.truncate(last + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampler: &mut Sampler, logits: &[f32]) -> Vec<u32> {
        (0..1000).filter_map(|_| sampler.next(logits)).collect()
    }

    #[test]
    fn zero_temperature_takes_the_likeliest() {
        let mut greedy = Sampler::new(0.0, 1.0, None);
        assert_eq!(greedy.next(&[0.1, 3.0, -2.0, 2.9]), Some(1));
        assert_eq!(greedy.next(&[f32::NAN, 1.0]), None);
        assert_eq!(greedy.next(&[]), None);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.0, 0.75_f32.ln() - 0.25_f32.ln(), f32::NEG_INFINITY];
        let first = draws(&mut Sampler::new(1.0, 1.0, Some(7)), &logits);
        assert_eq!(first, draws(&mut Sampler::new(1.0, 1.0, Some(7)), &logits));
        assert_ne!(first, draws(&mut Sampler::new(1.0, 1.0, Some(8)), &logits));
        let ones = first.iter().filter(|token| **token == 1).count();
        assert!((700..800).contains(&ones), "{ones} of 1000 at 75 %");
        assert!(!first.contains(&2));
    }

    #[test]
    fn the_nucleus_cuts_the_tail_also_when_it_is_wide() {
        let narrow = [2.0, 1.0, 0.0];
        let drawn = draws(&mut Sampler::new(1.0, 0.5, Some(1)), &narrow);
        assert!(drawn.iter().all(|token| *token == 0));
        // A thousand equal tokens and one hopeless one: half the mass is 500 tokens.
        let mut wide = vec![0.0; 1000];
        wide.push(-30.0);
        let drawn = draws(&mut Sampler::new(1.0, 0.5, Some(1)), &wide);
        assert!(drawn.iter().any(|token| *token > 256));
        assert!(drawn.iter().all(|token| *token < 501));
    }
}
