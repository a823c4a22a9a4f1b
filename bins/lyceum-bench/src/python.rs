//! Runs a Python program beside a benchmark, if there is a Python that can.
//!
//! Deliberately absent: installing anything; the user is told the line that does.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A Python that has the wanted module.
#[derive(Debug)]
pub struct Python {
    program: PathBuf,
}

impl Python {
    /// Finds a Python that imports `module`: the given one, else `python3`. `None` when it
    /// cannot.
    ///
    /// # Errors
    ///
    /// When a Python was given and it cannot.
    pub fn with(module: &str, given: Option<&Path>) -> Result<Option<Self>> {
        let program = given.unwrap_or(Path::new("python3")).to_owned();
        let mut probe = Command::new(&program);
        probe.args(["-c", &format!("import {module}")]);
        let can = probe
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        match (can, given) {
            (true, _) => Ok(Some(Self { program })),
            (false, None) => Ok(None),
            (false, Some(given)) => bail!("{} cannot import {module}", given.display()),
        }
    }

    /// Runs a program and gives what it printed; its errors go to standard error.
    ///
    /// # Errors
    ///
    /// When it ends with a failure.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut child = Command::new(&self.program)
            .arg("-")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(program.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{} ended with {}", self.program.display(), output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
