//! `eval feynman`: how well a student finds the gaps of explanations whose gaps are known.
//!
//! The set is read and scored by `lyceum_agents::offline::evaluation`; this module lets a
//! student answer and prints. Deliberately absent: choosing a model. Whatever a running
//! server is configured with is measured through its own HTTP interface.

mod print;
mod server;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use lyceum_agents::offline::evaluation::{self, Case, Part, Report};

/// What is measured, and how it is shown.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The set: a folder with a TOML file a case, or a JSON Lines file with a case a line; the
    /// README of the project's own set documents the format.
    #[arg(long, value_name = "PATH", default_value_os_t = own_set())]
    set: PathBuf,
    /// Only this half: dev or holdout.
    #[arg(long, value_name = "HALF")]
    part: Option<String>,
    /// Only the cases whose name holds this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Asks the student of a running server, with whatever model it is configured with, e.g.
    /// `http://127.0.0.1:8000`; without it the offline student answers.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// JSON, one object a figure, which is the default.
    #[arg(long, conflicts_with = "table")]
    json: bool,
    /// A table for people instead of JSON.
    #[arg(long)]
    table: bool,
    /// Names every miss and false alarm on standard error.
    #[arg(long)]
    notes: bool,
}

/// The project's own set.
fn own_set() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../crates/agents/tests/data/feynman"
    ))
}

/// Runs the evaluation.
///
/// # Errors
///
/// When the set cannot be read or has no case, or when the server does not answer.
pub fn run(options: &Options) -> Result<()> {
    let cases = wanted(options)?;
    let (student, answers) = match &options.server {
        None => ("offline".to_owned(), None),
        Some(url) => {
            let (name, answers) = server::ask(url, &cases)?;
            (name, Some(answers))
        }
    };
    let measure = |keep: &dyn Fn(&Case) -> bool| -> Report {
        let own = cases.iter().enumerate().filter(|(_, case)| keep(case));
        match &answers {
            None => evaluation::evaluate(own.map(|(_, case)| case)),
            Some(answers) => {
                let mut report = Report::default();
                for (index, case) in own {
                    match &answers[index] {
                        Some(answer) => report.add(case, &answer.gaps, &answer.questions),
                        None => report.unanswered += 1,
                    }
                }
                report
            }
        }
    };
    let mut sheet = print::Sheet::new(&student, options.table);
    for language in ["all", "en", "zh"] {
        let report = measure(&|case| language == "all" || case.language == language);
        if report.clean + report.flawed + report.unanswered == 0 {
            continue;
        }
        sheet.print(language, &report)?;
        if options.notes && language == "all" {
            print::notes(&report.notes);
        }
    }
    Ok(())
}

fn wanted(options: &Options) -> Result<Vec<Case>> {
    let part = match options.part.as_deref() {
        None => None,
        Some("dev") => Some(Part::Dev),
        Some("holdout") => Some(Part::Holdout),
        Some(other) => bail!("there is no half {other:?}; there is: dev, holdout"),
    };
    let mut cases = evaluation::load(&options.set)
        .with_context(|| format!("cannot read the set {}", options.set.display()))?;
    cases.retain(|case| {
        part.is_none_or(|part| case.part == part)
            && (options.only.as_ref()).is_none_or(|text| case.name.contains(text))
    });
    if cases.is_empty() {
        bail!("no case in {} is asked for", options.set.display());
    }
    Ok(cases)
}
