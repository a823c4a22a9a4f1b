//! Cuts a text into the units that are judged, and reads of each what general language tells.
//!
//! A unit is a sentence, or a run of clauses of a long one. Invariant: units lie within
//! their sentence and do not overlap. Deliberately absent: any weighing.

use std::{collections::HashSet, ops::Range};

use super::super::{
    contradiction::{negates, opposite},
    markers::{self, Phrases},
    text::{Class, Document, Language, Sentence, Word, has_any},
};

/// The longest unit, in characters, that is not cut at a comma.
const LONGEST_ENGLISH: usize = 170;
const LONGEST_CHINESE: usize = 60;

/// The lists of phrases whose presence in a unit is read; the order is part of the model.
pub(super) static LISTS: [(&str, &Phrases); 25] = [
    ("reason", &markers::REASON),
    ("means", &markers::MEANS),
    ("elaborates", &markers::ELABORATES),
    ("example", &markers::EXAMPLE),
    ("limit", &markers::LIMIT),
    ("contrast", &markers::CONTRAST),
    ("concludes", &markers::CONCLUDES),
    ("skips", &markers::SKIPS),
    ("causes", &markers::CAUSES),
    ("causes_strongly", &markers::CAUSES_STRONGLY),
    ("vague", &markers::VAGUE),
    ("degree", &markers::DEGREE),
    ("absolute", &markers::ABSOLUTE),
    ("absolute_strongly", &markers::ABSOLUTE_STRONGLY),
    ("hedged", &markers::HEDGED),
    ("hearsay", &markers::HEARSAY),
    ("ranks", &markers::RANKS),
    ("analogy", &markers::ANALOGY),
    ("monotone", &markers::MONOTONE),
    ("sequences", &markers::SEQUENCES),
    ("half_examples", &markers::HALF_EXAMPLES),
    ("assertions", &markers::ASSERTIONS),
    ("figures", &markers::FIGURES),
    ("turns", &markers::TURNS),
    ("half_reasons", &markers::HALF_REASONS),
];

/// One unit.
#[derive(Debug)]
pub(super) struct Unit<'d> {
    /// Where it stands in the text.
    pub range: Range<usize>,
    /// The sentence it belongs to.
    pub sentence: usize,
    pub language: Language,
    pub is_question: bool,
    /// In ASCII lower case.
    pub lower: &'d str,
    pub words: &'d [Word],
    /// A bit for each of [`LISTS`] that it holds a phrase of.
    pub lists: u32,
    /// The base forms of its content words.
    pub content: HashSet<&'d str>,
    /// Its numbers, with the word after each.
    pub numbers: Vec<(&'d str, &'d str)>,
    /// How often it denies.
    pub denials: usize,
    /// Opposites of general language it uses: the pair, and whether it is the lesser side.
    pub opposites: Vec<(usize, bool)>,
}

impl Unit<'_> {
    pub(super) fn has(&self, list: usize) -> bool {
        self.lists & (1 << list) != 0
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        let list = LISTS.iter().position(|(other, _)| *other == name);
        list.is_some_and(|list| self.has(list))
    }
}

/// Cuts a text.
pub(super) fn units<'d>(document: &'d Document<'_>) -> Vec<Unit<'d>> {
    let mut found = Vec::new();
    for (index, sentence) in document.sentences.iter().enumerate() {
        for range in pieces(sentence) {
            found.push(unit(sentence, index, range));
        }
    }
    found
}

fn unit<'d>(sentence: &'d Sentence<'_>, index: usize, range: Range<usize>) -> Unit<'d> {
    let lower = sentence
        .lower
        .get(range.start - sentence.start..range.end - sentence.start)
        .unwrap_or_default();
    let words = &sentence.words;
    let from = words.partition_point(|word| word.range.start < range.start);
    let to = words.partition_point(|word| word.range.start < range.end);
    let words = &words[from..to.max(from)];
    let mut unit = Unit {
        range,
        sentence: index,
        language: sentence.language,
        is_question: sentence.is_question,
        lower,
        words,
        lists: 0,
        content: HashSet::new(),
        numbers: Vec::new(),
        denials: 0,
        opposites: Vec::new(),
    };
    for (list, (_, phrases)) in LISTS.iter().enumerate() {
        unit.lists |= u32::from(has_any(lower, phrases)) << list;
    }
    for (at, word) in words.iter().enumerate() {
        let base = word.base.as_str();
        if negates(sentence.language, base, lower) {
            unit.denials += 1;
        } else if let Some(side) = opposite(base) {
            unit.opposites.push(side);
        }
        match word.class {
            Class::Number => {
                let next = words.get(at + 1).map_or("", |next| next.base.as_str());
                unit.numbers.push((base, next));
            }
            Class::Common | Class::Rare => drop(unit.content.insert(base)),
            Class::Function => {}
        }
    }
    unit
}

/// The sentence without its closing marks, cut at the commas nearest to equal parts when it
/// is long.
fn pieces(sentence: &Sentence<'_>) -> Vec<Range<usize>> {
    let body = sentence.body();
    let text = &sentence.text[body.start - sentence.start..body.end - sentence.start];
    let longest = match sentence.language {
        Language::English => LONGEST_ENGLISH,
        Language::Chinese => LONGEST_CHINESE,
    };
    let count = text.chars().count().div_ceil(longest);
    if count <= 1 {
        return vec![body];
    }
    let mut commas = Vec::new();
    for (at, mark) in text.char_indices() {
        let end = at + mark.len_utf8();
        let digit = text[end..].starts_with(|c: char| c.is_ascii_digit());
        if ",，;；:：—".contains(mark) && !(mark == ',' && digit) {
            commas.push((at, end));
        }
    }
    let mut ranges = Vec::new();
    let mut from = 0;
    for part in 1..count {
        let ideal = text.len() * part / count;
        let nearest = commas
            .iter()
            .filter(|(at, _)| *at > from + text.len() / count / 3)
            .filter(|(_, end)| *end + text.len() / count / 3 < text.len())
            .min_by_key(|(at, _)| at.abs_diff(ideal));
        if let Some(&(at, end)) = nearest {
            ranges.push(from..at);
            from = end;
        }
    }
    ranges.push(from..text.len());
    ranges
        .into_iter()
        .map(|range| {
            let piece = &text[range.clone()];
            let lead = piece.len() - piece.trim_start().len();
            let start = body.start + range.start + lead;
            start..start + piece.trim().len()
        })
        .filter(|range| !range.is_empty())
        .collect()
}
