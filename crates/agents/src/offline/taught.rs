//! Reads an explanation as a list of statements, for those who keep what was taught.
//!
//! Invariant: a statement's text, its support and its terms are pieces of the learner's own
//! words. Deliberately absent: memory, and any judgement whether a statement is true.

use std::{collections::BTreeSet, ops::Range};

use super::{
    markers::{
        ANALOGY, CAUSES_STRONGLY, CONCLUDES, CONTRAST, CORRECTS, EXAMPLE, HALF_EXAMPLES, LIMIT,
        MEANS, REASON,
    },
    terms,
    text::{Class, Document, Language, Sentence, find_any, find_phrase, has_any, head},
    utterance::{self, Utterance},
};

/// Where words stand that say nothing: an answer that is none.
const NO_ANSWERS: &[&str] = &[
    "i don't know",
    "i do not know",
    "no idea",
    "not sure",
    "i have no clue",
    "don't remember",
    "不知道",
    "不清楚",
    "不确定",
    "不记得",
    "没想过",
];
/// Follows a term where it is defined.
const DEFINING: &[&str] = &[
    "is a",
    "is an",
    "is the",
    "are the",
    "is when",
    "is what",
    "is how",
    "is where",
    "is called",
    "are",
    "means",
    "mean",
    "refers to",
    "stands for",
    "describes",
    "consists of",
    "是",
    "指",
    "叫",
    "即",
    "意思",
    "由",
];
/// Stands before a term where it is defined.
const NAMING: &[&str] = &[
    "called", "known as", "named", "we call", "叫做", "称为", "叫", "所谓",
];
/// The longest statement kept, in bytes.
const STATEMENT_BYTES: usize = 600;
/// The fewest words of a statement.
const FEWEST_WORDS: usize = 3;

/// A phrase that a statement is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Term {
    /// Base forms: the same for all its forms.
    pub(crate) key: String,
    /// As it was written.
    pub(crate) name: String,
    /// How technical it looks, 0–1.
    pub(crate) score: f32,
}

/// One sentence that says that something is so.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) text: String,
    lower: String,
    /// The part that gives a reason, an example or a limit.
    pub(crate) support: Option<String>,
    /// Whether it is said to follow from what stands before it.
    pub(crate) follows: bool,
    pub(crate) terms: Vec<Term>,
    /// Base forms of its words of content.
    pub(crate) words: BTreeSet<String>,
    pub(crate) gives_reason: bool,
    pub(crate) gives_means: bool,
    pub(crate) gives_example: bool,
    pub(crate) gives_limit: bool,
    pub(crate) contrasts: bool,
    pub(crate) corrects: bool,
    pub(crate) compares: bool,
}

impl Statement {
    /// Whether it says what a term is.
    pub(crate) fn defines(&self, term: &str) -> bool {
        let term = term.to_ascii_lowercase();
        let Some(range) = find_phrase(&self.lower, &term).or_else(|| plural(&self.lower, &term))
        else {
            return false;
        };
        let (before, after) = (&self.lower[..range.start], &self.lower[range.end..]);
        has_any(head(after, 40), DEFINING) || has_any(before, NAMING)
    }

    /// Whether it has the words of a text, up to their form.
    pub(crate) fn shares(&self, words: &BTreeSet<String>) -> usize {
        self.words.intersection(words).count()
    }
}

/// A term's plural, where the text has only that.
fn plural(lower: &str, term: &str) -> Option<Range<usize>> {
    term.is_ascii()
        .then(|| find_phrase(lower, &format!("{term}s")))
        .flatten()
}

/// The statements of an explanation; none in a text that is no explanation.
pub(crate) fn statements(text: &str) -> Vec<Statement> {
    let document = Document::new(text);
    if utterance::of(&document) != Utterance::Explanation {
        return Vec::new();
    }
    let candidates = terms::candidates(&document);
    let mut found = Vec::new();
    for (index, sentence) in document.sentences.iter().enumerate() {
        let body = document.quote(&sentence.body());
        let is_empty = sentence.words.len() < FEWEST_WORDS || body.is_empty();
        if sentence.is_question || is_empty || has_any(&sentence.lower, NO_ANSWERS) {
            continue;
        }
        let terms = candidates.iter().filter(|term| term.sentence == index);
        let mut statement = statement(&document, sentence);
        statement.terms = terms
            .map(|term| Term {
                key: term.key.clone(),
                name: document.quote(&term.range).to_owned(),
                score: term.score,
            })
            .collect();
        found.push(statement);
    }
    found
}

fn statement(document: &Document<'_>, sentence: &Sentence<'_>) -> Statement {
    let lower = &sentence.lower;
    let start = head(lower, 24);
    Statement {
        text: head(sentence.text, STATEMENT_BYTES).to_owned(),
        lower: lower.clone(),
        support: support(document, sentence),
        follows: find_any(start, &CONCLUDES).is_some_and(|found| found.start <= 4)
            || find_any(start, &["so", "then", "this", "that", "于是", "这"])
                .is_some_and(|found| found.start == 0),
        terms: Vec::new(),
        words: content(sentence),
        gives_reason: has_any(lower, &REASON),
        gives_means: has_any(lower, &MEANS) || has_any(lower, &CAUSES_STRONGLY),
        gives_example: has_any(lower, &EXAMPLE) || has_any(lower, &HALF_EXAMPLES),
        gives_limit: has_any(lower, &LIMIT),
        contrasts: has_any(lower, &CONTRAST),
        corrects: has_any(lower, &CORRECTS),
        compares: has_any(lower, &ANALOGY),
    }
}

/// The part of a sentence from its first word of reason, example or limit to its end.
fn support(document: &Document<'_>, sentence: &Sentence<'_>) -> Option<String> {
    let mark = [&REASON, &EXAMPLE, &LIMIT]
        .into_iter()
        .find_map(|list| find_any(&sentence.lower, list))?;
    let body = sentence.body();
    // A sentence that begins with its reason is its own support.
    let from = (sentence.start + mark.start).clamp(body.start, body.end);
    let part = document.quote(&(from..body.end)).trim();
    (part.chars().count() >= 4).then(|| head(part, STATEMENT_BYTES).to_owned())
}

fn content(sentence: &Sentence<'_>) -> BTreeSet<String> {
    let told = |word: &&super::text::Word| word.is_content() || word.class == Class::Number;
    sentence
        .words
        .iter()
        .filter(told)
        .map(|word| word.base.clone())
        .collect()
}

/// Base forms of the words of content in any text.
pub(crate) fn words(text: &str) -> BTreeSet<String> {
    Document::new(text)
        .sentences
        .iter()
        .flat_map(content)
        .collect()
}

/// The phrases of a text that look like terms, in order, each once.
pub(crate) fn terms_of(text: &str) -> Vec<Term> {
    let document = Document::new(text);
    let mut found: Vec<Term> = Vec::new();
    for term in terms::candidates(&document) {
        if !found.iter().any(|known| known.key == term.key) {
            found.push(Term {
                key: term.key,
                name: document.quote(&term.range).to_owned(),
                score: term.score,
            });
        }
    }
    found
}

/// A sentence of a text with the words of content in it.
pub(crate) struct Told<'t> {
    pub(crate) text: &'t str,
    pub(crate) words: BTreeSet<String>,
    /// The words outside the general vocabulary, and numbers.
    pub(crate) rare: BTreeSet<String>,
}

/// The sentences of a text, whatever they are.
pub(crate) fn sentences(text: &str) -> Vec<Told<'_>> {
    let document = Document::new(text);
    document
        .sentences
        .iter()
        .map(|sentence| Told {
            text: sentence.text,
            words: content(sentence),
            rare: sentence
                .words
                .iter()
                .filter(|word| matches!(word.class, Class::Rare | Class::Number))
                .filter(|word| !(sentence.language == Language::Chinese && word.base == "一"))
                .map(|word| word.base.clone())
                .collect(),
        })
        .collect()
}
