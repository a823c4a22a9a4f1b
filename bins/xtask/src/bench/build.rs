//! Builds the programs that are measured, as the README's first command builds them, or takes
//! those of the folder that `LYCEUM_BENCH_PROGRAMS` names.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::say;
use crate::root;

/// The variable that names a folder with both programs, built in release.
const GIVEN: &str = "LYCEUM_BENCH_PROGRAMS";

/// The programs that are measured.
#[derive(Debug)]
pub(super) struct Programs {
    /// The server.
    pub(super) lyceum: PathBuf,
    /// The simulated provider and the users.
    pub(super) sim: PathBuf,
}

/// The part of cargo's messages that says where a program is.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

impl Programs {
    /// Builds both, where they are not given.
    pub(super) fn build() -> Result<Self> {
        if let Some(folder) = env::var_os(GIVEN) {
            let folder = PathBuf::from(folder);
            let program = |name: &str| {
                let program = folder.join(name);
                fs::canonicalize(&program)
                    .with_context(|| format!("{GIVEN}: there is no {}", program.display()))
            };
            return Ok(Self {
                lyceum: program("lyceum")?,
                sim: program("lyceum-sim")?,
            });
        }
        say("building lyceum and lyceum-sim in release");
        let built = release(&[
            "--package=lyceum",
            "--bin=lyceum",
            "--package=lyceum-sim",
            "--bin=lyceum-sim",
        ])?;
        let program = |name: &str| {
            let found = built
                .iter()
                .find(|path| path.file_stem().is_some_and(|stem| stem == name));
            found
                .cloned()
                .with_context(|| format!("cargo built no {name}"))
        };
        Ok(Self {
            lyceum: program("lyceum")?,
            sim: program("lyceum-sim")?,
        })
    }
}

/// Builds in release; gives the programs, wherever cargo's target folder is.
pub(super) fn release(what: &[&str]) -> Result<Vec<PathBuf>> {
    let output = Command::new("cargo")
        .args(["build", "--release"])
        .args(what)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the build failed");
    }
    let lines = output.stdout.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok()?.executable)
        .collect())
}
