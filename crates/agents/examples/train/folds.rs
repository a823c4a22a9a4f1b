//! The second stage, and what is to be expected of an author who was not read.

use lyceum_agents::offline::learned::{Choice, Said, kinds};

use crate::{
    lessons::{Text, is_hit},
    logistic::fit_dense,
};

/// False alarms per clean text that the threshold aims at: below the bar of 0.5 by more than
/// strangers' texts differ.
const ALARMS: f64 = 0.4;
/// The weight of what is seen, for the gate and for the judge.
const GATE_TRUST: f64 = 0.05;
const JUDGE_TRUST: f64 = 1.0;

/// What heads that have not read an author say of a text.
pub(crate) struct Verdict<'t> {
    text: &'t Text,
    said: Said,
}

impl<'t> Verdict<'t> {
    pub(crate) fn new(text: &'t Text, said: Said) -> Self {
        Self { text, said }
    }
}

/// Learns the gate and the judge, each from verdicts it has not been fitted to, and the
/// threshold that keeps to [`ALARMS`].
pub(crate) fn second_stage(verdicts: &[Verdict<'_>]) -> (Vec<f32>, Vec<f32>, f32) {
    let all: Vec<&Verdict<'_>> = verdicts.iter().collect();
    let unseen = crossed(&all);
    let threshold = threshold(&unseen);
    let (gate, judge) = learnt(&all);
    (gate, judge, threshold)
}

type Judged<'v> = (&'v Verdict<'v>, Vec<Choice>);

/// Judges each author by what the others teach.
fn crossed<'v>(verdicts: &[&'v Verdict<'v>]) -> Vec<Judged<'v>> {
    let mut authors: Vec<usize> = verdicts.iter().map(|it| it.text.author).collect();
    authors.dedup();
    let mut all = Vec::new();
    for author in authors {
        let (own, others): (Vec<&Verdict<'_>>, Vec<&Verdict<'_>>) =
            verdicts.iter().partition(|it| it.text.author == author);
        let (gate, judge) = learnt(&others);
        all.extend(
            own.into_iter()
                .map(|it| (it, it.said.judged(&gate, &judge))),
        );
    }
    all
}

fn learnt(verdicts: &[&Verdict<'_>]) -> (Vec<f32>, Vec<f32>) {
    let inputs: Vec<_> = verdicts.iter().map(|it| it.said.gate_inputs()).collect();
    let clean: Vec<bool> = verdicts.iter().map(|it| it.text.is_clean()).collect();
    let rows: Vec<&[f32]> = inputs.iter().map(<[f32; _]>::as_slice).collect();
    let gate = fit_dense(&rows, &clean, GATE_TRUST);
    let (mut inputs, mut is) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        for (kind, at, row) in verdict.said.judge_inputs(verdict.said.clean_by(&gate)) {
            inputs.push(row);
            is.push(verdict.text.label(kind, at).0);
        }
    }
    let rows: Vec<&[f32]> = inputs.iter().map(<[f32; _]>::as_slice).collect();
    let judge = fit_dense(&rows, &is, JUDGE_TRUST);
    (gate, judge)
}

fn threshold(judged: &[Judged<'_>]) -> f32 {
    let (mut low, mut high) = (-10.0_f32, 6.0_f32);
    for _ in 0..30 {
        let middle = f32::midpoint(low, high);
        if Figures::of(judged, middle.exp()).alarms() > ALARMS {
            low = middle;
        } else {
            high = middle;
        }
    }
    high.exp()
}

/// Prints what is found of authors that were not read, at a threshold that the others set.
pub(crate) fn report(verdicts: &[Verdict<'_>]) {
    let all: Vec<&Verdict<'_>> = verdicts.iter().collect();
    let judged = crossed(&all);
    let mut sum = Figures::default();
    let mut languages = [Figures::default(), Figures::default()];
    let mut authors: Vec<usize> = judged.iter().map(|(it, _)| it.text.author).collect();
    authors.dedup();
    for author in authors {
        let (own, others): (Vec<Judged<'_>>, Vec<Judged<'_>>) = judged
            .iter()
            .cloned()
            .partition(|(it, _)| it.text.author == author);
        let threshold = threshold(&others);
        let figures = Figures::of(&own, threshold);
        println!("author {author}: {figures}");
        for (verdict, choices) in &own {
            sum.add(verdict, choices, threshold);
            let chinese = usize::from(verdict.text.case.language == "zh");
            languages[chinese].add(verdict, choices, threshold);
        }
    }
    println!("en: {}\nzh: {}\nall: {sum}", languages[0], languages[1]);
    for (kind, [planted, hits, alarms]) in kinds().iter().zip(sum.kinds) {
        println!("  {}: {hits} of {planted}, {alarms} false", kind.as_str());
    }
    for alarms in [0.4, 0.5, 0.9, 1.5, 3.0] {
        let (mut low, mut high) = (-10.0_f32, 6.0_f32);
        for _ in 0..30 {
            let middle = f32::midpoint(low, high);
            match Figures::of(&judged, middle.exp()).alarms() > alarms {
                true => low = middle,
                false => high = middle,
            }
        }
        println!("at more alarms: {}", Figures::of(&judged, high.exp()));
    }
}

#[derive(Default)]
struct Figures {
    planted: usize,
    hits: usize,
    clean: usize,
    alarms: usize,
    flawed: usize,
    reported: usize,
    kinds: [[usize; 3]; 11],
}

impl Figures {
    fn of(judged: &[Judged<'_>], threshold: f32) -> Self {
        let mut figures = Self::default();
        for (verdict, choices) in judged {
            figures.add(verdict, choices, threshold);
        }
        figures
    }

    fn add(&mut self, verdict: &Verdict<'_>, choices: &[Choice], threshold: f32) {
        let text = verdict.text;
        let chosen = verdict.said.chosen(choices, threshold);
        if text.is_clean() {
            self.clean += 1;
            self.alarms += chosen.len();
            for choice in &chosen {
                self.kinds[choice.kind][2] += 1;
            }
        } else {
            self.flawed += 1;
            self.reported += chosen.len();
        }
        for gap in &text.case.gaps {
            let hit = chosen.iter().any(|choice| {
                let item = text.items(choice.kind).get(choice.at);
                kinds()[choice.kind] == gap.kind
                    && item.is_some_and(|item| is_hit(&text.case.text, gap, item))
            });
            self.planted += 1;
            self.hits += usize::from(hit);
            if let Some(kind) = kinds().iter().position(|kind| *kind == gap.kind) {
                self.kinds[kind][0] += 1;
                self.kinds[kind][1] += usize::from(hit);
            }
        }
    }

    fn alarms(&self) -> f64 {
        self.alarms as f64 / self.clean.max(1) as f64
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "found {:.1} % of {}, {:.2} false alarms per clean text ({}), {:.1} reported per flawed text",
            self.hits as f64 * 100.0 / self.planted.max(1) as f64,
            self.planted,
            self.alarms(),
            self.clean,
            self.reported as f64 / self.flawed.max(1) as f64,
        )
    }
}
