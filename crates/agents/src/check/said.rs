//! What the learner said, as words to compare a question with.

use std::collections::BTreeSet;

use super::Heard;
use crate::offline::{Kind, Token, bases};

/// The fewest letters that two forms of an English word have to begin with.
const STEM: usize = 5;

/// The learner's words.
#[derive(Debug)]
pub(super) struct Said {
    /// All of them, in lower case.
    all: String,
    bases: BTreeSet<String>,
    /// Base forms of the explanation alone.
    explained: BTreeSet<String>,
    explanation: String,
    topic: BTreeSet<String>,
}

impl Said {
    pub(super) fn of(heard: &Heard<'_>) -> Self {
        let mut all = format!("{}\n{}", heard.topic, heard.explanation);
        for text in heard.earlier {
            all.push('\n');
            all.push_str(text);
        }
        let content = |text: &str| -> BTreeSet<String> {
            let words = bases(text).filter(|(_, kind)| *kind != Kind::Grammar);
            words.map(|(base, _)| base).collect()
        };
        Self {
            bases: bases(&all).map(|(base, _)| base).collect(),
            all: all.to_lowercase(),
            explained: content(heard.explanation),
            explanation: heard.explanation.to_lowercase(),
            topic: content(heard.topic),
        }
    }

    /// Whether the learner used the word, in any form.
    pub(super) fn has(&self, word: &Token) -> bool {
        self.bases.contains(&word.base)
            || is_in(&self.all, &word.text)
            || self.bases.iter().any(|base| is_form(base, &word.base))
    }

    /// Whether the word ties a question to the explanation. A word of the topic does so only
    /// where the explanation has none besides.
    pub(super) fn explains(&self, word: &Token) -> bool {
        let told = self.explained.contains(&word.base)
            || is_in(&self.explanation, &word.text)
            || self.explained.iter().any(|base| is_form(base, &word.base));
        told && (!self.topic.contains(&word.base) || self.explained.is_subset(&self.topic))
    }

    /// Whether the explanation has no word of content.
    pub(super) fn is_wordless(&self) -> bool {
        self.explained.is_empty()
    }
}

/// Chinese is written without spaces and cut differently in different sentences.
fn is_in(text: &str, word: &str) -> bool {
    !word.is_ascii() && text.contains(word)
}

/// Whether two English words are forms of one, such as "photosynthesis" and
/// "photosynthetic".
fn is_form(a: &str, b: &str) -> bool {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    a.is_ascii() && b.is_ascii() && same >= STEM && same * 3 >= a.len().max(b.len()) * 2
}
