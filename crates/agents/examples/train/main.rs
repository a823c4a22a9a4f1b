//! Learns the weights of the offline student from labelled explanations and writes them to
//! `src/offline/data/student.bin`. `cargo xtask train feynman` starts it.
//!
//! The heads, and the linear functions of the encoder's numbers, learn from all sets. What they say
//! of an author whom they have not read teaches the mixes, the gate and the judge and sets the
//! threshold, and is what is printed: that is what a text by a stranger can expect. Deterministic.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

mod blend;
mod folds;
mod lessons;
mod logistic;
mod ranks;
mod ridge;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use lyceum_agents::offline::{
    evaluation,
    learned::{HEADS, Head, Model, bits_of, fingerprint, kinds},
};

use blend::Unmixed;
use lessons::{ANY, CLEAN, TERMS, Text};
use logistic::{Lesson, fit};

/// The weight of what is seen against that of staying near zero.
const TRUST: f64 = 0.1;

fn main() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tables = here.join("src/offline/data");
    let vocabulary = here.join("../encoder/data/tokenizer.json");
    if ranks::write(&vocabulary, &tables.join("en-ranks.bin"))? {
        bail!("the grades of words are new; start this again to learn with them");
    }
    let data = here.join("tests/data");
    let mut sets = vec![data.join("feynman"), data.join("feynman-blind")];
    // Who wrote these knew the rules or wrote to defeat them: no measure of a stranger.
    let strange = sets.len();
    let mut authors: Vec<_> = fs::read_dir(data.join("feynman-train"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    authors.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    authors.sort();
    sets.extend(authors);
    let mut cases = Vec::new();
    let mut texts = Vec::new();
    for (author, set) in sets.iter().enumerate() {
        let own =
            evaluation::load(set).with_context(|| format!("cannot read {}", set.display()))?;
        texts.extend(own.iter().cloned().map(|case| Text::new(case, author)));
        cases.extend(own);
    }
    let (without, linear) = blend::linear(&texts, sets.len());
    let unmixed: Vec<_> = (strange..sets.len())
        .flat_map(|author| {
            let heads = heads(&texts, |text| text.author != author);
            let linear = &without[author];
            let own = texts.iter().filter(move |text| text.author == author);
            own.map(move |text| Unmixed::of(text, &heads, linear))
                .collect::<Vec<_>>()
        })
        .collect();
    let said = blend::verdicts(&unmixed);
    folds::report(&said);
    let (gate, judge, threshold) = folds::second_stage(&said);
    let model = Model {
        fingerprint: fingerprint(&cases),
        heads: heads(&texts, |_| true),
        blends: blend::blends(&unmixed, linear),
        gate,
        judge,
        threshold,
    };
    let file = model.encode();
    println!(
        "{} texts, {} bytes, threshold {threshold:.3}",
        texts.len(),
        file.len()
    );
    fs::write(tables.join("student.bin"), file)?;
    Ok(())
}

/// Learns all heads from some of the texts.
fn heads(texts: &[Text], keep: impl Fn(&Text) -> bool) -> Vec<Head> {
    let texts: Vec<&Text> = texts.iter().filter(|text| keep(text)).collect();
    let learnt = |head: usize, lessons: &[Lesson<'_>]| {
        let (bias, weights) = fit(lessons, 1 << bits_of(head), TRUST);
        Head::rounded(bits_of(head), bias, &weights)
    };
    let of_kind = |kind: usize| {
        let mut lessons = Vec::new();
        for text in &texts {
            let rows = if kind == 4 { &text.terms } else { &text.units };
            for (at, row) in rows.iter().enumerate() {
                let (is, weight) = text.label(kind, at);
                lessons.push(Lesson { row, is, weight });
            }
        }
        lessons
    };
    let mut heads: Vec<Head> = (0..kinds().len())
        .filter(|kind| *kind != 4)
        .map(of_kind)
        .enumerate()
        .map(|(head, lessons)| learnt(head, &lessons))
        .collect();
    let mut any = Vec::new();
    for text in &texts {
        for (at, row) in text.units.iter().enumerate() {
            any.push(Lesson {
                row,
                is: text.any(at),
                weight: 1.0,
            });
        }
    }
    heads.push(learnt(ANY, &any));
    heads.push(learnt(TERMS, &of_kind(4)));
    let clean = texts.iter().map(|text| Lesson {
        row: &text.whole,
        is: text.is_clean(),
        weight: 1.0,
    });
    heads.push(learnt(CLEAN, &clean.collect::<Vec<_>>()));
    debug_assert_eq!(heads.len(), HEADS);
    heads
}
