//! Judges a question before the learner hears it.
//!
//! A good question turns on the learner's own words and gives nothing away. The rules read
//! words, not meaning: they know the general vocabulary and what the learner said. Pure.
//! Invariant: a question made of the learner's words and of general ones is never called a
//! leak. Deliberately absent: whether the answer would be right.

mod said;

use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

use crate::{
    offline::{self, Kind, Token, tokens},
    tone,
};
use said::Said;

/// What is wrong with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It gives an answer away: a term or a number that the learner did not use, or an
    /// answer to agree with.
    #[error("keep the answer out of the question")]
    Leak,
    /// It would fit any explanation.
    #[error("ask about the explanation")]
    Generic,
    /// It was asked before, perhaps in other words.
    #[error("ask something new")]
    Repeat,
    /// It is in another language than the explanation.
    #[error("ask in the learner's language")]
    Language,
    /// It asks nothing.
    #[error("ask")]
    NotAQuestion,
}

impl Fault {
    /// The fault's name, fit for a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Generic => "generic",
            Self::Repeat => "repeat",
            Self::Language => "language",
            Self::NotAQuestion => "not_a_question",
        }
    }
}

/// What a question is judged by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard<'a> {
    /// The subject; may be empty.
    pub topic: &'a str,
    /// What the learner explained.
    pub explanation: &'a str,
    /// What the learner said before, in any order.
    pub earlier: &'a [String],
    /// The questions asked before.
    pub asked: &'a [String],
}

/// The share of words from which two questions are the same.
const SAME: f64 = 0.8;
/// A longer question is a lecture.
const MAX_CHARS: usize = 500;

/// Judges a question.
///
/// ```
/// use lyceum_agents::check::{Fault, Heard, review};
///
/// let heard = Heard { topic: "Tides", explanation: "The sea rises twice a day.", ..Heard::default() };
/// assert_eq!(review("Why does the sea rise twice?", &heard), Ok(()));
/// assert_eq!(review("Is it because the moon pulls?", &heard), Err(Fault::Leak));
/// assert_eq!(review("Can you say more?", &heard), Err(Fault::Generic));
/// ```
///
/// # Errors
///
/// The first [`Fault`] found.
pub fn review(question: &str, heard: &Heard<'_>) -> Result<(), Fault> {
    Judge::new(heard).review(question)
}

/// Judges many questions about one explanation: what was said is read once.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Whether the explanation is Chinese; `None` where it has no letters.
    is_chinese: Option<bool>,
    said: Said,
    /// What each question asked before asks for.
    asked: Vec<BTreeSet<String>>,
}

impl Judge {
    pub(crate) fn new(heard: &Heard<'_>) -> Self {
        let mut judge = Self {
            is_chinese: is_chinese(heard.explanation),
            said: Said::of(heard),
            asked: Vec::new(),
        };
        for question in heard.asked {
            judge.asked(question);
        }
        judge
    }

    /// Takes in a question that was asked.
    pub(crate) fn asked(&mut self, question: &str) {
        let question = tone::bare(question.trim());
        self.asked.push(meaning(question, &tokens(question)));
    }

    pub(crate) fn review(&self, question: &str) -> Result<(), Fault> {
        let question = tone::bare(question.trim());
        if !asks(question) || question.chars().count() > MAX_CHARS {
            return Err(Fault::NotAQuestion);
        }
        let own = is_chinese(&unquoted(question));
        if own.is_some() && self.is_chinese.is_some() && own != self.is_chinese {
            return Err(Fault::Language);
        }
        let words = tokens(question);
        if gives_away(question, &words, &self.said) {
            return Err(Fault::Leak);
        }
        if is_generic(&words, &self.said) {
            return Err(Fault::Generic);
        }
        let meant = meaning(question, &words);
        match self.asked.iter().any(|it| share(&meant, it) >= SAME) {
            true => Err(Fault::Repeat),
            false => Ok(()),
        }
    }

    /// Whether a statement brings a term that the learner did not use. Figures and names
    /// with figures in them are let through: a greeting or a reference teaches nothing.
    pub(crate) fn is_lecture(&self, statement: &str) -> bool {
        tokens(statement).iter().any(|word| {
            let is_plain = word.text.chars().all(char::is_alphabetic);
            word.kind == Kind::Rare && is_plain && !is_asking(&word.base) && !self.said.has(word)
        })
    }
}

/// Whether a text asks something, with or without its mark.
fn asks(text: &str) -> bool {
    let end = text.trim_end_matches(|c: char| !c.is_alphanumeric());
    text.contains(['?', '？']) || end.ends_with(['吗', '呢'])
}

/// The question's own words: what it quotes is left out.
fn unquoted(question: &str) -> String {
    let mut own = String::with_capacity(question.len());
    let mut closing = None;
    for c in question.chars() {
        match closing {
            Some(mark) if mark == c => closing = None,
            Some(_) => {}
            None => match c {
                '“' => closing = Some('”'),
                '「' => closing = Some('」'),
                '『' => closing = Some('』'),
                '"' => closing = Some('"'),
                _ => own.push(c),
            },
        }
    }
    own
}

/// Whether a text is Chinese; `None` where it has no letters.
fn is_chinese(text: &str) -> Option<bool> {
    let speaks = text.chars().any(char::is_alphabetic);
    speaks.then(|| offline::is_chinese_text(text))
}

/// Openings of an answer to agree with.
const PROPOSALS: [&str; 26] = [
    "is it because",
    "is that because",
    "is this because",
    "isn't it because",
    "it's because",
    "would it be because",
    "could it be because",
    "maybe because",
    "perhaps because",
    "is it due to",
    "is that due to",
    "is this due to",
    "is it that",
    "could it be that",
    "is the reason that",
    "is it the",
    "isn't it",
    "wouldn't it be",
    "right that",
    "correct that",
    "是不是因为",
    "是不是由于",
    "会不会是因为",
    "难道是因为",
    "是因为",
    "是由于",
];
/// Words that Chinese asks with; after them "是因为" proposes nothing.
const OPEN_ZH: [&str; 6] = ["什么", "为什么", "怎么", "哪", "何", "如何"];

/// Whether the question has a term or a number that the learner did not use, or proposes an
/// answer with words that the learner did not use.
fn gives_away(question: &str, words: &[Token], said: &Said) -> bool {
    let tells = |word: &&Token| match word.kind {
        Kind::Rare => !said.has(word) && !is_asking(&word.base),
        Kind::Number => !said.has(word) && !is_small(&word.text),
        _ => false,
    };
    if words.iter().any(|word| tells(&word)) {
        return true;
    }
    let lower = question.to_lowercase().replace('’', "'");
    PROPOSALS.iter().any(|opening| {
        let Some(at) = lower.find(opening) else {
            return false;
        };
        let proposal = &lower[at + opening.len()..];
        let end = proposal.find(['?', '？', '。']).unwrap_or(proposal.len());
        let proposal = &proposal[..end];
        let is_open = OPEN_ZH.iter().any(|word| proposal.contains(word));
        let is_new =
            |word: &Token| word.kind == Kind::Common && !is_asking(&word.base) && !said.has(word);
        !is_open && tokens(proposal).iter().any(is_new)
    })
}

/// "Two of them" and "step 1" tell nothing.
fn is_small(number: &str) -> bool {
    const WORDS: [&str; 12] = [
        "zero", "two", "three", "0", "1", "2", "3", "一", "两", "二", "三", "零",
    ];
    // "第一步", "两个": a Chinese number with its measure is one word.
    let zh = |c: char| WORDS.contains(&c.to_string().as_str());
    WORDS.contains(&number)
        || number.chars().any(zh)
            && !number
                .contains(|c: char| c.is_ascii_digit() || "十百千万亿四五六七八九".contains(c))
}

static ASKING: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let lines = include_str!("check/asking.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).collect()
});

/// Whether a word is about asking and explaining, whatever the subject.
fn is_asking(base: &str) -> bool {
    ASKING.contains(base)
}

/// Whether no word of substance ties the question to what was explained.
fn is_generic(words: &[Token], said: &Said) -> bool {
    if said.is_wordless() {
        return false;
    }
    let of_substance = |word: &&Token| match word.kind {
        Kind::Grammar => false,
        Kind::Number => !is_small(&word.text),
        _ => !is_asking(&word.base),
    };
    let mut own = words.iter().filter(of_substance);
    // The topic alone fits any explanation of it.
    !own.any(|word| said.explains(word))
}

/// What a question asks for: its words of content, and the kind of its question word.
fn meaning(question: &str, words: &[Token]) -> BTreeSet<String> {
    let content = words.iter().filter(|word| word.kind != Kind::Grammar);
    let mut meant: BTreeSet<String> = content.map(|word| word.base.clone()).collect();
    let lower = question.to_lowercase();
    for (name, openings) in QUESTION_WORDS {
        if openings.iter().any(|opening| has_word(&lower, opening)) {
            meant.insert(format!("?{name}"));
        }
    }
    meant
}

/// "Why" and "how" ask for the same: what makes it so.
const QUESTION_WORDS: [(&str, &[&str]); 4] = [
    ("cause", &["why", "how", "为什么", "怎么", "如何", "为何"]),
    ("place", &["where", "哪里", "哪儿"]),
    ("time", &["when", "什么时候", "何时"]),
    ("who", &["who", "谁"]),
];

fn has_word(lower: &str, word: &str) -> bool {
    if !word.is_ascii() {
        return lower.contains(word);
    }
    lower
        .split(|c: char| !c.is_alphanumeric())
        .any(|part| part == word)
}

/// The share of words that two questions have in common, of the longer one.
fn share(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let longer = a.len().max(b.len());
    if longer == 0 {
        return 1.0;
    }
    a.intersection(b).count() as f64 / longer as f64
}
