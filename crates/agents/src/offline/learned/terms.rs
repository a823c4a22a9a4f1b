//! Phrases that may need a definition, with what is known of each.
//!
//! Wider than the rules' own terms: every noun beyond the most everyday ones is weighed.
//! Invariant: one entry a phrase, where it first stands.

use std::{collections::HashMap, ops::Range};

use super::{
    super::{
        english::{ADJECTIVE, NOUN, VERB},
        gloss::{Gloss, glosses},
        terms::{self, Candidate},
        text::{Class, Document, Language, Sentence, Word},
    },
    features::overlap,
    lexical, ranks,
    units::Unit,
};

/// The most phrases weighed of one text.
const MOST: usize = 3_000;
/// A Chinese word more frequent than this in general text is no term alone.
const PLAIN_CHINESE: usize = 9_000;
/// The most uses of a phrase whose surroundings are read.
const USES: usize = 12;

/// A phrase.
#[derive(Debug, Clone)]
pub(super) struct Term {
    /// Base forms of its words, joined, in lower case.
    pub key: String,
    pub range: Range<usize>,
    pub unit: usize,
    /// How technical the rules take it to be, 0 where they do not see it.
    pub score: f32,
    pub gloss: Gloss,
    pub uses: usize,
    pub words: usize,
    pub rare: usize,
    pub letters: usize,
    pub in_topic: bool,
    pub part_of_topic: bool,
    pub opens: bool,
    pub closes: bool,
    pub quoted: bool,
    pub capital: bool,
    pub acronym: bool,
    pub genus: bool,
    pub pictured: bool,
    pub from_rules: bool,
    pub again_later: bool,
    pub next_opens_with_it: bool,
    /// Grades of its rarest and its most common word.
    pub rarest: usize,
    pub commonest: usize,
    /// Logarithm of how often its rarest Chinese word is met; 0 for English.
    pub frequency: f32,
    pub speech: String,
    pub endings: Vec<String>,
    pub beginnings: Vec<String>,
    /// Where it stands: a side and the word there.
    pub around: Vec<(&'static str, String)>,
    /// Other phrases of its unit that are weighed.
    pub rivals: usize,
}

/// All phrases of a text that may be terms.
pub(super) fn find(
    document: &Document<'_>,
    units: &[Unit<'_>],
    topic: &str,
    topic_words: &[Word],
) -> Vec<Term> {
    let mut all: Vec<(Candidate, bool)> = terms::candidates(document)
        .into_iter()
        .take(MOST)
        .map(|candidate| (candidate, true))
        .collect();
    let known: std::collections::HashSet<(usize, usize)> = all
        .iter()
        .map(|(candidate, _)| (candidate.range.start, candidate.range.end))
        .collect();
    for (index, sentence) in document.sentences.iter().enumerate() {
        if all.len() > 2 * MOST {
            break;
        }
        let extra = match sentence.language {
            Language::English => english(sentence, index),
            Language::Chinese => chinese(sentence, index),
        };
        all.extend(
            extra
                .into_iter()
                .filter(|candidate| !known.contains(&(candidate.range.start, candidate.range.end)))
                .map(|candidate| (candidate, false)),
        );
    }
    let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, (candidate, _)) in all.iter().enumerate() {
        groups
            .entry(candidate.key.to_lowercase())
            .or_default()
            .push(at);
    }
    let mut firsts: Vec<(&String, &Vec<usize>)> = groups.iter().collect();
    firsts.sort_by_key(|(key, group)| {
        let start = group.iter().map(|at| all[*at].0.range.start).min();
        (start, key.len(), *key)
    });
    let topic_lower = topic.to_lowercase();
    let bases: Vec<String> = topic_words.iter().map(|word| word.base.clone()).collect();
    let mut found: Vec<Term> = firsts
        .into_iter()
        .filter_map(|(key, group)| {
            let mut group: Vec<&(Candidate, bool)> = group.iter().map(|at| &all[*at]).collect();
            group.sort_by_key(|(candidate, _)| candidate.range.start);
            term(document, units, key, &group, (&topic_lower, &bases))
        })
        .collect();
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for term in &found {
        *counts.entry(term.unit).or_default() += 1;
    }
    for term in &mut found {
        term.rivals = counts.get(&term.unit).copied().unwrap_or(1) - 1;
    }
    found
}

fn term(
    document: &Document<'_>,
    units: &[Unit<'_>],
    key: &str,
    group: &[&(Candidate, bool)],
    (topic, bases): (&str, &[String]),
) -> Option<Term> {
    let (first, _) = group.first()?;
    let sentence = &document.sentences[first.sentence];
    let unit = units.partition_point(|unit| unit.range.end <= first.range.start);
    units
        .get(unit)
        .filter(|unit| overlap(&unit.range, &first.range))?;
    let words = &sentence.words[first.words.clone()];
    let grades: Vec<usize> = words.iter().map(grade).collect();
    let text = document.quote(&first.range);
    let letters = text.chars().count();
    let uppers = text.chars().filter(|c| c.is_uppercase()).count();
    let last_word = words.last()?;
    let last = document.quote(&last_word.range).to_lowercase();
    let head: Vec<char> = last.chars().collect();
    let tail =
        |count: usize| -> String { head[head.len().saturating_sub(count)..].iter().collect() };
    let front =
        |count: usize| -> String { text.chars().take(count).collect::<String>().to_lowercase() };
    let (ends, begins) = match sentence.language {
        Language::English => ([2, 3, 4], [3, 4]),
        Language::Chinese => ([1, 2, 2], [1, 2]),
    };
    let last_use = group
        .last()
        .map_or(first.sentence, |(candidate, _)| candidate.sentence);
    let next = document.sentences.get(first.sentence + 1);
    Some(Term {
        key: key.to_owned(),
        range: first.range.clone(),
        unit,
        score: group
            .iter()
            .map(|(candidate, _)| candidate.score)
            .fold(0.0, f32::max),
        gloss: group
            .iter()
            .take(USES)
            .map(|(candidate, _)| glosses(document, candidate))
            .max()
            .unwrap_or(Gloss::None),
        uses: group.len(),
        words: words.len(),
        rare: words
            .iter()
            .filter(|word| word.class == Class::Rare)
            .count(),
        letters,
        in_topic: terms::is_topic(key, topic, bases),
        part_of_topic: words.iter().any(|word| bases.contains(&word.base)),
        opens: units[unit].range.start + 4 >= first.range.start,
        closes: first.range.end >= units[unit].range.end,
        quoted: terms::is_quoted(sentence, &first.range),
        capital: uppers > 0 && first.words.start > 0,
        acronym: uppers >= 2,
        genus: group
            .iter()
            .take(USES)
            .any(|(candidate, _)| terms::is_genus(document, candidate)),
        pictured: group
            .iter()
            .take(USES)
            .all(|(candidate, _)| terms::is_pictured(document, candidate)),
        from_rules: group.iter().any(|(_, rules)| *rules),
        again_later: last_use > first.sentence,
        next_opens_with_it: next.is_some_and(|next| {
            let opening = super::super::text::head(&next.lower, text.len() + 12);
            opening.contains(&text.to_ascii_lowercase())
        }),
        rarest: grades.iter().copied().max().unwrap_or(ranks::UNKNOWN),
        commonest: grades.iter().copied().min().unwrap_or(ranks::UNKNOWN),
        frequency: words
            .iter()
            .filter(|word| word.frequency > 0)
            .map(|word| (word.frequency as f32).ln())
            .reduce(f32::min)
            .unwrap_or_default(),
        speech: words.iter().map(speech).collect(),
        endings: ends.iter().map(|count| tail(*count)).collect(),
        beginnings: begins.iter().map(|count| front(*count)).collect(),
        around: around(sentence, &first.words),
        rivals: 0,
    })
}

fn grade(word: &Word) -> usize {
    match word.class {
        Class::Function | Class::Number => 0,
        _ if word.frequency > 0 => match word.frequency {
            4_000.. => 0,
            1_000.. => 1,
            200.. => 2,
            20.. => 3,
            _ => ranks::UNKNOWN,
        },
        _ => ranks::grade(&word.base),
    }
}

fn speech(word: &Word) -> char {
    match word.class {
        Class::Number => 'n',
        Class::Function => 'f',
        Class::Rare => 'R',
        Class::Common if word.may_be(NOUN) && word.may_be(VERB) => 'B',
        Class::Common if word.may_be(NOUN) => 'N',
        Class::Common if word.may_be(ADJECTIVE) => 'A',
        Class::Common if word.may_be(VERB) => 'V',
        Class::Common => 'o',
    }
}

/// The words on both sides.
fn around(sentence: &Sentence<'_>, words: &Range<usize>) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut add = |side: &'static str, at: Option<usize>| {
        let word = match at.and_then(|at| sentence.words.get(at)) {
            Some(word) => lexical::shape(word, terms::surface(sentence, word)).to_owned(),
            None => "#edge".to_owned(),
        };
        found.push((side, word));
    };
    add("-1", words.start.checked_sub(1));
    add("-2", words.start.checked_sub(2));
    add("+1", Some(words.end));
    add("+2", Some(words.end + 1));
    let mark = |text: &str, last: bool| {
        let mut marks = text.chars().filter(|c| !c.is_whitespace());
        let mark = if last {
            marks.next_back()
        } else {
            marks.next()
        };
        mark.filter(|c| !c.is_alphanumeric()).map(|c| c.to_string())
    };
    let at = |word: usize| sentence.words.get(word);
    if let (Some(first), Some(last)) = (at(words.start), at(words.end.saturating_sub(1))) {
        let before = &sentence.text[..first.range.start - sentence.start];
        let after = &sentence.text[last.range.end - sentence.start..];
        found.extend(mark(before, true).map(|mark| ("m-", mark)));
        found.extend(mark(after, false).map(|mark| ("m+", mark)));
    }
    found
}

fn candidate(sentence: &Sentence<'_>, index: usize, words: Range<usize>) -> Candidate {
    let bases: Vec<&str> = sentence.words[words.clone()]
        .iter()
        .map(|word| word.base.as_str())
        .collect();
    let separator = match sentence.language {
        Language::English => " ",
        Language::Chinese => "",
    };
    Candidate {
        key: bases.join(separator),
        range: sentence.words[words.start].range.start..sentence.words[words.end - 1].range.end,
        sentence: index,
        words,
        score: 0.0,
    }
}

fn english(sentence: &Sentence<'_>, index: usize) -> Vec<Candidate> {
    let words = &sentence.words;
    let nominal = |at: usize| {
        let word = &words[at];
        match word.class {
            Class::Rare => terms::surface(sentence, word).len() > 1,
            Class::Common => word.may_be(NOUN),
            _ => false,
        }
    };
    let mut found = Vec::new();
    for at in 0..words.len() {
        if !nominal(at) {
            continue;
        }
        if words[at].class == Class::Rare || ranks::grade(&words[at].base) >= 1 {
            found.push(candidate(sentence, index, at..at + 1));
        }
        let Some(before) = at.checked_sub(1) else {
            continue;
        };
        let leads = words[before].is_content()
            && (words[before].may_be(NOUN | ADJECTIVE) || words[before].class == Class::Rare);
        if leads && terms::adjoin(sentence, &words[before], &words[at]) {
            found.push(candidate(sentence, index, before..at + 1));
        }
    }
    found
}

fn chinese(sentence: &Sentence<'_>, index: usize) -> Vec<Candidate> {
    let words = &sentence.words;
    let letters = |at: usize| terms::surface(sentence, &words[at]).chars().count();
    let nominal = |at: usize| words[at].is_content() && (words[at].may_be(NOUN | VERB | ADJECTIVE));
    let mut found = Vec::new();
    for at in 0..words.len() {
        if !nominal(at) {
            continue;
        }
        if letters(at) >= 2 && words[at].frequency < PLAIN_CHINESE {
            found.push(candidate(sentence, index, at..at + 1));
        }
        let Some(before) = at.checked_sub(1) else {
            continue;
        };
        let joined = words[before].range.end == words[at].range.start;
        let size = letters(before) + letters(at);
        if nominal(before) && joined && (3..=7).contains(&size) && words[at].may_be(NOUN) {
            found.push(candidate(sentence, index, before..at + 1));
        }
    }
    found
}
