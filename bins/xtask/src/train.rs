//! What is learnt from labelled data, by name: starts the trainer that lives beside it.
//!
//! Built in release: it weighs some ten million signs.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::root;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is to be learnt: feynman, the weights of the offline student.
    name: String,
}

/// Learns it and writes it to its place in the source tree.
pub(crate) fn run(args: &Args) -> Result<()> {
    let package = match args.name.as_str() {
        "feynman" => "lyceum-agents",
        other => bail!("nothing is learnt for {other:?}; there is: feynman"),
    };
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--release", "--example=train"])
        .arg(format!("--package={package}"))
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"))
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the trainer of {} ended with {status}", args.name);
    }
    Ok(())
}
