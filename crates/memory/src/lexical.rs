//! Finding by words: how a text becomes terms, and how a match is weighed.
//!
//! All stores use this module instead of their engine's own text search, so that the same
//! memories give the same ranking everywhere, Chinese included, and so that the statistics
//! are those of one scope: an engine's index counts words over all tenants, which costs time
//! in proportion to the whole file and lets one tenant's words move another's ranking.
//!
//! - Letters are lower-cased; full-width forms become plain ones.
//! - Words of other scripts are stemmed by Snowball's English stemmer; English function words
//!   are left out.
//! - Runs of Han, Kana or Hangul give every character and every pair of neighbours. A query
//!   uses the pairs, and the character only where it stands alone: most Chinese words have two
//!   characters, and pairs need no dictionary.
//!
//! Deliberately absent: synonyms, spelling, traditional/simplified folding.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use rust_stemmers::{Algorithm, Stemmer};

/// The version of these rules. A store that keeps terms must rebuild them when it changes.
pub const VERSION: u32 = 1;

/// The most distinct terms of a query that are looked up; the first ones count.
pub const MAX_QUERY_TERMS: usize = 64;

/// The longest term, in characters; the rest of a longer word is cut off.
const MAX_TERM_CHARS: usize = 40;

/// Words that say nothing about a subject. Sorted.
const STOP_WORDS: [&str; 73] = [
    "a", "about", "after", "all", "also", "am", "an", "and", "are", "as", "at", "be", "because",
    "been", "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have",
    "he", "her", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "me", "my", "of",
    "on", "or", "our", "she", "so", "than", "that", "the", "their", "them", "then", "there",
    "they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "why",
    "will", "with", "would", "you", "your", "yours", "s", "t",
];

/// The terms of a stored text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Each term and how often it occurs.
    pub terms: BTreeMap<String, u32>,
    /// The number of all terms.
    pub length: u32,
}

impl Document {
    /// Reads the texts of a memory, e.g. its topic and its body.
    #[must_use]
    pub fn new(texts: &[&str]) -> Self {
        let mut document = Self::default();
        for text in texts {
            for piece in pieces(text) {
                piece.each_stored(|term| {
                    *document.terms.entry(term).or_default() += 1;
                    document.length = document.length.saturating_add(1);
                });
            }
        }
        document
    }
}

/// The distinct terms of a query, in order, at most [`MAX_QUERY_TERMS`].
#[must_use]
pub fn query_terms(query: &str) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    for piece in pieces(query) {
        piece.each_asked(|term| {
            if terms.len() < MAX_QUERY_TERMS && !terms.contains(&term) {
                terms.push(term);
            }
        });
        if terms.len() == MAX_QUERY_TERMS {
            break;
        }
    }
    terms
}

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
pub struct NumberHasher(u64);

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

enum Piece {
    Word(String),
    Run(Vec<char>),
}

impl Piece {
    fn each_stored(self, mut emit: impl FnMut(String)) {
        match self {
            Self::Word(word) => stem(&word).into_iter().for_each(emit),
            Self::Run(run) => {
                run.iter().for_each(|c| emit(c.to_string()));
                run.windows(2).for_each(|pair| emit(pair.iter().collect()));
            }
        }
    }

    fn each_asked(self, mut emit: impl FnMut(String)) {
        match self {
            Self::Word(word) => stem(&word).into_iter().for_each(emit),
            Self::Run(run) if run.len() == 1 => emit(run[0].to_string()),
            Self::Run(run) => run.windows(2).for_each(|pair| emit(pair.iter().collect())),
        }
    }
}

fn stem(word: &str) -> Option<String> {
    if STOP_WORDS.contains(&word) {
        return None;
    }
    Some(
        Stemmer::create(Algorithm::English)
            .stem(word)
            .chars()
            .take(MAX_TERM_CHARS)
            .collect(),
    )
}

/// Cuts a text into words and runs of characters that are written without spaces.
fn pieces(text: &str) -> impl Iterator<Item = Piece> + '_ {
    let mut characters = text.chars().flat_map(fold).peekable();
    std::iter::from_fn(move || {
        while characters.next_if(|&c| !c.is_alphanumeric()).is_some() {}
        let &first = characters.peek()?;
        if is_unspaced(first) {
            let mut run = Vec::new();
            while let Some(c) = characters.next_if(|&c| is_unspaced(c)) {
                run.push(c);
            }
            return Some(Piece::Run(run));
        }
        let mut word = String::new();
        while let Some(c) = characters.next_if(|&c| c.is_alphanumeric() && !is_unspaced(c)) {
            word.push(c);
        }
        Some(Piece::Word(word))
    })
}

/// Lower-cases, and turns full-width ASCII forms (U+FF01 to U+FF5E) into plain ones.
fn fold(c: char) -> std::char::ToLowercase {
    let plain = match u32::from(c) {
        wide @ 0xFF01..=0xFF5E => char::from_u32(wide - 0xFEE0).unwrap_or(c),
        _ => c,
    };
    plain.to_lowercase()
}

/// Han, Hiragana, Katakana and Hangul syllables.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x3005..=0x3007 | 0x3041..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0x20000..=0x323AF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str) -> Vec<String> {
        Document::new(&[text]).terms.into_keys().collect()
    }

    #[test]
    fn english_is_stemmed_and_freed_of_function_words() {
        assert_eq!(query_terms("The plants were GROWING"), ["plant", "grow"]);
        assert_eq!(stored("a growing plant"), ["grow", "plant"]);
    }

    #[test]
    fn chinese_matches_by_pairs_and_single_characters() {
        assert_eq!(query_terms("光合作用"), ["光合", "合作", "作用"]);
        assert_eq!(query_terms("光"), ["光"]);
        assert_eq!(stored("光合"), ["光", "光合", "合"]);
    }

    #[test]
    fn scripts_mix_and_width_does_not_matter() {
        assert_eq!(query_terms("用Ｒｕｓｔ写"), ["用", "rust", "写"]);
    }

    #[test]
    fn a_query_is_bounded() {
        let long: String = (0..1000).map(|n| format!("w{n} ")).collect();
        assert_eq!(query_terms(&long).len(), MAX_QUERY_TERMS);
        assert_eq!(query_terms(&"x".repeat(1000))[0].len(), MAX_TERM_CHARS);
    }

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
        // Document d holds term t where t + 1 divides d: from everywhere to rare.
        let terms: Vec<Vec<Posting>> = (0..40)
            .map(|t| (1..=4000).step_by(t + 1))
            .map(|held| {
                held.map(|d| posting(d, 1 + (d % 3) as u32, 5 + (d % 7) as u32))
                    .collect()
            })
            .collect();
        let corpus = Corpus {
            documents: 4000,
            total_length: 32_000,
        };
        let all = corpus.rank(terms.clone(), usize::MAX);
        let few = corpus.rank(terms, 5);
        assert_eq!(all.0.len(), 4000);
        assert!(few.0.len() < 4000, "some are left out");
        assert_eq!(few.best(5, 0), all.best(5, 0));
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
