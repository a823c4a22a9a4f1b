//! The steps of `cargo xtask test`, in the order that finds the cheapest mistake first.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{root, setup};

struct Step {
    name: &'static str,
    commands: Vec<Command>,
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments);
    command
}

fn steps() -> Vec<Step> {
    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut deny = Command::new(setup::deny_path());
    // Advisories need a database from the network; the other checks do not.
    deny.args(["--offline", "check", "bans", "licenses", "sources"]);
    vec![
        Step {
            name: "format",
            commands: vec![cargo(&["fmt", "--all", "--check"])],
        },
        Step {
            name: "deny",
            // Without the network it sees only what was fetched before.
            commands: vec![cargo(&["fetch", "--locked"]), deny],
        },
        Step {
            name: "deploy",
            commands: kit(),
        },
        Step {
            name: "lint",
            commands: vec![cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ])],
        },
        Step {
            name: "docs",
            commands: vec![docs],
        },
        Step {
            name: "test",
            commands: vec![cargo(&["test", "--workspace", "--no-fail-fast"])],
        },
        Step {
            name: "contract",
            commands: vec![
                // Builds the server as the tests have it, which costs nothing after them.
                cargo(&[
                    "test",
                    "--quiet",
                    "--workspace",
                    "--no-run",
                    "--test",
                    "refusals",
                ]),
                task(&["contract"]),
            ],
        },
        Step {
            name: "examples",
            commands: examples(),
        },
    ]
}

/// The checks of `deploy/` that only read files.
fn kit() -> Vec<Command> {
    vec![task(&["ops-test", "--quick"])]
}

/// Another task of this program.
fn task(arguments: &[&str]) -> Command {
    let mut command = match std::env::current_exe() {
        Ok(this) => Command::new(this),
        Err(_) => cargo(&["xtask"]),
    };
    command.args(arguments);
    command
}

/// Every example runs to its end: none needs a key, a server or the network.
fn examples() -> Vec<Command> {
    let folder = root().join("examples/examples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| cargo(&["run", "--quiet", "-p", "lyceum-examples", "--example", name]))
        .collect()
}

/// Runs all steps, or the one named, and prints where the time went.
#[expect(
    clippy::print_stderr,
    reason = "a command line tool reports to its user"
)]
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    if only == Some("list") {
        for step in steps() {
            eprintln!("{}", step.name);
        }
        return Ok(());
    }
    let start = Instant::now();
    setup::everything()?;
    let mut times = vec![("setup", start.elapsed())];
    let mut failed = Vec::new();
    let mut found = false;
    for step in steps()
        .into_iter()
        .filter(|step| only.is_none_or(|only| only == step.name))
    {
        found = true;
        eprintln!("xtask: {}", step.name);
        let start = Instant::now();
        for mut command in step.commands {
            command.current_dir(root()).stdin(Stdio::null());
            // The local model's tests run beside others; more threads than cores make it crawl.
            command.env("CANDLE_NUM_THREADS", "1");
            let status = command
                .status()
                .with_context(|| format!("cannot start {command:?}"))?;
            if !status.success() {
                failed.push(format!("{}: {command:?}", step.name));
            }
        }
        times.push((step.name, start.elapsed()));
    }
    if !found {
        bail!("there is no such step: `cargo xtask test --only list` prints the names");
    }
    for (name, took) in &times {
        eprintln!("xtask: {name:10} {:>5} s", took.as_secs());
    }
    eprintln!(
        "xtask: total      {:>5} s",
        times
            .iter()
            .map(|(_, took)| *took)
            .sum::<Duration>()
            .as_secs()
    );
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed:\n  {}", failed.join("\n  "))
}
