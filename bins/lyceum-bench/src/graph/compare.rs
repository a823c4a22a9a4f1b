//! The same work in LangGraph, in a child of this process, and how many times ours it takes.
//!
//! Like is compared with like: without a saver, and with LangGraph's asynchronous SQLite saver
//! in each of the durabilities that both sides have. Both sync every commit
//! (`synchronous=FULL`). Where every step's storage is awaited the disk decides, and the ratio
//! of the commits, which is printed beside, bounds what can be won; so the target is that of
//! `async`, LangGraph's default.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use tempfile::TempDir;

use super::{TIMES_FASTER, TIMES_FASTER_DURABLE};
use crate::{
    Options,
    python::Python,
    report::{Figures, say},
};

const PROGRAM: &str = include_str!("../../python/graph.py");

/// What one run of ours takes, by case.
#[derive(Debug, Default)]
pub(super) struct Means(BTreeMap<String, Ours>);

#[derive(Debug, Clone, Copy)]
struct Ours {
    mean_us: f64,
    cpu_us: f64,
    commits: Option<f64>,
}

impl Means {
    pub(super) fn note(&mut self, name: &str, mean_us: f64, cpu_us: f64, commits: Option<f64>) {
        let ours = Ours {
            mean_us,
            cpu_us,
            commits,
        };
        self.0.insert(name.to_owned(), ours);
    }
}

/// One line of the Python program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Theirs {
    case: String,
    mean_us: f64,
    cpu_us: f64,
    repeats: f64,
    /// Of one run, with a saver.
    commits: Option<f64>,
}

/// Compares whatever was measured on our side.
pub(super) fn run(
    figures: Figures,
    options: &Options,
    home: &TempDir,
    means: &Means,
) -> Result<()> {
    let module = "langgraph, langgraph.checkpoint.sqlite.aio";
    let Some(python) = Python::with(module, options.python.as_deref())? else {
        say("no LangGraph to compare with; for one: \
             python3 -m venv V && V/bin/pip install langgraph langgraph-checkpoint-sqlite, \
             then --python V/bin/python");
        return Ok(());
    };
    say("LangGraph: the same cases");
    let data: PathBuf = home.path().join("langgraph");
    std::fs::create_dir(&data)?;
    let data = data.to_str().context("a folder whose name is no text")?;
    let seconds = if options.quick { "0.3" } else { "4" };
    let only = options.only.as_deref().unwrap_or_default();
    let text = python.run(PROGRAM, &[data, seconds, only])?;
    for line in text.lines() {
        let theirs: Theirs = serde_json::from_str(line)?;
        one(figures, &theirs, means)?;
    }
    Ok(())
}

fn one(figures: Figures, theirs: &Theirs, means: &Means) -> Result<()> {
    let Theirs {
        case,
        mean_us,
        cpu_us,
        repeats,
        commits,
    } = theirs;
    let name = format!("langgraph:{case}");
    figures.print(&name, "mean", *mean_us, "us", None)?;
    figures.print(&name, "cpu", *cpu_us, "us", None)?;
    figures.print(&name, "repeats", *repeats, "", None)?;
    if let Some(commits) = commits {
        figures.print(&name, "commits", *commits, "", None)?;
    }
    let Some(ours) = means.0.get(case) else {
        return Ok(());
    };
    let target = match case.rsplit_once('/') {
        Some((_, "none")) => Some(TIMES_FASTER),
        Some((_, "sqlite-async")) => Some(TIMES_FASTER_DURABLE),
        _ => None,
    };
    figures.print(case, "times_faster", mean_us / ours.mean_us, "", target)?;
    figures.print(case, "times_less_cpu", cpu_us / ours.cpu_us, "", None)?;
    match (commits, ours.commits) {
        (Some(theirs), Some(ours)) => figures.print(case, "commits_ratio", theirs / ours, "", None),
        _ => Ok(()),
    }
}
