//! Builds `lyceum-bench` in release and starts one of its benchmarks, whose output is ours.

use std::{ffi::OsString, process::Command};

use anyhow::{Context, Result, bail};

use super::{build, say};

/// Runs the benchmark with the rest of the command line.
pub(super) fn run(name: &str, rest: &[OsString]) -> Result<()> {
    say("building lyceum-bench in release");
    let programs = build::release(&["--package=lyceum-bench", "--bins"])?;
    let program = programs
        .iter()
        .find(|path| path.file_stem().is_some_and(|stem| stem == "lyceum-bench"))
        .context("cargo built no lyceum-bench")?;
    let status = Command::new(program).arg(name).args(rest).status()?;
    if !status.success() {
        bail!("lyceum-bench {name} ended with {status}");
    }
    Ok(())
}
