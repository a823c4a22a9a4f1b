//! The labelled texts as rows of features with labels.

use lyceum_agents::offline::{
    Lecture,
    evaluation::{Case, Planted},
    learned::{HEADS, Item, Sample, bits_of, head_of, kinds, place, sample},
};

use crate::logistic::Row;

/// The head that tells whether a unit has any gap, that of terms, that of clean texts.
pub(crate) const ANY: usize = HEADS - 3;
pub(crate) const TERMS: usize = HEADS - 2;
pub(crate) const CLEAN: usize = HEADS - 1;

/// One text.
pub(crate) struct Text {
    pub(crate) case: Case,
    /// Who wrote it: texts of one author are never on both sides of a split.
    pub(crate) author: usize,
    pub(crate) sample: Sample,
    /// Rows of units, of terms and of the text, by the tables' places.
    pub(crate) units: Vec<Row>,
    pub(crate) terms: Vec<Row>,
    pub(crate) whole: Row,
}

impl Text {
    pub(crate) fn new(case: Case, author: usize) -> Self {
        let sample = sample(&Lecture {
            topic: &case.topic,
            text: &case.text,
            earlier: &case.earlier,
            recalled: &[],
        });
        let with_text = |head: usize| {
            let text = &sample.text;
            move |item: &Item| row(item.features.iter().chain(text), bits_of(head))
        };
        Self {
            units: sample.units.iter().map(with_text(0)).collect(),
            terms: sample.terms.iter().map(with_text(TERMS)).collect(),
            whole: row(sample.text.iter(), bits_of(CLEAN)),
            case,
            author,
            sample,
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.case.gaps.is_empty()
    }

    /// Whether a kind's gap is planted at a place, and how much that tells: a gap of the
    /// whole text is at each of its units a little.
    pub(crate) fn label(&self, kind: usize, at: usize) -> (bool, f64) {
        let Some(item) = self.items(kind).get(at) else {
            return (false, 1.0);
        };
        let mut label = (false, 1.0);
        for gap in self
            .case
            .gaps
            .iter()
            .filter(|gap| gap.kind == kinds()[kind])
        {
            if gap.quote.is_empty() && !label.0 {
                label = (true, 1.0 / self.sample.units.len().max(1) as f64);
            } else if is_hit(&self.case.text, gap, item) {
                label = (true, 1.0);
            }
        }
        label
    }

    /// Whether any gap but a term's is planted in a unit.
    pub(crate) fn any(&self, at: usize) -> bool {
        let quoted = |gap: &&Planted| !gap.quote.is_empty();
        let kind = |gap: &Planted| kinds().iter().position(|kind| *kind == gap.kind);
        self.case.gaps.iter().filter(quoted).any(|gap| {
            kind(gap).is_some_and(|kind| head_of(kind) != TERMS)
                && is_hit(&self.case.text, gap, &self.sample.units[at])
        })
    }

    /// What is judged for a kind.
    pub(crate) fn items(&self, kind: usize) -> &[Item] {
        match head_of(kind) {
            TERMS => &self.sample.terms,
            _ => &self.sample.units,
        }
    }
}

/// Whether a planted gap is at a place, as the evaluation sees it.
pub(crate) fn is_hit(text: &str, gap: &Planted, item: &Item) -> bool {
    let piece = text.get(item.range.clone()).unwrap_or_default();
    let at = text.find(&gap.quote).unwrap_or_default();
    gap.quote.is_empty()
        || piece.contains(&gap.quote)
        || gap.quote.contains(piece)
        || at < item.range.end && item.range.start < at + gap.quote.len()
}

fn row<'f>(features: impl Iterator<Item = &'f (u32, f32)>, bits: u32) -> Row {
    let mut row: Row = features
        .map(|(hash, value)| (place(*hash, bits) as u32, *value))
        .collect();
    row.sort_by_key(|(at, _)| *at);
    row
}
