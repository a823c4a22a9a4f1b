//! What the detectors pass on, and what they know of the text as a whole.
//!
//! Invariant: `confidence` is comparable between kinds; [`Frame::bar`] alone decides what
//! is shown.

use std::ops::Range;

use lyceum_core::{GapKind, Severity};

use super::{
    markers::{CONTRAST, EXAMPLE, HALF_EXAMPLES, LIMIT, REASON},
    text::{Class, Document, Sentence, has_any},
};

/// A possible gap.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub kind: GapKind,
    /// What is quoted.
    pub range: Range<usize>,
    /// The sentence it stands in.
    pub sentence: usize,
    /// 0–1.
    pub confidence: f32,
    pub severity: Severity,
    /// The word or the earlier claim that the question turns on.
    pub focus: String,
}

/// How carefully the text as a whole is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub has_reason: bool,
    pub has_example: bool,
    /// One case is told, or there are figures, without the words of an example.
    pub has_half_example: bool,
    pub has_limit: bool,
    pub has_definition: bool,
    /// Sentences that give a reason, of all sentences, 0–1.
    pub reasoning: f32,
}

impl Frame {
    pub(super) fn of(document: &Document<'_>, has_definition: bool) -> Self {
        let any = |phrases: &[&str]| {
            document
                .sentences
                .iter()
                .any(|sentence| has_any(&sentence.lower, phrases))
        };
        Self {
            has_reason: any(&REASON),
            has_example: any(&EXAMPLE),
            has_half_example: any(&HALF_EXAMPLES) || document.sentences.iter().any(has_figure),
            has_limit: any(&LIMIT),
            has_definition,
            reasoning: document
                .sentences
                .iter()
                .filter(|sentence| has_any(&sentence.lower, &REASON))
                .count() as f32
                / document.sentences.len().max(1) as f32,
        }
    }

    /// How many of the four marks of a careful explanation are there, 0–4.
    pub(super) fn care(self) -> u8 {
        [
            self.has_reason,
            self.has_example || self.has_half_example,
            self.has_limit,
            self.has_definition,
        ]
        .into_iter()
        .map(u8::from)
        .sum()
    }

    /// The confidence a finding needs: a careful text gets the benefit of the doubt.
    pub(super) fn bar(self) -> f32 {
        match self.care() {
            0..=2 => 0.45,
            3 => 0.52,
            _ => 0.6,
        }
    }
}

/// Whether a sentence gives a number; "一" is an article as often.
fn has_figure(sentence: &Sentence<'_>) -> bool {
    sentence
        .words
        .iter()
        .any(|word| word.class == Class::Number && !word.base.starts_with('一'))
}

/// Whether the text has a limit that no marker announces: something is said not to be so.
pub(super) fn has_quiet_limit(document: &Document<'_>) -> bool {
    const DENIALS: &[&str] = &[
        "not", "no", "never", "rarely", "hardly", "nothing", "doesn't", "don't", "isn't", "won't",
        "can't", "cannot", "不", "没",
    ];
    document
        .sentences
        .iter()
        .skip(1)
        .any(|sentence| has_any(&sentence.lower, DENIALS))
}

/// Whether the sentence is, or continues, an example.
pub(super) fn is_example(document: &Document<'_>, index: usize) -> bool {
    let lower = &document.sentences[index].lower;
    has_any(lower, &EXAMPLE) || has_any(lower, &HALF_EXAMPLES)
}

/// Whether the sentence or the next one says where it stops being true.
pub(super) fn is_limited_nearby(document: &Document<'_>, index: usize, reach: usize) -> bool {
    let sentences = &document.sentences;
    sentences
        .iter()
        .skip(index + 1)
        .take(reach)
        .any(|s| has_any(&s.lower, &LIMIT))
        || sentences
            .iter()
            .skip(index)
            .take(reach + 1)
            .any(|s| has_any(&s.lower, &CONTRAST))
}
