//! How much a match is worth: Okapi BM25 over the documents of one scope.
//!
//! Invariant: the best documents and their scores are exact for the postings given. A store may
//! leave out those of words that many documents hold, and says so.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// One document that holds a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// The document, as the store numbers it.
    pub document: i64,
    /// How often the term occurs in it.
    pub count: u32,
    /// The document's length in terms.
    pub length: u32,
}

/// The statistics of one scope's documents, for Okapi BM25 (Robertson and Zaragoza,
/// "The Probabilistic Relevance Framework", 2009) with its customary constants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Corpus {
    /// How many documents there are.
    pub documents: u64,
    /// The sum of their lengths in terms.
    pub total_length: u64,
}

impl Corpus {
    const K1: f64 = 1.2;
    const B: f64 = 0.75;

    /// Scores the documents that hold terms of a query, given the postings of each term.
    ///
    /// Rare terms come first. Once the best `limit` documents are out of reach for one that holds
    /// common terms only, such documents are left out: their scores could not matter, and they are
    /// the many (the idea of Turtle and Flood, "Query evaluation: strategies and optimizations",
    /// 1995). The best `limit` are exact.
    #[must_use]
    pub fn rank(&self, mut terms: Vec<Vec<Posting>>, limit: usize) -> Scores {
        terms.sort_by_key(Vec::len);
        let mut reach: f64 = terms.iter().map(|term| self.most(term.len())).sum();
        let mut scores = Scores::default();
        for postings in &terms {
            let newcomers = scores.nth_best(limit).is_none_or(|nth| reach >= nth);
            self.add(postings, newcomers, &mut scores);
            reach -= self.most(postings.len());
        }
        scores
    }

    /// What a term that `found` documents hold is worth.
    fn rarity(&self, found: usize) -> f64 {
        let found = found as f64;
        let documents = (self.documents as f64).max(found);
        (1.0 + (documents - found + 0.5) / (found + 0.5)).ln()
    }

    /// More than such a term adds to any score.
    fn most(&self, found: usize) -> f64 {
        self.rarity(found) * (Self::K1 + 1.0)
    }

    fn add(&self, postings: &[Posting], newcomers: bool, scores: &mut Scores) {
        let rarity = self.rarity(postings.len());
        let mean_length = (self.total_length as f64 / self.documents.max(1) as f64).max(1.0);
        for posting in postings {
            let count = f64::from(posting.count);
            let norm = 1.0 - Self::B + Self::B * f64::from(posting.length) / mean_length;
            let weight = rarity * count * (Self::K1 + 1.0) / (count + Self::K1 * norm);
            if newcomers {
                *scores.0.entry(posting.document).or_default() += weight;
            } else if let Some(score) = scores.0.get_mut(&posting.document) {
                *score += weight;
            }
        }
    }
}

/// What the documents found so far are worth.
#[derive(Debug, Clone, Default)]
pub struct Scores(HashMap<i64, f64, BuildHasherDefault<NumberHasher>>);

impl Scores {
    /// The score of a document that was found.
    #[must_use]
    pub fn get(&self, document: i64) -> Option<f64> {
        self.0.get(&document).copied()
    }

    /// The score that `n` documents reach; `None` while there are fewer.
    fn nth_best(&self, n: usize) -> Option<f64> {
        let mut all: Vec<f64> = self.0.values().copied().collect();
        if n == 0 || all.len() < n {
            return None;
        }
        let (_, nth, _) = all.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
        Some(*nth)
    }

    /// The best `limit` documents, best first, and up to `ties` more that are as good as the
    /// last of them; later documents first among equals.
    #[must_use]
    pub fn best(&self, limit: usize, ties: usize) -> Vec<(i64, f64)> {
        let mut all: Vec<(i64, f64)> = self.0.iter().map(|(&id, &score)| (id, score)).collect();
        let kept = limit.saturating_add(ties);
        let order = |(a, x): &(i64, f64), (b, y): &(i64, f64)| y.total_cmp(x).then(b.cmp(a));
        if all.len() > kept && kept > 0 {
            all.select_nth_unstable_by(kept - 1, order);
        }
        all.truncate(kept);
        all.sort_unstable_by(order);
        if let Some(&(_, last)) = limit.checked_sub(1).and_then(|at| all.get(at)) {
            let worse = all.partition_point(|(_, score)| *score >= last);
            all.truncate(worse);
        } else {
            all.truncate(limit);
        }
        all
    }
}

/// Spreads a store's document numbers by one multiplication (Fibonacci hashing: Knuth, "The Art of
/// Computer Programming" 3, 6.4). They are the store's own, so nobody can choose colliding ones.
#[derive(Debug, Clone, Copy, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_i64(i64::from(byte));
        }
    }

    fn write_i64(&mut self, number: i64) {
        let mixed = (self.0 ^ number.cast_unsigned()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The table takes its place from the low bits, the product is spread in the high ones.
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(document: i64, count: u32, length: u32) -> Posting {
        Posting {
            document,
            count,
            length,
        }
    }

    #[test]
    fn rare_terms_weigh_more_and_length_counts_against() {
        let corpus = Corpus {
            documents: 100,
            total_length: 1000,
        };
        let score = |postings| corpus.rank(vec![postings], 1).get(1).unwrap();
        let rare = score(vec![posting(1, 1, 10)]);
        let long = score(vec![posting(1, 1, 100)]);
        let common = score((1..=90).map(|n| posting(n, 1, 10)).collect());
        assert!(rare > long && rare > common && long > 0.0 && common > 0.0);
    }

    #[test]
    fn leaving_documents_out_keeps_the_best_exact() {
        let corpus = Corpus {
            documents: 400,
            total_length: 8_000,
        };
        let (mut left_out, mut state) = (0, 1_u32);
        // The generator of "Numerical Recipes", its high bits.
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for _ in 0..300 {
            let mut lengths = [0; 400];
            lengths.fill_with(|| 5 + random(40));
            let terms: Vec<Vec<Posting>> = (0..6)
                .map(|_| {
                    let held = 1 + random(9);
                    let documents = (0..400).zip(lengths);
                    documents
                        .filter_map(|(document, length)| {
                            let holds = random(10) < held && random(3) == 0;
                            holds.then(|| posting(document, 1 + random(4), length))
                        })
                        .collect()
                })
                .collect();
            let all = corpus.rank(terms.clone(), usize::MAX);
            let few = corpus.rank(terms, 3);
            left_out += all.0.len() - few.0.len();
            assert_eq!(few.best(3, 0), all.best(3, 0));
        }
        assert!(left_out > 1000, "only {left_out} were left out");
    }

    #[test]
    fn the_best_come_with_their_ties() {
        let mut scores = Scores::default();
        scores
            .0
            .extend([(1, 1.0), (2, 3.0), (3, 2.0), (4, 2.0), (5, 2.0)]);
        assert_eq!(scores.best(2, 0), [(2, 3.0), (5, 2.0)]);
        assert_eq!(scores.best(2, 1), [(2, 3.0), (5, 2.0), (4, 2.0)]);
        assert_eq!(scores.best(2, 9), [(2, 3.0), (5, 2.0), (4, 2.0), (3, 2.0)]);
        assert_eq!((scores.best(0, 9), scores.best(9, 9).len()), (vec![], 5));
    }
}
