//! From what the heads say of each place to the gaps that are reported.
//!
//! A gap is worth its probability over that of the text being clean: of all ways to choose,
//! this finds the most gaps at a given number of false alarms in clean texts (the lemma of
//! Neyman and Pearson). Invariant: at most [`most`] gaps of one text.

use std::ops::Range;

use super::{
    Item, Sample,
    features::{KINDS, overlap},
    model::{ANY, CLEAN, HEADS, Head, TERMS, UNIT_KINDS},
};

/// The place of undefined terms among [`KINDS`].
pub(super) const TERM_KIND: usize = 4;
/// The place of missing examples among [`KINDS`].
const EXAMPLE_KIND: usize = 9;
/// What stands for "nothing of this" among log odds.
const NOTHING: f32 = -6.0;
/// Numbers that the gate reads.
pub(super) const GATE_INPUTS: usize = 18;
/// Numbers that the judge reads of a place: 8, then for each kind 1 and 3 of the 8 again.
pub(super) const JUDGE_INPUTS: usize = 8 + 11 * 4;

/// What the heads say of a text, as log odds.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Of each unit, by head: kinds, then "any".
    pub units: Vec<[f32; UNIT_KINDS + 1]>,
    /// Of each term.
    pub terms: Vec<f32>,
    /// Where the terms stand.
    pub ranges: Vec<Range<usize>>,
    /// Of the text: that it is clean.
    pub clean: f32,
}

/// A gap at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Place of the kind in the list of kinds.
    pub kind: usize,
    /// The unit, or the term where the kind is that of terms.
    pub at: usize,
    /// That there is a gap, 0–1.
    pub probability: f32,
    /// What it is worth; see the module.
    pub worth: f32,
}

/// The most gaps of a text of so many units.
fn most(units: usize) -> usize {
    if units <= 12 { 6 } else { 10 }
}

/// The head of a kind that is judged of units.
#[must_use]
pub fn head_of(kind: usize) -> usize {
    match kind {
        TERM_KIND => TERMS,
        ..TERM_KIND => kind,
        _ => kind - 1,
    }
}

impl Said {
    /// Lets all heads speak about a text.
    #[must_use]
    pub fn by(heads: &[Head], sample: &Sample) -> Self {
        let of_text = |head: usize| {
            let head = heads.get(head);
            head.map_or(0.0, |head| head.bias + head.sum(&sample.text))
        };
        let of_text: [f32; HEADS] = std::array::from_fn(of_text);
        let sum = |head: usize, features: &[(u32, f32)]| {
            of_text[head] + heads.get(head).map_or(0.0, |head| head.sum(features))
        };
        let unit = |unit: &Item| std::array::from_fn(|head| sum(head, &unit.features));
        Self {
            units: sample.units.iter().map(unit).collect(),
            terms: sample
                .terms
                .iter()
                .map(|term| sum(TERMS, &term.features))
                .collect(),
            ranges: sample.terms.iter().map(|term| term.range.clone()).collect(),
            clean: of_text[CLEAN],
        }
    }

    /// What linear functions of the encoder's numbers say, by head; nothing without numbers.
    #[must_use]
    pub fn read(linear: &[Vec<f32>], sample: &Sample) -> Option<Self> {
        let meaning = sample.meaning.as_ref()?;
        let says = |head: usize, numbers: &[f32]| {
            let linear = linear.get(head);
            linear.map_or(0.0, |linear| weighed(linear, numbers))
        };
        let unit = |unit: &Vec<f32>| std::array::from_fn(|head| says(head, unit));
        let terms = meaning.terms.iter();
        Some(Self {
            units: meaning.units.iter().map(unit).collect(),
            terms: terms.map(|term| says(TERMS, term)).collect(),
            ranges: sample.terms.iter().map(|term| term.range.clone()).collect(),
            clean: says(CLEAN, &meaning.text),
        })
    }

    /// What the heads (this) and the encoder's numbers say together.
    #[must_use]
    pub fn blended(&self, read: &Self, mix: &[Vec<f32>]) -> Self {
        let mixed = |head: usize, inputs: &[f32], otherwise: f32| {
            let mix = mix.get(head);
            mix.map_or(otherwise, |mix| weighed(mix, inputs))
        };
        let units = self.units.iter().zip(&read.units);
        let terms = self.terms.iter().zip(&read.terms);
        Self {
            units: units
                .map(|(said, read)| {
                    let inputs = [said.as_slice(), read.as_slice()].concat();
                    std::array::from_fn(|head| mixed(head, &inputs, said[head]))
                })
                .collect(),
            terms: terms
                .map(|(said, read)| mixed(TERMS, &[*said, *read], *said))
                .collect(),
            ranges: self.ranges.clone(),
            clean: mixed(CLEAN, &[self.clean, read.clean], self.clean),
        }
    }

    fn of_kind(&self, kind: usize) -> Vec<f32> {
        match kind {
            TERM_KIND => self.terms.clone(),
            _ => self.units.iter().map(|unit| unit[head_of(kind)]).collect(),
        }
    }

    /// What the gate reads.
    #[must_use]
    pub fn gate_inputs(&self) -> [f32; GATE_INPUTS] {
        let mut inputs = [0.0; GATE_INPUTS];
        inputs[0] = self.clean;
        let mut all = Vec::new();
        for kind in 0..KINDS.len() {
            let odds = self.of_kind(kind);
            inputs[1 + kind] = odds.iter().copied().reduce(f32::max).unwrap_or(NOTHING);
            all.extend(odds.into_iter().map(sigmoid));
        }
        all.sort_by(|a, b| b.total_cmp(a));
        let log = |value: f32| (value + 1e-3).ln();
        inputs[12] = log(all.iter().sum());
        for place in 0..4 {
            inputs[13 + place] = log(all.get(place).copied().unwrap_or_default());
        }
        let any = self.units.iter().map(|unit| unit[ANY]);
        inputs[17] = any.reduce(f32::max).unwrap_or(NOTHING);
        inputs
    }

    /// The probability that the text is clean.
    #[must_use]
    pub fn clean_by(&self, gate: &[f32]) -> f32 {
        sigmoid(weighed(gate, &self.gate_inputs())).clamp(1e-3, 0.999)
    }

    /// What the judge reads of every place, by kind and place.
    #[must_use]
    pub fn judge_inputs(&self, clean: f32) -> Vec<(usize, usize, [f32; JUDGE_INPUTS])> {
        let mut all = Vec::new();
        let unsure = (clean / (1.0 - clean)).ln();
        let most_any = self.units.iter().map(|unit| unit[ANY]);
        let most_any = most_any.reduce(f32::max).unwrap_or(NOTHING);
        let mut any_order: Vec<f32> = self.units.iter().map(|unit| unit[ANY]).collect();
        any_order.sort_by(|a, b| b.total_cmp(a));
        for kind in 0..KINDS.len() {
            let odds = self.of_kind(kind);
            let mut order = odds.clone();
            order.sort_by(|a, b| b.total_cmp(a));
            for (at, own) in odds.iter().copied().enumerate() {
                let before = |order: &[f32], own: f32| {
                    order.partition_point(|other| *other > own).min(10) as f32
                };
                let rank = before(&order, own);
                let rival = order.get(usize::from(rank == 0.0)).copied().unwrap_or(-8.0);
                let (any, other, any_rank) = match kind {
                    TERM_KIND => (most_any, -9.0, 0.0),
                    _ => {
                        let unit = &self.units[at];
                        let others = unit[..UNIT_KINDS].iter().enumerate();
                        let other = others
                            .filter(|(head, _)| *head != head_of(kind))
                            .map(|(_, odds)| *odds)
                            .fold(f32::MIN, f32::max);
                        (unit[ANY], other, before(&any_order, unit[ANY]))
                    }
                };
                let mut inputs = [0.0; JUDGE_INPUTS];
                let base = [
                    own,
                    any,
                    other,
                    unsure,
                    self.clean,
                    rank,
                    own - rival,
                    any_rank,
                ];
                inputs[..8].copy_from_slice(&base);
                inputs[8 + kind * 4..12 + kind * 4].copy_from_slice(&[1.0, own, unsure, any]);
                all.push((kind, at, inputs));
            }
        }
        all
    }

    /// Judges every place.
    #[must_use]
    pub fn judged(&self, gate: &[f32], judge: &[f32]) -> Vec<Choice> {
        let clean = self.clean_by(gate);
        let mut all: Vec<Choice> = self
            .judge_inputs(clean)
            .into_iter()
            .map(|(kind, at, inputs)| {
                let probability = sigmoid(weighed(judge, &inputs));
                Choice {
                    kind,
                    at,
                    probability,
                    worth: probability / clean,
                }
            })
            .collect();
        all.sort_by(|a, b| b.worth.total_cmp(&a.worth));
        all
    }

    /// The best of what was judged, few enough to be read.
    #[must_use]
    pub fn chosen(&self, judged: &[Choice], threshold: f32) -> Vec<Choice> {
        let mut chosen: Vec<Choice> = Vec::new();
        let most = most(self.units.len());
        for choice in judged {
            if choice.worth < threshold || chosen.len() >= most {
                break;
            }
            let same = chosen
                .iter()
                .filter(|other| other.kind == choice.kind)
                .count();
            let clash = choice.kind == TERM_KIND
                && chosen.iter().any(|other| {
                    other.kind == TERM_KIND
                        && overlap(&self.ranges[other.at], &self.ranges[choice.at])
                });
            let enough = match choice.kind {
                EXAMPLE_KIND => 1,
                TERM_KIND => 3,
                _ => 2,
            };
            if same < enough && !clash {
                chosen.push(*choice);
            }
        }
        chosen
    }
}

/// The logistic function.
#[must_use]
pub fn sigmoid(odds: f32) -> f32 {
    1.0 / (1.0 + (-odds).exp())
}

/// A bias and a weighted sum.
fn weighed(weights: &[f32], inputs: &[f32]) -> f32 {
    let Some((bias, weights)) = weights.split_first() else {
        return 0.0;
    };
    bias + weights.iter().zip(inputs).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of some units in which every unit and term looks like every gap.
    fn said(units: usize) -> Said {
        Said {
            units: vec![[3.0; UNIT_KINDS + 1]; units],
            terms: vec![2.0; 4],
            ranges: vec![0..4, 2..6, 8..9, 10..12],
            clean: 0.0,
        }
    }

    fn judge() -> Vec<f32> {
        let mut weights = vec![0.0; JUDGE_INPUTS + 1];
        weights[1] = 1.0;
        weights
    }

    #[test]
    fn few_are_chosen_and_few_of_a_kind() {
        let said = said(5);
        let chosen = said.chosen(&said.judged(&[0.0], &judge()), 0.1);
        assert_eq!(chosen.len(), most(5));
        for kind in 0..KINDS.len() {
            let same = chosen.iter().filter(|choice| choice.kind == kind).count();
            assert!(same <= 3, "{chosen:?}");
        }
        assert!(chosen.is_sorted_by(|a, b| a.worth >= b.worth));
    }

    #[test]
    fn a_text_that_is_surely_clean_needs_surer_gaps() {
        let said = said(3);
        let count = |gate: f32| said.chosen(&said.judged(&[gate], &judge()), 1.0).len();
        assert!(count(-4.0) > 0);
        assert_eq!(count(4.0), 0);
    }

    #[test]
    fn of_terms_that_overlap_one_is_asked_about() {
        let said = Said {
            units: vec![[-9.0; UNIT_KINDS + 1]; 2],
            ..said(0)
        };
        let chosen = said.chosen(&said.judged(&[0.0], &judge()), 0.5);
        let terms: Vec<usize> = chosen.iter().map(|choice| choice.at).collect();
        assert_eq!(terms.len(), 3, "{chosen:?}");
        assert!(!(terms.contains(&0) && terms.contains(&1)));
    }
}
