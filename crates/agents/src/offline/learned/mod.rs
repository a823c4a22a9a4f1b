//! The detector that was learnt from labelled explanations.
//!
//! Each unit of a text is judged for each kind of gap by a logistic model over general signs:
//! grammar and everyday words, what the hand-written rules say, what is new, what is said
//! again, what stands next to it. Linear functions of what an encoder's middle layers make of
//! the text are blended with that. A second stage weighs the verdicts of a text against each
//! other and against the text being complete. `cargo xtask train feynman` learns the weights
//! from `tests/data`. Invariant: deterministic and linear in the text. Deliberately absent:
//! words of a subject; they are learnt as shapes only.

mod context;
mod decide;
mod features;
mod lexical;
mod meaning;
mod model;
mod ranks;
mod report;
mod sink;
mod terms;
mod units;

use std::sync::LazyLock;

pub use decide::{Choice, Said, head_of, sigmoid};
pub use meaning::Meaning;
pub use model::{Blend, HEADS, Head, LANGUAGES, Model, bits_of, place};

use lyceum_core::GapKind;

use super::{
    Lecture,
    evaluation::Case,
    finding::{Finding, Frame},
    text::{Document, Language, Word},
};
use features::{KINDS, Reading};
use sink::Features;

/// The weights as they ship.
pub const WEIGHTS: &[u8] = include_bytes!("../data/student.bin");

static MODEL: LazyLock<Option<Model>> = LazyLock::new(|| Model::decode(WEIGHTS));

/// The shortest text, in words, that is like those that were learnt from.
const SHORTEST: usize = 26;

/// Finds the gaps of a text, the most certain first; nothing where the rules know better,
/// in a text too short to be like those that were learnt from. `rules` is what they found,
/// whatever their confidence. The encoder reads the text only if `encodes`.
pub(super) fn find(
    document: &Document<'_>,
    lecture: &Lecture<'_>,
    frame: Frame,
    rules: &[Finding],
    encodes: bool,
) -> Option<Vec<Finding>> {
    if document.word_count() < SHORTEST || document.sentences.len() < 2 {
        return None;
    }
    let model = MODEL.as_ref()?;
    let topic = topic_words(lecture.topic);
    let reading = Reading::new(document, frame, rules, &topic);
    let mut terms = terms::find(document, &reading.units, lecture.topic, &topic);
    let known = super::terms::known_before(&super::earlier(lecture), &super::recalled(lecture));
    terms.retain(|term| !known.contains(&term.key));
    let mut sample = signs(&reading, &terms);
    if encodes {
        sample.read(document, lecture.topic);
    }
    let said = Said::by(&model.heads, &sample);
    let said = match model.blends.get(sample.language) {
        Some(blend) => match Said::read(&blend.linear, &sample) {
            Some(read) => said.blended(&read, &blend.mix),
            None => said,
        },
        None => said,
    };
    let judged = said.judged(&model.gate, &model.judge);
    let chosen = said.chosen(&judged, model.threshold);
    Some(report::findings(&reading, &terms, &chosen))
}

fn unit_features(reading: &Reading<'_>, at: usize) -> Vec<(u32, f32)> {
    let mut out = Features::default();
    features::unit(reading, at, &mut out);
    out.list
}

fn term_features(reading: &Reading<'_>, term: &terms::Term) -> Vec<(u32, f32)> {
    let mut out = Features::default();
    features::term(reading, term, &mut out);
    out.list
}

fn topic_words(topic: &str) -> Vec<Word> {
    let document = Document::new(topic);
    document
        .sentences
        .into_iter()
        .flat_map(|it| it.words)
        .collect()
}

/// A unit or a term with its features, for those who learn.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where it stands in the text.
    pub range: std::ops::Range<usize>,
    /// Hash and value.
    pub features: Vec<(u32, f32)>,
}

/// A text as the heads see it, for those who learn.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Of the text as a whole.
    pub text: Vec<(u32, f32)>,
    /// Of its units.
    pub units: Vec<Item>,
    /// Of its terms.
    pub terms: Vec<Item>,
    /// The place of its language among [`LANGUAGES`].
    pub language: usize,
    /// What the encoder makes of it; nothing when it is too long.
    pub meaning: Option<Meaning>,
}

/// The kinds of gaps by their place in the model.
#[must_use]
pub fn kinds() -> &'static [GapKind] {
    &KINDS
}

/// Reads a text as [`super::analyse`] does, for those who learn.
#[must_use]
pub fn sample(lecture: &Lecture<'_>) -> Sample {
    let document = Document::new(lecture.text);
    let mut sample = signs_of(&document, lecture);
    sample.read(&document, lecture.topic);
    sample
}

fn signs_of(document: &Document<'_>, lecture: &Lecture<'_>) -> Sample {
    let frame = Frame::of(document, super::has_definition(document));
    let rules = super::rule_findings(document, lecture, frame);
    let topic = topic_words(lecture.topic);
    let reading = Reading::new(document, frame, &rules, &topic);
    let terms = terms::find(document, &reading.units, lecture.topic, &topic);
    signs(&reading, &terms)
}

/// Everything but what the encoder makes of it.
fn signs(reading: &Reading<'_>, terms: &[terms::Term]) -> Sample {
    let mut text = Features::default();
    features::text(reading, &mut text);
    let units = reading.units.iter().enumerate().map(|(at, unit)| Item {
        range: unit.range.clone(),
        features: unit_features(reading, at),
    });
    let terms = terms.iter().map(|term| Item {
        range: term.range.clone(),
        features: term_features(reading, term),
    });
    Sample {
        text: text.list,
        units: units.collect(),
        terms: terms.collect(),
        language: usize::from(reading.document.language == Language::Chinese),
        meaning: None,
    }
}

impl Sample {
    /// Lets the encoder read it.
    fn read(&mut self, document: &Document<'_>, topic: &str) {
        let ranges =
            |items: &[Item]| -> Vec<_> { items.iter().map(|item| item.range.clone()).collect() };
        self.meaning = Meaning::of(
            (document.language, topic, document.text),
            &ranges(&self.units),
            &ranges(&self.terms),
        );
    }
}

/// Tells one set of cases, and one version of the features, from another: of every case its
/// text and labels, of every eighth its features too.
#[must_use]
pub fn fingerprint(cases: &[Case]) -> u32 {
    let mut print = sink::BASIS;
    let mut add = |number: u32| print = sink::hash(print, &format!("{number:x} "));
    for (at, case) in cases.iter().enumerate() {
        add(sink::hash(sink::BASIS, &case.text));
        for gap in &case.gaps {
            add(sink::hash(sink::BASIS, gap.kind.as_str()));
            add(sink::hash(sink::BASIS, &gap.quote));
        }
        if at % 8 == 0 {
            let lecture = Lecture {
                topic: &case.topic,
                text: &case.text,
                earlier: &case.earlier,
                recalled: &[],
            };
            let sample = signs_of(&Document::new(&case.text), &lecture);
            let items = sample.units.iter().chain(&sample.terms);
            let items = items.flat_map(|item| &item.features);
            for (feature, _) in items.chain(&sample.text) {
                add(*feature);
            }
        }
    }
    print
}
