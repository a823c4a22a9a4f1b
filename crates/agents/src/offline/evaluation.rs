//! Measures a student against explanations with planted, labelled gaps.
//!
//! A case is one TOML file, or a line of a JSON Lines file (see [`Case`]);
//! `crates/agents/tests/data/feynman` holds the project's own set. [`Report::add`] takes any student's answer, so a model is measured
//! with the same ruler as the offline student. Deliberately absent: asking a model.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use lyceum_core::{Gap, GapKind, Turn};
use serde::Deserialize;

use super::{Lecture, analyse, questions};

/// Turns after the first in which the offline student is told the same again.
const LATER_TURNS: usize = 3;

/// The two halves of a set that rules were written with. Weights are learnt from whole sets, so
/// neither half says what they find in texts of strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Looked at while the rules are written.
    Dev,
    /// Not looked at for them.
    #[default]
    Holdout,
}

/// One explanation and what is wrong with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The file's name without its ending, and the line's number in a file of many; filled in
    /// by [`load`].
    #[serde(skip)]
    pub name: String,
    /// Which half it belongs to.
    #[serde(default)]
    pub part: Part,
    /// `en` or `zh`.
    pub language: String,
    /// The subject it comes from, e.g. `biology`.
    pub subject: String,
    /// How it is told, e.g. `spoken`, `textbook`, `terse`, `rambling`.
    pub style: String,
    /// What is explained.
    pub topic: String,
    /// The explanation.
    pub text: String,
    /// What was said before, oldest first.
    #[serde(default)]
    pub earlier: Vec<Turn>,
    /// The planted gaps; none in a clean control.
    #[serde(default, rename = "gap")]
    pub gaps: Vec<Planted>,
}

/// One planted gap.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planted {
    /// Its kind.
    pub kind: GapKind,
    /// The words it is in; empty where the whole text lacks something.
    #[serde(default)]
    pub quote: String,
    /// Words of the answer, which no question may contain.
    #[serde(default)]
    pub answer: Vec<String>,
}

/// Why a set could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or the folder is not readable.
    #[error("read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is no case.
    #[error("understand line {line} of {path}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is no case.
    #[error("understand {path}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A planted quote is not in its text.
    #[error("find the quote {quote:?} in the text of {path}")]
    Quote {
        /// Which file.
        path: PathBuf,
        /// The quote.
        quote: String,
    },
}

/// Reads a set: a `*.jsonl` file with a case a line, or a folder with such files and with
/// `*.toml` files of one case each, in the order of their names.
///
/// # Errors
///
/// [`LoadError::Io`] when something cannot be read, [`LoadError::Toml`], [`LoadError::Json`]
/// and [`LoadError::Quote`] when a file is not a valid case.
pub fn load(set: &Path) -> Result<Vec<Case>, LoadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Io { path, source }
    };
    let mut paths = Vec::new();
    if set.is_dir() {
        for entry in fs::read_dir(set).map_err(io(set))? {
            paths.push(entry.map_err(io(set))?.path());
        }
        paths.sort();
    } else {
        paths.push(set.to_owned());
    }
    let mut cases = Vec::new();
    for path in paths {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        match ending {
            Some("toml") => {
                let text = fs::read_to_string(&path).map_err(io(&path))?;
                let case = toml::from_str(&text).map_err(|source| LoadError::Toml {
                    path: path.clone(),
                    source: Box::new(source),
                })?;
                cases.push(checked(case, stem.into_owned(), &path)?);
            }
            Some("jsonl") => {
                let text = fs::read_to_string(&path).map_err(io(&path))?;
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                for (line, text) in lines.enumerate() {
                    let line = line + 1;
                    let case = serde_json::from_str(text).map_err(|source| LoadError::Json {
                        path: path.clone(),
                        line,
                        source,
                    })?;
                    cases.push(checked(case, format!("{stem}-{line}"), &path)?);
                }
            }
            _ => {}
        }
    }
    Ok(cases)
}

fn checked(mut case: Case, name: String, path: &Path) -> Result<Case, LoadError> {
    case.name = name;
    match case.gaps.iter().find(|gap| !case.text.contains(&gap.quote)) {
        Some(gap) => Err(LoadError::Quote {
            quote: gap.quote.clone(),
            path: path.to_owned(),
        }),
        None => Ok(case),
    }
}

/// Hits of one kind of gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindCount {
    /// How often it was planted.
    pub planted: usize,
    /// How often a planted one was found.
    pub hits: usize,
    /// How often it was reported in clean texts.
    pub false_alarms: usize,
}

/// What came of a set.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Explanations with planted gaps.
    pub flawed: usize,
    /// Clean controls.
    pub clean: usize,
    /// Planted gaps.
    pub planted: usize,
    /// Planted gaps that were reported with their kind and place.
    pub hits: usize,
    /// Planted gaps that a question quotes, whatever kind was reported.
    pub asked: usize,
    /// Gaps reported in clean controls.
    pub false_alarms: usize,
    /// Questions asked.
    pub questions: usize,
    /// Questions asked about texts whose answers are known, in which a leak can be seen.
    pub judged: usize,
    /// Cases that nobody answered.
    pub unanswered: usize,
    /// Questions that quote the learner.
    pub quoting: usize,
    /// Questions that contain words of an answer.
    pub leaks: usize,
    /// Questions, or gaps, that were there before.
    pub duplicates: usize,
    /// Gaps whose quote is not in the text.
    pub misquotes: usize,
    /// By kind.
    pub kinds: BTreeMap<GapKind, KindCount>,
    /// One line for each miss and false alarm, for those who tune.
    pub notes: Vec<String>,
}

impl Report {
    /// Counts a student's answer to a case.
    pub fn add(&mut self, case: &Case, gaps: &[Gap], questions: &[String]) {
        if case.gaps.is_empty() {
            self.clean += 1;
            self.false_alarms += gaps.len();
            for gap in gaps {
                self.kinds.entry(gap.kind).or_default().false_alarms += 1;
                let (kind, quote) = (gap.kind.as_str(), &gap.quote);
                self.notes
                    .push(format!("{}: false {kind} {quote:?}", case.name));
            }
        } else {
            self.flawed += 1;
        }
        for planted in &case.gaps {
            let hit = gaps.iter().any(|gap| is_hit(&case.text, planted, gap));
            let count = self.kinds.entry(planted.kind).or_default();
            count.planted += 1;
            count.hits += usize::from(hit);
            self.planted += 1;
            self.hits += usize::from(hit);
            let asked = questions.iter().any(|question| {
                quotes(question).any(|quote| overlaps(&case.text, &planted.quote, quote))
            });
            self.asked += usize::from(asked);
            if !hit {
                let (kind, quote) = (planted.kind.as_str(), &planted.quote);
                self.notes
                    .push(format!("{}: missed {kind} {quote:?}", case.name));
            }
        }
        self.misquotes += gaps
            .iter()
            .filter(|gap| !case.text.contains(&gap.quote))
            .count();
        let mut seen = HashSet::new();
        for gap in gaps {
            self.duplicates += usize::from(!seen.insert((gap.kind, gap.quote.clone())));
        }
        let mut seen = HashSet::new();
        for question in questions {
            self.questions += 1;
            self.quoting += usize::from(quotes(question).any(|quote| case.text.contains(quote)));
            self.duplicates += usize::from(!seen.insert(question.to_lowercase()));
            let lower = question.to_lowercase();
            let said = case.text.to_lowercase();
            let leaked = case.gaps.iter().flat_map(|gap| &gap.answer).any(|answer| {
                let answer = answer.to_lowercase();
                lower.contains(&answer) && !said.contains(&answer)
            });
            self.judged += usize::from(case.gaps.iter().any(|gap| !gap.answer.is_empty()));
            self.leaks += usize::from(leaked);
        }
    }

    /// Counts the questions of a later turn that were asked before.
    pub fn add_later(&mut self, earlier: &[String], later: &[String]) {
        let normal = |text: &String| text.to_lowercase();
        let asked: HashSet<String> = earlier.iter().map(normal).collect();
        let again = later.iter().filter(|text| asked.contains(&normal(text)));
        self.duplicates += again.count();
    }

    /// Planted gaps found, 0–1.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        rate(self.hits, self.planted)
    }

    /// Gaps reported in a clean text on average.
    #[must_use]
    pub fn false_alarms_per_clean_text(&self) -> f64 {
        rate(self.false_alarms, self.clean)
    }

    /// Questions that quote the learner, 0–1.
    #[must_use]
    pub fn quote_rate(&self) -> f64 {
        rate(self.quoting, self.questions)
    }

    /// Questions that contain words of an answer, of those in which that can be seen, 0–1.
    #[must_use]
    pub fn leak_rate(&self) -> f64 {
        rate(self.leaks, self.judged)
    }

    /// Repeated questions and gaps per question, 0 when nothing is repeated.
    #[must_use]
    pub fn duplicate_rate(&self) -> f64 {
        rate(self.duplicates, self.questions)
    }
}

/// Measures the offline student.
#[must_use]
pub fn evaluate<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Report {
    let mut report = Report::default();
    for case in cases {
        let lecture = Lecture {
            topic: &case.topic,
            text: &case.text,
            earlier: &case.earlier,
            recalled: &[],
        };
        let gaps = analyse(&lecture);
        let mut asked = questions(&lecture, &gaps, &[]);
        report.add(case, &gaps, &asked);
        // Who explains the same again is asked something else.
        for _ in 0..LATER_TURNS {
            let later = questions(&lecture, &gaps, &asked);
            report.add_later(&asked, &later);
            asked.extend(later);
        }
    }
    report
}

fn rate(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// Whether a reported gap is the planted one: its kind, at its place.
fn is_hit(text: &str, planted: &Planted, gap: &Gap) -> bool {
    gap.kind == planted.kind
        && (planted.quote.is_empty() || overlaps(text, &planted.quote, &gap.quote))
}

/// Whether two pieces of a text overlap where they first occur, or one holds the other.
fn overlaps(text: &str, a: &str, b: &str) -> bool {
    if a.is_empty() || b.is_empty() {
        return false;
    }
    if a.contains(b) || b.contains(a) {
        return true;
    }
    let (Some(a_at), Some(b_at)) = (text.find(a), text.find(b)) else {
        return false;
    };
    a_at < b_at + b.len() && b_at < a_at + a.len()
}

/// The quoted pieces of a question, in whatever marks.
fn quotes(question: &str) -> impl Iterator<Item = &str> {
    const MARKS: [(char, char); 5] = [
        ('“', '”'),
        ('「', '」'),
        ('『', '』'),
        ('‘', '’'),
        ('«', '»'),
    ];
    let paired = MARKS.into_iter().flat_map(move |(opening, closing)| {
        question
            .match_indices(opening)
            .filter_map(move |(at, mark)| {
                let inside = &question[at + mark.len()..];
                inside.find(closing).map(|end| &inside[..end])
            })
    });
    // Straight marks open and close alike: every other piece stands between two.
    let straight = question.split('"').skip(1).step_by(2);
    let closed = question.matches('"').count() / 2;
    paired
        .chain(straight.take(closed))
        .filter(|quote| !quote.is_empty())
}

#[cfg(test)]
mod tests {
    use super::quotes;

    #[test]
    fn quotes_are_found_in_all_marks() {
        let found: Vec<&str> = quotes("“a” and \"b\" and 「c」, \"d\" but not \"e").collect();
        assert_eq!(found, ["a", "c", "b", "d"]);
    }
}
