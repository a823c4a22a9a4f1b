//! A server with its provider, and simulated users who talk to it.
//!
//! Invariant: a server knows nothing of this machine's keys, models and settings. Deliberately
//! absent: judging what the users saw; failed requests are figures, not an error.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use super::{build::Programs, process::Running};

/// The model that servers have and users ask for.
pub(super) const MODEL: &str = "sim-model";

/// A provider, and a server that asks it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) server: Running,
    pub(super) provider: Running,
    _home: TempDir,
}

impl Stage {
    /// Starts both, the provider with these arguments and the server with this environment.
    pub(super) fn set(
        programs: &Programs,
        provider: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let home = home(programs)?;
        let mut command = Command::new(&programs.sim);
        command.arg("serve").args(provider);
        let provider = Running::start(&mut command, &[], &home.path().join("provider.log"))?;
        let base_url = format!("{}/v1", provider.url());
        let own = [
            ("OPENAI_API_KEY", "x"),
            ("OPENAI_BASE_URL", base_url.as_str()),
            ("LYCEUM_MODEL__NAME", MODEL),
        ];
        let mut server = server(programs, &home, &[&own, environment].concat())?;
        server.answers("/health")?;
        Ok(Self {
            server,
            provider,
            _home: home,
        })
    }
}

/// A folder for one server's data, on the disk that holds the program: where temporary files
/// are kept in memory, a durable commit would cost nothing.
pub(super) fn home(programs: &Programs) -> Result<TempDir> {
    let beside = programs.lyceum.parent().context("a program in no folder")?;
    Ok(tempfile::tempdir_in(beside)?)
}

/// A server on a free port.
pub(super) fn server(
    programs: &Programs,
    home: &TempDir,
    environment: &[(&str, &str)],
) -> Result<Running> {
    let mut command = Command::new(&programs.lyceum);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(home.path().join("data"));
    // Nothing listens on port 9: an Ollama of this machine is not asked.
    let nobody = [("OLLAMA_HOST", "127.0.0.1:9")];
    let environment = [environment, &nobody].concat();
    Running::start(&mut command, &environment, &home.path().join("server.log"))
}

/// What users do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Users {
    pub(super) count: usize,
    pub(super) endpoint: &'static str,
    /// Bytes of a turn.
    pub(super) text: usize,
    /// Milliseconds between two turns.
    pub(super) think: u64,
}

/// One figure as `lyceum-sim load` prints it.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    metric: String,
    pub(super) value: f64,
    pub(super) unit: String,
}

impl Users {
    /// So many users of an endpoint, who do not think.
    pub(super) fn of(endpoint: &'static str, count: usize) -> Self {
        Self {
            count,
            endpoint,
            text: 200,
            think: 0,
        }
    }

    /// Lets them talk to whatever is at `url`, and says what they saw.
    pub(super) fn talk(&self, programs: &Programs, url: &str, time: Duration) -> Result<Vec<Seen>> {
        let output = Command::new(&programs.sim)
            .args(["load", "--target", url, "--model", MODEL])
            .args(["--endpoint", self.endpoint])
            .args(["--users", &self.count.to_string()])
            .args(["--text-bytes", &self.text.to_string()])
            .args(["--think", &format!("{}ms", self.think)])
            .args(["--duration", &format!("{}ms", time.as_millis())])
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let seen: Vec<Seen> = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        if seen.is_empty() {
            bail!("lyceum-sim load ended with {} and no figure", output.status);
        }
        Ok(seen)
    }
}

/// One of the figures.
pub(super) fn find<'a>(seen: &'a [Seen], metric: &str) -> Result<&'a Seen> {
    let found = seen.iter().find(|figure| figure.metric == metric);
    found.with_context(|| format!("lyceum-sim load said nothing of {metric}"))
}

/// Megabytes of 10^6 bytes.
pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The middle one of an odd number of values.
pub(super) fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}
