//! One ranking from two: by words and by meaning.
//!
//! Both arms are brought to `0..=1` and added ("min-max sum": Lee, "Analyses of multiple
//! evidence combination", SIGIR 1997), because a weak second arm then weighs what it found and
//! not merely its order; reciprocal ranks would let it push good hits of the first one out.
//! Importance and recency add small capped bonuses, which settle near ties.
//!
//! Pure and deterministic. Deliberately absent: reading stores.

use std::{collections::HashMap, time::Duration};

use crate::{MemoryId, Near, Recollection, Timestamp};

/// How the two arms and the bonuses weigh.
#[derive(Debug, Clone)]
pub struct Fusion {
    /// What the best hit by meaning is worth beside the best hit by words. Default 0.6.
    pub dense_weight: f64,
    /// The most that importance adds. Default 0.05, a twentieth of the best hit by words.
    pub importance_bonus: f64,
    /// The most that recency adds. Default 0.02.
    pub recency_bonus: f64,
    /// After this time half of the recency is left. Default 30 days.
    pub recency_half_life: Duration,
    /// How many candidates each arm gives, at least as many as are wanted. Default 100.
    pub candidates: usize,
}

impl Default for Fusion {
    fn default() -> Self {
        Self {
            dense_weight: 0.6,
            importance_bonus: 0.05,
            recency_bonus: 0.02,
            recency_half_life: Duration::from_secs(30 * 24 * 3600),
            candidates: 100,
        }
    }
}

impl Fusion {
    /// Ranks what both arms found; see [`Recollection::by_rank`] for the order of equals.
    ///
    /// A memory without a vector has its words alone, so what was stored a moment ago is found
    /// before it has one.
    #[must_use]
    pub fn fuse(
        &self,
        words: &[Recollection],
        meaning: &[Near],
        now: Timestamp,
    ) -> Vec<Recollection> {
        let best = words.iter().map(|hit| hit.score).fold(0.0, f64::max);
        let similarities = || meaning.iter().map(|near| f64::from(near.similarity));
        let (least, most) = (
            similarities().fold(f64::INFINITY, f64::min),
            similarities().fold(f64::NEG_INFINITY, f64::max),
        );
        let mut found: Vec<Recollection> = words.to_vec();
        for hit in &mut found {
            hit.score = share(hit.score, 0.0, best) + self.recency(hit.created_at, now);
        }
        let places: HashMap<MemoryId, usize> = (0..)
            .zip(words)
            .map(|(place, hit)| (hit.id.clone(), place))
            .collect();
        for near in meaning {
            let score = self.dense_weight * share(f64::from(near.similarity), least, most)
                + self.importance_bonus * f64::from(near.importance.clamp(0.0, 1.0));
            match places.get(&near.id).and_then(|&place| found.get_mut(place)) {
                Some(hit) => hit.score += score,
                None => found.push(Recollection {
                    id: near.id.clone(),
                    topic: near.topic.clone(),
                    text: near.text.clone(),
                    score: score + self.recency(near.created_at, now),
                    created_at: near.created_at,
                }),
            }
        }
        found.sort_by(Recollection::by_rank);
        found
    }

    fn recency(&self, created_at: Timestamp, now: Timestamp) -> f64 {
        let half_life = self.recency_half_life.as_secs_f64();
        if half_life <= 0.0 {
            return 0.0;
        }
        let age = now.since(created_at).as_secs_f64();
        self.recency_bonus * 0.5_f64.powf(age / half_life)
    }
}

fn share(value: f64, least: f64, most: f64) -> f64 {
    match most > least {
        true => (value - least) / (most - least),
        // One hit alone is as good as any.
        false => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, score: f64) -> Recollection {
        Recollection {
            id: MemoryId::new(name).unwrap(),
            topic: String::new(),
            text: String::new(),
            score,
            created_at: Timestamp(0),
        }
    }

    fn near(name: &str, similarity: f32, importance: f32) -> Near {
        Near {
            id: MemoryId::new(name).unwrap(),
            topic: String::new(),
            text: String::new(),
            importance,
            created_at: Timestamp(0),
            similarity,
        }
    }

    fn order(words: &[Recollection], meaning: &[Near]) -> Vec<String> {
        let found = Fusion::default().fuse(words, meaning, Timestamp(1_000_000_000));
        found.into_iter().map(|hit| hit.id.to_string()).collect()
    }

    #[test]
    fn what_both_arms_find_comes_first() {
        let words = [words("a", 9.0), words("b", 6.0)];
        let meaning = [
            near("c", 0.8, 0.5),
            near("b", 0.7, 0.5),
            near("a", 0.1, 0.5),
        ];
        assert_eq!(order(&words, &meaning), ["b", "a", "c"]);
    }

    #[test]
    fn one_arm_alone_keeps_its_order() {
        let words = [words("a", 9.0), words("b", 6.0), words("c", 6.0)];
        assert_eq!(order(&words, &[]), ["a", "b", "c"]);
        assert_eq!(
            order(&[], &[near("x", 0.9, 0.5), near("y", 0.2, 0.5)]),
            ["x", "y"]
        );
        assert!(order(&[], &[]).is_empty());
    }

    #[test]
    fn importance_settles_near_ties_only() {
        let ties = [
            near("a", 0.90, 0.1),
            near("b", 0.89, 0.9),
            near("z", 0.0, 1.0),
        ];
        assert_eq!(order(&[], &ties), ["b", "a", "z"]);
    }
}
