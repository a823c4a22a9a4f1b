//! The stem of a word: Snowball's English stemmer, with a memory of what it said.
//!
//! Invariant: what is remembered is what the stemmer would say. Each thread keeps at most
//! [`SLOTS`] words of a bounded length; a word takes the place of another with the same hash.
//! Deliberately absent: sharing between threads, whose locks would cost what it saves.

use std::cell::RefCell;

use rust_stemmers::{Algorithm, Stemmer};

/// How many words a thread remembers; with their texts some 200 KB. Most words of a conversation
/// are among its few hundred most frequent ones.
const SLOTS: usize = 2048;

/// The longest term, in characters; the rest of a longer word is cut off.
pub(super) const MAX_TERM_CHARS: usize = 40;

/// Words that say nothing about a subject.
const STOP_WORDS: [&str; 73] = [
    "a", "about", "after", "all", "also", "am", "an", "and", "are", "as", "at", "be", "because",
    "been", "but", "by", "can", "could", "did", "do", "does", "for", "from", "had", "has", "have",
    "he", "her", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "me", "my", "of",
    "on", "or", "our", "she", "so", "than", "that", "the", "their", "them", "then", "there",
    "they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "why",
    "will", "with", "would", "you", "your", "yours", "s", "t",
];

/// A word and what it becomes: its stem, or nothing.
#[derive(Debug, Clone, Default)]
struct Slot {
    word: String,
    stem: String,
    is_stop: bool,
}

thread_local! {
    static STEMS: RefCell<Vec<Slot>> = RefCell::new(vec![Slot::default(); SLOTS]);
}

/// Gives the stem of a lower-case word; nothing for one that says nothing. `emit` must not ask for
/// a stem itself.
pub(super) fn stem(word: &str, emit: impl FnOnce(&str)) {
    let end = word.char_indices().nth(MAX_TERM_CHARS);
    let word = end.map_or(word, |(end, _)| &word[..end]);
    STEMS.with_borrow_mut(|stems| {
        let slot = &mut stems[place(word)];
        if slot.word != word {
            slot.word.clear();
            slot.word.push_str(word);
            slot.is_stop = STOP_WORDS.contains(&word);
            slot.stem.clear();
            if !slot.is_stop {
                let stem = Stemmer::create(Algorithm::English).stem(word);
                slot.stem.push_str(&stem);
            }
        }
        if !slot.is_stop {
            emit(&slot.stem);
        }
    });
}

/// The slot of a word, by FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>).
fn place(word: &str) -> usize {
    let hash = word.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    (hash ^ (hash >> 32)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem_of(word: &str) -> Option<String> {
        let mut found = None;
        stem(word, |stem| found = Some(stem.to_owned()));
        found
    }

    #[test]
    fn what_is_remembered_is_what_the_stemmer_says() {
        let stemmer = Stemmer::create(Algorithm::English);
        // Twice as many words as there are slots, so that many take the place of others.
        let words = (0..2 * SLOTS).map(|n| format!("w{n}ing"));
        for word in words.clone().chain(words.rev()) {
            for _ in 0..2 {
                let wanted = stemmer.stem(&word).into_owned();
                assert_eq!(stem_of(&word), Some(wanted));
            }
        }
        for _ in 0..2 {
            assert_eq!(stem_of("the"), None);
        }
    }
}
