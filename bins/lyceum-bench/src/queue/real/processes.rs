//! Processes that a case starts: callers, and a Redis of its own. Dropping one ends it.

use std::{env, net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child as Process, Command},
    task::JoinHandle,
};

use super::caller::{Orders, Tally};

/// A process of callers.
pub(super) struct Child {
    process: Process,
    /// Reads its lines and keeps the last.
    last: JoinHandle<Result<Tally>>,
}

impl Child {
    pub(super) fn start(orders: &Orders) -> Result<Self> {
        let mut program = env::current_exe()?;
        program.set_file_name(format!("lyceum-bench-callers{}", env::consts::EXE_SUFFIX));
        let mut process = Command::new(&program)
            .arg(serde_json::to_string(orders)?)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}, which `--bins` builds", program.display()))?;
        let output = process.stdout.take().context("no output")?;
        let last = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            let mut last = None;
            while let Some(line) = lines.next_line().await? {
                // A killed process may leave half a line.
                last = serde_json::from_str(&line).ok().or(last);
            }
            last.context("callers who said nothing")
        });
        Ok(Self { process, last })
    }

    /// Kills it, as SIGKILL does, and returns what it told.
    pub(super) async fn kill(mut self) -> Result<Tally> {
        self.process.kill().await?;
        self.last.await?
    }

    /// Waits for its end.
    pub(super) async fn end(mut self) -> Result<Tally> {
        let status = self.process.wait().await?;
        if !status.success() {
            bail!("callers ended with {status}");
        }
        self.last.await?
    }
}

/// A Redis server on a free port.
pub(super) struct Redis {
    _process: Process,
    _dir: TempDir,
    port: u16,
}

impl Redis {
    pub(super) fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start redis-server, which `cargo xtask setup` installs")?;
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(Self {
                    _process: process,
                    _dir: dir,
                    port,
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("redis-server does not answer")
    }

    pub(super) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
