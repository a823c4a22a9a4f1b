//! What the detectors pass on, and what they know of the text as a whole.
//!
//! Invariant: `confidence` is comparable between kinds; [`Frame::bar`] alone decides what
//! is shown.

use std::ops::Range;

use lyceum_core::{GapKind, Severity};

use super::{
    markers::{CONTRAST, EXAMPLE, HALF_EXAMPLES, HALF_REASONS, LIMIT, REASON},
    text::{Class, Document, Sentence, has_any, head},
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
    /// Statements are tied together, without a word of reason.
    pub has_half_reason: bool,
    /// Something is denied or contrasted, without a word of limits.
    pub has_half_limit: bool,
    /// The number of words.
    pub words: usize,
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
            has_half_reason: any(&HALF_REASONS),
            has_half_limit: any(&CONTRAST) || has_quiet_limit(document),
            words: document.word_count(),
            reasoning: document
                .sentences
                .iter()
                .filter(|sentence| has_any(&sentence.lower, &REASON))
                .count() as f32
                / document.sentences.len().max(1) as f32,
        }
    }

    /// How much of a careful explanation is there, 0–4: a definition, reasons, an example,
    /// limits; signs that are weaker than the words for it count in part.
    pub(super) fn care(self) -> f32 {
        let graded = |full: bool, half: bool, worth: f32| match (full, half) {
            (true, _) => 1.0,
            (false, true) => worth,
            (false, false) => 0.0,
        };
        graded(self.has_definition, false, 0.0)
            + graded(self.has_reason, self.has_half_reason, 0.5)
            + graded(self.has_example, self.has_half_example, 0.7)
            + graded(self.has_limit, self.has_half_limit, 0.7)
    }

    /// The confidence a finding of a kind needs. A careful text gets the benefit of the
    /// doubt, and so does a long one: the more is said, the more looks like a gap by
    /// chance. Kinds that a word announces need less of it than kinds that are inferred
    /// from what is absent.
    pub(super) fn bar(self, kind: GapKind) -> f32 {
        let (by_care, by_length) = match kind {
            GapKind::Contradiction | GapKind::CircularDefinition => (0.0, 0.0),
            GapKind::OverGeneralisation | GapKind::BrokenAnalogy => (0.05, 0.01),
            GapKind::MissingStep => (0.05, 0.02),
            GapKind::VagueWord | GapKind::UnsupportedClaim => (0.07, 0.03),
            GapKind::UndefinedTerm => (0.16, 0.06),
            GapKind::MissingMechanism => (0.16, 0.05),
            _ => (0.12, 0.05),
        };
        let long = ((self.words as f32 - 60.0) / 50.0).clamp(0.0, 2.0);
        // Who gives reasons all along leaves fewer holes than who asserts.
        let reasoned = ((self.reasoning - 0.15) / 0.25).clamp(0.0, 1.0);
        let by_reasons = match kind {
            GapKind::UndefinedTerm => 0.12,
            GapKind::MissingMechanism | GapKind::VagueWord => 0.1,
            GapKind::UnsupportedClaim | GapKind::MissingStep => 0.05,
            _ => 0.0,
        };
        0.46 + by_care * (self.care() - 2.0).max(0.0) + by_length * long + by_reasons * reasoned
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

/// Whether the sentence, or one of the next `reach` that opens with a contrast, says where
/// it stops being true.
pub(super) fn is_limited_nearby(document: &Document<'_>, index: usize, reach: usize) -> bool {
    let sentences = &document.sentences;
    has_any(&sentences[index].lower, &CONTRAST)
        || sentences
            .iter()
            .skip(index + 1)
            .take(reach)
            .any(|next| has_any(head(&next.lower, 30), &CONTRAST))
}
