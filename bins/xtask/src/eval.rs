//! The evaluations, by name: starts `lyceum-eval`, whose output is ours.
//!
//! It is built as the tests are, not in release: what counts is what it finds.

use std::{ffi::OsString, process::Command};

use anyhow::{Context, Result, bail};

use crate::root;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which evaluation: feynman.
    name: String,
    /// Handed to it, e.g. `--set PATH`, `--server URL`, `--table`; `-- --help` lists what it
    /// takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs one evaluation, in the folder where it was asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let status = Command::new("cargo")
        .args([
            "run",
            "--quiet",
            "--package=lyceum-bench",
            "--bin=lyceum-eval",
        ])
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .arg("--")
        .arg(&args.name)
        .args(&args.rest)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the evaluation {} ended with {status}", args.name);
    }
    Ok(())
}
