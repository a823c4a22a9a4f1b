//! A program under measurement: started, asked, read from `/proc`, and always ended.
//!
//! Invariant: a program lives no longer than its [`Running`], also when a benchmark fails,
//! and it sees nothing of this machine's environment.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The unit of the times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux architecture
/// that Rust supports (proc_pid_stat(5)).
const TICK: Duration = Duration::from_millis(10);
/// How long a started program may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two questions to a program that does not answer yet.
const PAUSE: Duration = Duration::from_micros(500);

/// A running server; dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    started: Instant,
    /// Where it listens: `127.0.0.1:PORT`.
    address: String,
}

impl Running {
    /// Starts a program that prints its address, with the given environment alone. Its
    /// standard error goes to the file `log`.
    pub(crate) fn start(
        command: &mut Command,
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        command.stdout(Stdio::piped());
        let mut running = Self::spawn(command, environment, log, String::new())?;
        let stdout = running.child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        running.address = loop {
            let Some(line) = lines.next() else {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("{command:?} ended before it listened: {}", said.trim());
            };
            if let Some(port) = port(&line?) {
                break format!("127.0.0.1:{port}");
            }
        };
        // A full pipe would stop a program that goes on to talk.
        thread::spawn(move || lines.for_each(drop));
        Ok(running)
    }

    /// Starts a program that was told where to listen and may say anything.
    pub(super) fn start_at(
        command: &mut Command,
        environment: &[(&str, &str)],
        log: &Path,
        port: u16,
    ) -> Result<Self> {
        command.stdout(Stdio::null());
        Self::spawn(command, environment, log, format!("127.0.0.1:{port}"))
    }

    /// From here on the process ends with this value.
    fn spawn(
        command: &mut Command,
        environment: &[(&str, &str)],
        log: &Path,
        address: String,
    ) -> Result<Self> {
        command.env_clear().envs(environment.iter().copied());
        command.stdin(Stdio::null()).stderr(File::create(log)?);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            child,
            started,
            address,
        })
    }

    /// Where it listens, as `HOST:PORT`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks until `path` is answered with 200, and says how long that is after the start.
    pub(crate) fn answers(&mut self, path: &str) -> Result<Duration> {
        loop {
            if status(&self.address, path).is_ok_and(|status| status == 200) {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended ({status})");
            }
            if self.started.elapsed() > PATIENCE {
                bail!("{path} was not answered within {PATIENCE:?}");
            }
            thread::sleep(PAUSE);
        }
    }

    /// The body of `GET path`.
    pub(super) fn get(&self, path: &str) -> Result<String> {
        let answer = answer(&self.address, path)?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .context("an answer of no HTTP")?;
        Ok(body.to_owned())
    }

    /// Asks it to stop, as an operator does, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let asked = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        if !asked.success() {
            bail!("kill ended with {asked}");
        }
        self.child.wait()?;
        Ok(())
    }

    /// User and system time used so far, to 10 ms.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let text = self.proc("stat")?;
        // The second field, the program's name in brackets, may hold anything; after it
        // come the state as the third field, and utime and stime as the 14th and 15th.
        let (_, fields) = text.rsplit_once(')').context("read /proc/PID/stat")?;
        let ticks: u32 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u32>().context("read /proc/PID/stat"))
            .sum::<Result<_>>()?;
        Ok(TICK * ticks)
    }

    /// Resident memory in bytes: `now`, or the most there ever was.
    pub(super) fn memory(&self, which: Memory) -> Result<u64> {
        let name = match which {
            Memory::Now => "VmRSS:",
            Memory::Peak => "VmHWM:",
        };
        let text = self.proc("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kibibytes: u64 = kibibytes
            .with_context(|| format!("find {name} in /proc/PID/status"))?
            .trim()
            .parse()?;
        Ok(kibibytes << 10)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path} (Linux only)"))
    }
}

/// Which resident memory is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memory {
    /// What it uses.
    Now,
    /// The most that it used.
    Peak,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; what it kept is thrown away in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port of the address that a line ends with. The server also prints the address of its
/// model, which has a path.
fn port(line: &str) -> Option<u16> {
    let (_, port) = line.split_once("http://127.0.0.1:")?;
    port.trim().parse().ok()
}

/// The status of `GET path`.
fn status(address: &str, path: &str) -> Result<u16> {
    let answer = answer(address, path)?;
    let status = answer.split(' ').nth(1).context("an answer of no HTTP")?;
    Ok(status.parse()?)
}

/// The whole answer to `GET path`.
fn answer(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_model_is_not_taken_for_the_servers() {
        assert_eq!(
            port("  model    m by openai at http://127.0.0.1:9/v1"),
            None
        );
        assert_eq!(port("  page     http://127.0.0.1:8080"), Some(8080));
    }
}
