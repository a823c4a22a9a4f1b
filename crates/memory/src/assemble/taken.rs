//! The words of what a context says already, to leave out what repeats it.
//!
//! Invariant: a word has one number; what holds a word is noted at it, so a text is compared with
//! those alone that share a word with it. Deliberately absent: the order of words.

use std::collections::HashMap;

use crate::lexical;

/// The texts that were taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    numbers: HashMap<String, usize>,
    /// For each word the texts that hold it.
    holders: Vec<Vec<usize>>,
    texts: usize,
}

impl Taken {
    /// The distinct words of a text, as numbers.
    pub(super) fn words(&mut self, text: &str) -> Vec<usize> {
        let mut words = Vec::new();
        lexical::each_term(text, |term| {
            let number = match self.numbers.get(term) {
                Some(&number) => number,
                None => {
                    let number = self.holders.len();
                    self.numbers.insert(term.to_owned(), number);
                    self.holders.push(Vec::new());
                    number
                }
            };
            words.push(number);
        });
        words.sort_unstable();
        words.dedup();
        words
    }

    /// Takes a text in, by its words.
    pub(super) fn keep(&mut self, words: &[usize]) {
        for &word in words {
            self.holders[word].push(self.texts);
        }
        self.texts += 1;
    }

    /// Whether one of the texts says this share of the words.
    pub(super) fn has(&self, words: &[usize], share: f64) -> bool {
        // So short a text says little by its words.
        const TELLING: usize = 4;
        if words.len() < TELLING {
            return false;
        }
        let needed = (words.len() as f64 * share).ceil() as usize;
        let mut shared = vec![0; self.texts];
        for &text in words.iter().flat_map(|&word| &self.holders[word]) {
            shared[text] += 1;
        }
        shared.into_iter().any(|shared| shared >= needed)
    }
}
