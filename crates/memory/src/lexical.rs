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
mod stem;

use std::collections::BTreeMap;

pub use rank::{Corpus, Posting, Scores};
use stem::stem;

/// The version of these rules. A store that keeps terms must rebuild them when it changes.
pub const VERSION: u32 = 1;

/// The most distinct terms of a query that are looked up; the first ones count.
pub const MAX_QUERY_TERMS: usize = 64;

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
            each_term(text, |term| {
                match document.terms.get_mut(term) {
                    Some(count) => *count += 1,
                    None => drop(document.terms.insert(term.to_owned(), 1)),
                }
                document.length = document.length.saturating_add(1);
            });
        }
        document
    }
}

/// Gives every term of a stored text, in order.
pub(crate) fn each_term(text: &str, mut emit: impl FnMut(&str)) {
    let mut term = String::new();
    each_piece(text, |piece| match piece {
        Piece::Word(word) => stem(word, &mut emit),
        Piece::Run(run) => {
            let (single, pairs) = (run.chunks(1), run.windows(2));
            single.chain(pairs).for_each(|characters| {
                term.clear();
                term.extend(characters);
                emit(&term);
            });
        }
    });
}

/// The distinct terms of a query, in order, at most [`MAX_QUERY_TERMS`].
#[must_use]
pub fn query_terms(query: &str) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    each_piece(query, |piece| {
        let mut add = |term: &str| {
            if terms.len() < MAX_QUERY_TERMS && !terms.iter().any(|known| known == term) {
                terms.push(term.to_owned());
            }
        };
        match piece {
            Piece::Word(word) => stem(word, add),
            Piece::Run([alone]) => add(alone.encode_utf8(&mut [0; 4])),
            Piece::Run(run) => run
                .windows(2)
                .for_each(|pair| add(&pair.iter().collect::<String>())),
        }
    });
    terms
}

enum Piece<'p> {
    Word(&'p str),
    Run(&'p [char]),
}

/// Cuts a text into words and runs of characters that are written without spaces, neither empty.
fn each_piece(text: &str, mut emit: impl FnMut(Piece<'_>)) {
    let (mut word, mut run) = (String::new(), Vec::new());
    let mut take = |c: char| {
        if !run.is_empty() {
            // A mark inside a run belongs to it.
            if is_unspaced(c) {
                run.push(c);
                return;
            }
            emit(Piece::Run(&run));
            run.clear();
        }
        let is_letter = c.is_alphanumeric();
        if is_letter && !is_unspaced(c) {
            word.push(c);
            return;
        }
        if !word.is_empty() {
            emit(Piece::Word(&word));
            word.clear();
        }
        if is_letter {
            run.push(c);
        }
    };
    for c in text.chars() {
        match c.is_ascii() {
            true => take(c.to_ascii_lowercase()),
            false => fold(c).for_each(&mut take),
        }
    }
    // Ends the last piece.
    take(' ');
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
        assert_eq!(
            query_terms(&"x".repeat(1000))[0].len(),
            stem::MAX_TERM_CHARS
        );
    }
}
