//! The student that needs no language model: finds gaps by general rules of language and by
//! weights learnt from labelled texts, asks about them in the learner's own words, in English
//! and Chinese.
//!
//! Pure and deterministic: no I/O, no clock, no chance; time grows linearly with the text, and
//! is tens of milliseconds for one that an encoder reads.
//! Invariant: every quote is a piece of the explanation. Deliberately absent: knowledge of
//! any subject, so a question can never give an answer away.

mod ask;
mod chinese;
mod circle;
mod contradiction;
mod english;
pub mod evaluation;
mod finding;
mod gloss;
pub mod learned;
mod markers;
mod phrases;
mod shape;
mod steps;
mod summary;
pub(crate) mod taught;
mod terms;
mod text;
mod utterance;
mod vocabulary;
mod wording;

use std::cmp::Reverse;

use lyceum_core::{Confidence, Gap, GapKind, Role, Severity, Turn};

pub use ask::{MAX_QUESTIONS, questions};
pub use summary::{rolling_summary, summary};
pub(crate) use vocabulary::{Kind, Token, bases, tokens};

use finding::{Finding, Frame};
use text::Document;
use utterance::Utterance;

/// The most gaps reported of one text.
pub const MAX_GAPS: usize = 10;
/// Bytes of earlier turns that are read, from the end.
const EARLIER_BYTES: usize = 64 * 1024;

/// What the learner says, and what was said before.
#[derive(Debug, Clone, Copy)]
pub struct Lecture<'a> {
    /// The subject; may be empty.
    pub topic: &'a str,
    /// The explanation.
    pub text: &'a str,
    /// The conversation before it, oldest first.
    pub earlier: &'a [Turn],
    /// What was taught in other conversations: the terms that it explains are known.
    pub recalled: &'a [String],
}

/// Finds the gaps of an explanation, most important first; none in a text that is no
/// explanation (a greeting, a question, code).
///
/// Computes for tens of milliseconds, and for up to a second over a long text.
#[must_use]
pub fn analyse(lecture: &Lecture<'_>) -> Vec<Gap> {
    gaps(lecture, true)
}

/// As [`analyse`], without the encoder: finds fewer gaps, in a few milliseconds.
pub(crate) fn skim(lecture: &Lecture<'_>) -> Vec<Gap> {
    gaps(lecture, false)
}

fn gaps(lecture: &Lecture<'_>, encodes: bool) -> Vec<Gap> {
    let document = Document::new(lecture.text);
    if utterance::of(&document) != Utterance::Explanation {
        return Vec::new();
    }
    let defined = has_definition(&document);
    let frame = Frame::of(&document, defined);
    let mut findings = rule_findings(&document, lecture, frame);
    if let Some(mut found) = learned::find(&document, lecture, frame, &findings, encodes) {
        // What contradicts another turn was not learnt: it is not in the text.
        found.extend(findings.into_iter().filter(|finding| {
            finding.kind == GapKind::Contradiction && !document.text.contains(&finding.focus)
        }));
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        found.truncate(MAX_GAPS);
        return found
            .iter()
            .map(|finding| gap(&document, finding))
            .collect();
    }
    findings.retain(|finding| {
        finding.confidence >= frame.bar(finding.kind) && !document.quote(&finding.range).is_empty()
    });
    let mut kept = reduced(findings);
    kept.extend(
        shape::whole(&document, frame, lecture.topic, &kept)
            .into_iter()
            .filter(|finding| finding.confidence >= frame.bar(finding.kind)),
    );
    kept.truncate(MAX_GAPS);
    kept.sort_by_key(|finding| Reverse(finding.severity));
    if kept.is_empty() && document.word_count() < 8 && !defined {
        kept.extend(too_short(&document));
    }
    kept.into_iter()
        .map(|finding| gap(&document, &finding))
        .collect()
}

/// What the rules find, whatever their confidence in it.
fn rule_findings(document: &Document<'_>, lecture: &Lecture<'_>, frame: Frame) -> Vec<Finding> {
    let earlier = earlier(lecture);
    let mut findings = contradiction::find(document, &earlier);
    findings.extend(shape::find(document));
    findings.extend(circle::find(document));
    findings.extend(steps::find(document, frame));
    findings.extend(wording::find(document, frame));
    findings.extend(terms::undefined(
        document,
        &earlier,
        &recalled(lecture),
        lecture.topic,
        frame.care(),
    ));
    findings
}

/// Whether a text is Chinese, for those who answer in its language.
pub(crate) fn is_chinese_text(text: &str) -> bool {
    text::language_of(text) == text::Language::Chinese
}

fn earlier<'a>(lecture: &Lecture<'a>) -> Vec<Document<'a>> {
    let mut bytes = 0;
    let mut documents: Vec<Document<'a>> = lecture
        .earlier
        .iter()
        .rev()
        .filter(|turn| turn.role == Role::User)
        .take_while(|turn| {
            bytes += turn.content.len();
            bytes <= EARLIER_BYTES
        })
        .filter(|turn| turn.content.trim() != lecture.text.trim())
        .map(|turn| Document::new(&turn.content))
        .collect();
    documents.reverse();
    documents
}

fn recalled<'a>(lecture: &Lecture<'a>) -> Vec<Document<'a>> {
    let recalled = lecture.recalled.iter();
    recalled.map(|text| Document::new(text)).collect()
}

/// Whether the text says of anything what it is.
fn has_definition(document: &Document<'_>) -> bool {
    const DEFINES: &[&str] = &[
        "is a",
        "is an",
        "is the",
        "are the",
        "means",
        "refers to",
        "is called",
        "are called",
        "is when",
        "called",
        "known as",
        "is where",
        "is what",
        "stands for",
        "is how",
        "是指",
        "就是",
        "是一",
        "叫做",
        "称为",
        "指的是",
        "是由",
        "是把",
        "是用",
        "即",
        "意思是",
        "叫",
        "是",
    ];
    document
        .sentences
        .iter()
        .any(|sentence| text::has_any(&sentence.lower, DEFINES))
}

/// One short claim that nothing else was found in: it says that, not how.
fn too_short(document: &Document<'_>) -> Option<Finding> {
    let sentence = document.sentences.first()?;
    Some(Finding {
        kind: GapKind::MissingMechanism,
        range: shape::short_body(sentence),
        sentence: 0,
        confidence: 0.6,
        severity: Severity::High,
        focus: String::new(),
    })
}

/// Keeps the most useful of findings that say the same: of overlapping quotes one, of a
/// sentence two and its terms, of a kind a few.
fn reduced(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        (b.confidence + preference(b.kind))
            .total_cmp(&(a.confidence + preference(a.kind)))
            .then(a.range.start.cmp(&b.range.start))
    });
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let is_term = finding.kind == GapKind::UndefinedTerm;
        let clash = kept.iter().any(|other| {
            let overlap =
                finding.range.start < other.range.end && other.range.start < finding.range.end;
            let terms = is_term != (other.kind == GapKind::UndefinedTerm);
            overlap && !terms
        });
        let same_kind = kept
            .iter()
            .filter(|other| other.kind == finding.kind)
            .count();
        let same_sentence = kept
            .iter()
            .filter(|other| {
                other.sentence == finding.sentence
                    && (other.kind == GapKind::UndefinedTerm) == is_term
            })
            .count();
        let most_of_kind = if is_term { 4 } else { 3 };
        if !clash && same_kind < most_of_kind && same_sentence < 2 {
            kept.push(finding);
        }
    }
    kept
}

/// What is more useful to ask about at equal confidence: the more specific finding.
fn preference(kind: GapKind) -> f32 {
    match kind {
        GapKind::Contradiction => 0.4,
        GapKind::CircularDefinition => 0.3,
        GapKind::BrokenAnalogy => 0.15,
        GapKind::OverGeneralisation | GapKind::UnsupportedClaim => 0.08,
        GapKind::MissingStep => 0.06,
        GapKind::UndefinedTerm | GapKind::VagueWord => 0.04,
        _ => 0.0,
    }
}

fn gap(document: &Document<'_>, finding: &Finding) -> Gap {
    let quote = document.quote(&finding.range).to_owned();
    let focus = match finding.kind {
        GapKind::UndefinedTerm => quote.as_str(),
        _ => finding.focus.as_str(),
    };
    Gap {
        kind: finding.kind,
        reason: phrases::reason(document.language, finding.kind).replace("{f}", focus),
        severity: finding.severity,
        confidence: Confidence::from_fraction(f64::from(finding.confidence)),
        quote,
    }
}
