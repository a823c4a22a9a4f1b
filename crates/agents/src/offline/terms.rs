//! Undefined terms: words outside the general vocabulary that nothing explains.
//!
//! Terms are recognised by form (rarity, word formation, capitals, quotation marks,
//! repetition), definitions by pattern. Deliberately absent: any list of a subject's terms.

mod chinese;
mod english;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use lyceum_core::{GapKind, Severity};

use super::{
    finding::{Finding, is_example},
    gloss::{Gloss, glosses},
    markers::{FORMS, Phrases, section},
    shape::comparison,
    text::{Document, Language, Sentence, Word, has_any, is_chinese},
};

/// The most undefined terms reported of one text.
const MOST: usize = 4;
/// The longest term considered, in words.
const LONGEST: usize = 4;

/// A phrase that looks like a term.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Base forms of its words, joined: the same for all its forms.
    pub key: String,
    pub range: Range<usize>,
    pub sentence: usize,
    /// Its words in the sentence.
    pub words: Range<usize>,
    /// How technical it looks, 0–1.
    pub score: f32,
}

/// Finds terms of the text that neither it nor what was said before explains: in this
/// conversation a term was met, in another one it has to be explained.
pub(super) fn undefined(
    document: &Document<'_>,
    earlier: &[Document<'_>],
    recalled: &[Document<'_>],
    topic: &str,
    care: f32,
) -> Vec<Finding> {
    let candidates = candidates(document);
    let mut groups: HashMap<&str, Vec<&Candidate>> = HashMap::new();
    let mut order = Vec::new();
    for candidate in &candidates {
        let group = groups.entry(candidate.key.as_str()).or_default();
        if group.is_empty() {
            order.push(candidate.key.as_str());
        }
        group.push(candidate);
    }
    let known_before = known_before(earlier, recalled);
    let topic = topic.to_lowercase();
    let topic_words: Vec<String> = super::english::words(&topic, 0)
        .into_iter()
        .map(|word| word.base)
        .collect();
    let glossed: Vec<&str> = candidates
        .iter()
        .take(2_000)
        .filter(|candidate| glosses(document, candidate) == Gloss::Full)
        .map(|candidate| candidate.key.as_str())
        .take(200)
        .collect();
    let labels = uses_labels(document);
    let mut findings = Vec::new();
    for key in order {
        let group = &groups[key];
        let first = group[0];
        if is_topic(key, &topic, &topic_words) || labels && is_labelled(key) {
            continue;
        }
        let mut gloss = Gloss::None;
        if glossed
            .iter()
            .any(|known| key.starts_with(*known) || known.ends_with(key))
        {
            gloss = Gloss::Full;
        }
        for candidate in group.iter().take(24) {
            gloss = gloss.max(glosses(document, candidate));
        }
        if known_before.contains(key) {
            // It was met before; asking again would try the learner's patience.
            gloss = gloss.max(Gloss::Full);
        }
        let mut confidence = group.iter().map(|c| c.score).fold(0.0, f32::max);
        match group.len() {
            0 | 1 => {}
            2 => confidence += 0.04,
            // What is spoken of again and again is explained by its use.
            _ => confidence -= 0.12,
        }
        if group.iter().all(|c| is_example(document, c.sentence)) {
            confidence -= 0.15;
        }
        if group.iter().all(|c| is_pictured(document, c)) {
            confidence -= 0.25;
        }
        if group.iter().any(|c| is_genus(document, c)) {
            confidence -= 0.15;
        }
        confidence -= match gloss {
            Gloss::Full => 1.0,
            Gloss::Partial => 0.02 + 0.02 * (care - 2.0).max(0.0),
            Gloss::None => 0.0,
        };
        if care >= 3.6 {
            // In a careful text a single rare word is most often meant to be plain.
            confidence -= 0.05;
        }
        if confidence <= 0.3 {
            continue;
        }
        findings.push(Finding {
            kind: GapKind::UndefinedTerm,
            range: first.range.clone(),
            sentence: first.sentence,
            confidence: confidence.min(0.95),
            severity: if confidence >= 0.7 {
                Severity::High
            } else {
                Severity::Medium
            },
            focus: key.to_owned(),
        });
    }
    drop_parts(document, &mut findings);
    findings.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    findings.truncate(MOST);
    findings
}

/// The terms that were met in this conversation or explained in others.
pub(super) fn known_before(earlier: &[Document<'_>], recalled: &[Document<'_>]) -> HashSet<String> {
    let met = earlier.iter().flat_map(candidates).map(|term| term.key);
    met.chain(recalled.iter().flat_map(explained)).collect()
}

/// The terms that a text says the meaning of.
fn explained(document: &Document<'_>) -> Vec<String> {
    let terms = candidates(document).into_iter().take(500);
    terms
        .filter(|term| glosses(document, term) == Gloss::Full)
        .map(|term| term.key)
        .collect()
}

/// Whether letters stand for people or things: "A has 40, B has 35".
fn uses_labels(document: &Document<'_>) -> bool {
    let mut letters: Vec<&str> = Vec::new();
    for sentence in &document.sentences {
        for word in &sentence.words {
            let text = surface(sentence, word);
            let letter = text.trim_end_matches("'s").trim_end_matches("’s");
            let single = letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_uppercase());
            if single && letter != "I" && letter != "A" && !letters.contains(&letter) {
                letters.push(letter);
            }
        }
    }
    letters.len() >= 2
}

/// Whether a phrase begins with such a letter.
fn is_labelled(key: &str) -> bool {
    let first = key.split(' ').next().unwrap_or_default();
    let letter = first.trim_end_matches("'s").trim_end_matches("’s");
    letter.len() == 1
}

/// "Yeast is a fungus that …": the class in a definition is chosen to be known.
pub(super) fn is_genus(document: &Document<'_>, candidate: &Candidate) -> bool {
    let sentence = &document.sentences[candidate.sentence];
    let before = &sentence.lower[..candidate.range.start - sentence.start];
    let after = sentence.lower[candidate.range.end - sentence.start..].trim_start();
    match sentence.language {
        Language::English => {
            has_any(before, &["is a", "is an", "are", "means"])
                && ["that ", "which ", "who ", "where ", "in which "]
                    .iter()
                    .any(|relative| after.starts_with(relative))
        }
        Language::Chinese => {
            let closes = after.is_empty() || after.starts_with(['，', '。', '；', '、']);
            closes && before.ends_with('的') && before.contains('是')
        }
    }
}

/// What something is compared with is meant to be known.
pub(super) fn is_pictured(document: &Document<'_>, candidate: &Candidate) -> bool {
    let sentence = &document.sentences[candidate.sentence];
    comparison(&sentence.lower)
        .is_some_and(|found| sentence.start + found.end <= candidate.range.start)
}

/// Of "loss" and "loss function" only the longer one is asked for.
fn drop_parts(document: &Document<'_>, findings: &mut Vec<Finding>) {
    let quotes: Vec<String> = findings
        .iter()
        .map(|f| document.quote(&f.range).to_lowercase())
        .collect();
    let mut index = 0;
    findings.retain(|_| {
        let own = &quotes[index];
        let contained = quotes.iter().enumerate().any(|(other, quote)| {
            other != index && quote.len() > own.len() && quote.contains(own.as_str())
        });
        index += 1;
        !contained
    });
}

pub(super) fn is_topic(key: &str, topic: &str, topic_words: &[String]) -> bool {
    if topic.is_empty() {
        return false;
    }
    if key.chars().any(is_chinese) {
        return topic.contains(key);
    }
    key.split(' ')
        .all(|word| topic_words.iter().any(|t| t == word))
}

/// All phrases of a text that look like terms, in order.
pub(super) fn candidates(document: &Document<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, sentence) in document.sentences.iter().enumerate() {
        match sentence.language {
            Language::English => english::runs(sentence, index, &mut found),
            Language::Chinese => chinese::runs(sentence, index, &mut found),
        }
    }
    found
}

/// Whether two neighbouring words are separated by blanks only.
pub(super) fn adjoin(sentence: &Sentence<'_>, left: &Word, right: &Word) -> bool {
    sentence.text[left.range.end - sentence.start..right.range.start - sentence.start]
        .chars()
        .all(char::is_whitespace)
}

pub(super) fn surface<'t>(sentence: &Sentence<'t>, word: &Word) -> &'t str {
    &sentence.text[word.range.start - sentence.start..word.range.end - sentence.start]
}

fn push(
    sentence: &Sentence<'_>,
    index: usize,
    words: Range<usize>,
    score: f32,
    found: &mut Vec<Candidate>,
) {
    let bases: Vec<&str> = sentence.words[words.clone()]
        .iter()
        .map(|word| word.base.as_str())
        .collect();
    let separator = match sentence.language {
        Language::English => " ",
        Language::Chinese => "",
    };
    let range = sentence.words[words.start].range.start..sentence.words[words.end - 1].range.end;
    let score = if is_quoted(sentence, &range) {
        (score + 0.3).max(0.6)
    } else {
        score
    };
    found.push(Candidate {
        key: bases.join(separator),
        range,
        sentence: index,
        words,
        score,
    });
}

pub(super) fn is_quoted(sentence: &Sentence<'_>, range: &Range<usize>) -> bool {
    let before = sentence.text[..range.start - sentence.start]
        .chars()
        .next_back();
    let after = sentence.text[range.end - sentence.start..].chars().next();
    before.is_some_and(|c| "\"“「『'‘*`".contains(c))
        && after.is_some_and(|c| "\"”」』'’*`".contains(c))
}

/// Capital abbreviations of everyday life.
static EVERYDAY_CAPITALS: Phrases = LazyLock::new(|| section(FORMS, "everyday_capitals"));
