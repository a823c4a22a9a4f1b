//! What the encoder's numbers tell, and what that is worth beside the heads.
//!
//! The linear functions of a language are learnt from its texts. What they and the heads say of
//! authors whom neither has read teaches the mixes; an author's own mix is learnt from the others.

use lyceum_agents::offline::learned::{Blend, HEADS, Head, LANGUAGES, Said, kinds};

use crate::{
    folds::Verdict,
    lessons::{ANY, CLEAN, TERMS, Text},
    logistic::fit_dense,
    ridge::Normal,
};

/// What holds the linear functions of units, terms and texts near zero.
const UNIT_PENALTY: f64 = 3_000.0;
const TERM_PENALTY: f64 = 3_000.0;
const TEXT_PENALTY: f64 = 10_000.0;
/// The weight of what is seen, for the mixes.
const TRUST: f64 = 0.3;

/// The normal equations of units, terms and texts.
#[derive(Clone)]
struct Equations([Normal; 3]);

impl Equations {
    /// Nothing when no text has numbers.
    fn of<'t>(texts: impl Iterator<Item = &'t Text>) -> Option<Self> {
        let mut all: Option<Self> = None;
        for text in texts {
            let Some(meaning) = &text.sample.meaning else {
                continue;
            };
            let width = |rows: &[Vec<f32>]| rows.first().map(Vec::len);
            let (Some(unit), Some(term)) = (width(&meaning.units), width(&meaning.terms)) else {
                continue;
            };
            let equations = all.get_or_insert_with(|| {
                Self([
                    Normal::new(unit, ANY + 1),
                    Normal::new(term, 1),
                    Normal::new(meaning.text.len(), 1),
                ])
            });
            for (at, row) in meaning.units.iter().enumerate() {
                equations.0[0].add_row(row, &unit_labels(text, at).map(f64::from));
            }
            for (at, row) in meaning.terms.iter().enumerate() {
                equations.0[1].add_row(row, &[f64::from(text.label(4, at).0)]);
            }
            equations.0[2].add_row(&meaning.text, &[f64::from(text.is_clean())]);
        }
        all
    }

    fn add(&mut self, other: &Self, times: f64) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            own.add(other, times);
        }
    }

    /// The linear functions, by head.
    fn solve(&self) -> Vec<Vec<f32>> {
        let mut linear = self.0[0].solve(UNIT_PENALTY);
        linear.extend(self.0[1].solve(TERM_PENALTY));
        linear.extend(self.0[2].solve(TEXT_PENALTY));
        debug_assert_eq!(linear.len(), HEADS);
        linear
    }
}

/// By head of units, whether its gap is in a unit.
fn unit_labels(text: &Text, at: usize) -> [bool; ANY + 1] {
    let kinds: Vec<usize> = (0..kinds().len()).filter(|kind| *kind != 4).collect();
    std::array::from_fn(|head| match kinds.get(head) {
        Some(kind) => text.label(*kind, at).0,
        None => text.any(at),
    })
}

/// By author and then by language the linear functions of the others; at last those of all.
pub(crate) fn linear(texts: &[Text], authors: usize) -> (Vec<Languages>, Languages) {
    let mut without = vec![Languages::default(); authors];
    let mut all = Languages::default();
    for language in 0..LANGUAGES {
        let own = |author: usize| {
            let of = move |text: &&Text| text.author == author && text.sample.language == language;
            Equations::of(texts.iter().filter(of))
        };
        let parts: Vec<Option<Equations>> = (0..authors).map(own).collect();
        let mut sum: Option<Equations> = None;
        for part in parts.iter().flatten() {
            match &mut sum {
                Some(sum) => sum.add(part, 1.0),
                None => sum = Some(part.clone()),
            }
        }
        let Some(sum) = sum else { continue };
        for (part, without) in parts.iter().zip(&mut without) {
            let mut others = sum.clone();
            if let Some(part) = part {
                others.add(part, -1.0);
            }
            without[language] = others.solve();
        }
        all[language] = sum.solve();
    }
    (without, all)
}

/// Linear functions by language and head.
pub(crate) type Languages = [Vec<Vec<f32>>; LANGUAGES];

/// What heads and linear functions that have not read an author say of a text.
pub(crate) struct Unmixed<'t> {
    text: &'t Text,
    said: Said,
    read: Option<Said>,
}

impl<'t> Unmixed<'t> {
    pub(crate) fn of(text: &'t Text, heads: &[Head], linear: &Languages) -> Self {
        Self {
            text,
            said: Said::by(heads, &text.sample),
            read: Said::read(&linear[text.sample.language], &text.sample),
        }
    }
}

/// Mixes each author by what the others teach.
pub(crate) fn verdicts<'t>(all: &[Unmixed<'t>]) -> Vec<Verdict<'t>> {
    let mut authors: Vec<usize> = all.iter().map(|it| it.text.author).collect();
    authors.dedup();
    let mut verdicts = Vec::new();
    for author in authors {
        let mixes = mixes(all, |text| text.author != author);
        verdicts.extend(all.iter().filter(|it| it.text.author == author).map(|it| {
            let said = match &it.read {
                Some(read) => it.said.blended(read, &mixes[it.text.sample.language]),
                None => it.said.clone(),
            };
            Verdict::new(it.text, said)
        }));
    }
    verdicts
}

/// What ships: the linear functions of all, the mixes that all teach.
pub(crate) fn blends(all: &[Unmixed<'_>], linear: Languages) -> Vec<Blend> {
    let mixes = mixes(all, |_| true);
    let both = linear.into_iter().zip(mixes);
    both.map(|(linear, mix)| Blend { linear, mix }).collect()
}

/// By language and head.
fn mixes(all: &[Unmixed<'_>], keep: impl Fn(&Text) -> bool) -> Languages {
    std::array::from_fn(|language| {
        let mut units = (Vec::new(), Vec::new());
        let mut terms = (Vec::new(), Vec::new());
        let mut texts = (Vec::new(), Vec::new());
        for it in all {
            let (text, Some(read)) = (it.text, &it.read) else {
                continue;
            };
            if text.sample.language != language || !keep(text) {
                continue;
            }
            for (at, (said, read)) in it.said.units.iter().zip(&read.units).enumerate() {
                units.0.push([said.as_slice(), read.as_slice()].concat());
                units.1.push(unit_labels(text, at));
            }
            for (at, (said, read)) in it.said.terms.iter().zip(&read.terms).enumerate() {
                terms.0.push(vec![*said, *read]);
                terms.1.push(text.label(4, at).0);
            }
            texts.0.push(vec![it.said.clean, read.clean]);
            texts.1.push(text.is_clean());
        }
        let fit = |rows: &[Vec<f32>], is: &[bool]| {
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            fit_dense(&rows, is, TRUST)
        };
        let mix = |head: usize| match head {
            TERMS => fit(&terms.0, &terms.1),
            CLEAN => fit(&texts.0, &texts.1),
            _ => {
                let is: Vec<bool> = units.1.iter().map(|labels| labels[head]).collect();
                fit(&units.0, &is)
            }
        };
        (0..HEADS).map(mix).collect()
    })
}
