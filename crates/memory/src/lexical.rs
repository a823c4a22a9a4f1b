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

mod rank;

use std::collections::BTreeMap;

use rust_stemmers::{Algorithm, Stemmer};

pub use rank::{Corpus, Posting, Scores};

/// The version of these rules. A store that keeps terms must rebuild them when it changes.
pub const VERSION: u32 = 1;

/// The most distinct terms of a query that are looked up; the first ones count.
pub const MAX_QUERY_TERMS: usize = 64;

/// The longest term, in characters; the rest of a longer word is cut off.
const MAX_TERM_CHARS: usize = 40;

/// Words that say nothing about a subject.
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
    let end = word.char_indices().nth(MAX_TERM_CHARS);
    let word = end.map_or(word, |(end, _)| &word[..end]);
    let stem = Stemmer::create(Algorithm::English).stem(word);
    Some(stem.into_owned())
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
pub(crate) fn is_unspaced(c: char) -> bool {
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
}
