//! The same work in LangGraph, in a child of this process, and how many times ours it takes.
//!
//! Both sides await every step's storage (`durability="sync"`) and sync every commit
//! (`synchronous=FULL`); LangGraph runs on its asynchronous SQLite saver.

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

/// Our mean and CPU time of one run in microseconds, by case.
#[derive(Debug, Default)]
pub(super) struct Means(BTreeMap<String, (f64, f64)>);

impl Means {
    pub(super) fn note(&mut self, name: &str, mean_us: f64, cpu_us: f64) {
        self.0.insert(name.to_owned(), (mean_us, cpu_us));
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
    } = theirs;
    let name = format!("langgraph:{case}");
    figures.print(&name, "mean", *mean_us, "us", None)?;
    figures.print(&name, "cpu", *cpu_us, "us", None)?;
    figures.print(&name, "repeats", *repeats, "", None)?;
    let Some((our_mean, our_cpu)) = means.0.get(case) else {
        return Ok(());
    };
    let target = if case.ends_with("/none") {
        TIMES_FASTER
    } else {
        TIMES_FASTER_DURABLE
    };
    let times = mean_us / our_mean;
    figures.print(case, "times_faster", times, "", Some(target))?;
    figures.print(case, "times_less_cpu", cpu_us / our_cpu, "", None)
}
