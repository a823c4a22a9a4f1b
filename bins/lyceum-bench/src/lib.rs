//! Measures Lyceum's crates in process, and what they are compared with beside them.
//!
//! A benchmark is one module with a `run`, named in `main.rs`; it measures with [`measure`]
//! and prints with [`report`]. Invariant: a figure is printed only after the work that it
//! measures gave the right result. Deliberately absent: judging; who reads the figures does.

pub mod eval;
pub mod graph;
pub mod llm;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod python;
pub mod queue;
pub mod report;
pub mod tools;

use std::path::PathBuf;

/// What a benchmark is run with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Fewer repeats: seconds instead of minutes, and figures of little weight.
    pub quick: bool,
    /// The Python to compare with; `None` looks for `python3`.
    pub python: Option<PathBuf>,
    /// Runs only the cases whose name holds this text.
    pub only: Option<String>,
    /// Where files are written; on the disk whose durability is measured.
    pub data: PathBuf,
}

impl Options {
    /// Whether a case is to be run.
    #[must_use]
    pub fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.contains(only))
    }
}
