//! How common an English word is in general text, in five grades.
//!
//! The table holds 24-bit hashes of some 21,000 words in four grades of frequency; one word
//! in a thousand that it lacks is taken for one that it has. Deliberately absent: the words.

use super::sink::{BASIS, hash};

static TABLE: &[u8] = include_bytes!("../data/en-ranks.bin");
/// Grades of the table; a word that is in none has this grade.
pub(super) const UNKNOWN: usize = 4;

/// The grade of a word in lower case, 0 the most common.
pub(super) fn grade(word: &str) -> usize {
    let full = hash(BASIS, word);
    let wanted = (full >> 8) ^ (full & 0xff);
    let count = |grade: usize| {
        let bytes = TABLE.get(grade * 4..grade * 4 + 4);
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_le_bytes) as usize
    };
    let mut from = 4 * UNKNOWN;
    for grade in 0..UNKNOWN {
        let size = count(grade);
        let part = TABLE.get(from..from + size * 3).unwrap_or_default();
        if holds(part, wanted) {
            return grade;
        }
        from += size * 3;
    }
    UNKNOWN
}

fn holds(sorted: &[u8], wanted: u32) -> bool {
    let (mut low, mut high) = (0, sorted.len() / 3);
    while low < high {
        let middle = usize::midpoint(low, high);
        let found = match sorted.get(middle * 3..middle * 3 + 3) {
            Some(&[a, b, c]) => u32::from_le_bytes([a, b, c, 0]),
            _ => return false,
        };
        match found.cmp(&wanted) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_words_are_more_common_than_learned_ones() {
        assert_eq!(grade("water"), 0);
        assert!(grade("chlorophyll") > grade("kitchen"));
        assert_eq!(grade("wqxzv"), UNKNOWN);
    }
}
