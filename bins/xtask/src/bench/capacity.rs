//! `cargo xtask capacity`: what a turn, a discussion and an open stream cost, written to where
//! `lyceum capacity` reads it.
//!
//! The provider is simulated and answers at once, so that CPU is the server's alone; wall times
//! of a busy machine are not used but for one bound. Discussions are asked for by curl.

mod database;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tempfile::TempDir;

use database::Database;

use super::{
    build::Programs,
    process::{Memory, Running},
    say,
};
use crate::root;

/// Where the figures are kept.
const FIGURES: &str = "bins/lyceum/src/capacity/measured.toml";

/// Turns that are measured, and those before them that make connections and caches. All are one
/// user's, whose memories every turn looks through: few people teach as much, so this is dear.
const TURNS: u32 = 3_000;
const WARM_UP: u32 = 300;

/// Discussions that are measured.
const DISCUSSIONS: u32 = 200;

/// Streams that are open at once.
const STREAMS: u32 = 200;

/// A quota that never binds: without one a queue begins with few calls at once.
const NO_LIMIT: [(&str, &str); 2] = [
    ("LYCEUM_QUEUE__REQUESTS_PER_MINUTE", "10000000"),
    ("LYCEUM_QUEUE__MAX_CONCURRENT", "1000"),
];

#[derive(Debug, Serialize)]
struct Measured {
    day: String,
    machine: String,
    turn: Turn,
    postgres: Postgres,
    discussion: Discussion,
    server: Process,
}

#[derive(Debug, Serialize)]
struct Turn {
    cpu_us: f64,
    store_bytes: f64,
    input_tokens: f64,
    model_calls: f64,
}

#[derive(Debug, Serialize)]
struct Postgres {
    cpu_us: f64,
    transactions: f64,
    latency_ms: f64,
    bytes: f64,
}

#[derive(Debug, Serialize)]
struct Discussion {
    cpu_us: f64,
    model_calls: f64,
    input_tokens: f64,
}

#[derive(Debug, Serialize)]
struct Process {
    idle_bytes: f64,
    stream_bytes: f64,
}

/// Measures and writes.
pub(crate) fn run() -> Result<()> {
    let programs = Programs::build()?;
    let measured = Measured {
        day: today()?,
        machine: machine(),
        turn: turn(&programs)?,
        postgres: postgres(&programs)?,
        discussion: discussion(&programs)?,
        server: process(&programs)?,
    };
    let text = format!(
        "# What one unit of work costs on one machine. Written by `cargo xtask capacity`; do not edit.\n{}",
        toml::to_string(&measured)?
    );
    fs::write(root().join(FIGURES), text)?;
    say(&format!(
        "{FIGURES} is written; `UPDATE_DOCS=1 cargo test -p lyceum --test capacity` writes the page"
    ));
    Ok(())
}

/// A simulated provider, a server before it, and their folder.
struct Setup {
    _provider: Running,
    server: Running,
    home: TempDir,
}

fn setup(programs: &Programs, provider: &[&str], environment: &[(&str, &str)]) -> Result<Setup> {
    // Where temporary files are kept in memory, a durable commit would cost nothing.
    let beside = root().join("target");
    let home = tempfile::tempdir_in(beside)?;
    let mut command = Command::new(&programs.sim);
    command.arg("serve").args(provider);
    let provider = Running::start(&mut command, &[], &home.path().join("provider.log"))?;
    let server = server(programs, home.path(), &provider.url(), environment)?;
    Ok(Setup {
        _provider: provider,
        server,
        home,
    })
}

fn server(
    programs: &Programs,
    home: &Path,
    provider: &str,
    environment: &[(&str, &str)],
) -> Result<Running> {
    let base_url = format!("{provider}/v1");
    let model = [
        ("OPENAI_API_KEY", "x"),
        ("OPENAI_BASE_URL", base_url.as_str()),
        ("OLLAMA_HOST", "127.0.0.1:9"),
    ];
    let environment = [&model, &NO_LIMIT[..], environment].concat();
    let mut command = Command::new(&programs.lyceum);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(home.join("data"));
    let mut server = Running::start(&mut command, &environment, &home.join("server.log"))?;
    server.answers("/readyz")?;
    Ok(server)
}

fn turns(programs: &Programs, server: &Running, number: u32, users: u32) -> Result<()> {
    let done = Command::new(&programs.sim)
        .args(["load", "--target", &server.url(), "--endpoint", "chat"])
        .args(["--users", &users.to_string()])
        .args(["--requests", &number.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if !done.success() {
        bail!("lyceum-sim load ended with {done}");
    }
    Ok(())
}

/// The sum of the series of a metric whose labels hold a text.
fn metric(server: &Running, name: &str, label: &str) -> Result<f64> {
    let text = server.get("/metrics")?;
    let series = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
    });
    let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum())
}

/// Model calls and input tokens so far.
fn asked(server: &Running) -> Result<[f64; 2]> {
    Ok([
        metric(server, "llm_requests_total", "")?,
        metric(server, "llm_tokens_total", "kind=\"input\"")?,
    ])
}

fn turn(programs: &Programs) -> Result<Turn> {
    say("turns, kept in SQLite");
    let Setup {
        _provider: provider,
        server: mut first,
        home,
    } = setup(programs, &[], &[])?;
    turns(programs, &first, WARM_UP, 20)?;
    first.stop()?;
    let data = home.path().join("data");
    let size = bytes(&data)?;
    let mut server = server(programs, home.path(), &provider.url(), &[])?;
    turns(programs, &server, WARM_UP, 20)?;
    let (before, cpu) = (asked(&server)?, server.cpu()?);
    turns(programs, &server, TURNS, 20)?;
    let (after, cpu) = (asked(&server)?, server.cpu()? - cpu);
    server.stop()?;
    let each = f64::from(TURNS);
    Ok(Turn {
        cpu_us: rounded(cpu.as_secs_f64() * 1e6 / each),
        store_bytes: rounded((bytes(&data)? - size) as f64 / f64::from(TURNS + WARM_UP)),
        input_tokens: rounded((after[1] - before[1]) / each),
        model_calls: (after[0] - before[0]) / each,
    })
}

fn discussion(programs: &Programs) -> Result<Discussion> {
    say("discussions of the panel");
    // Eight lines a role, as a model would write them; the host keeps the dissent open.
    let script = r#"[
        {"system": "You are the host of a panel", "text": "1. OPEN, the claim has to change.\n2. OPEN, it says too much.\n"},
        {"system": "of a panel", "text": "1. A vaccine shows the body what to fight.\n2. The body makes antibodies.\n3. Memory cells stay.\n4. They answer faster.\n5. Not everybody answers.\n6. A booster helps.\n7. Side effects are rare.\n8. Herd immunity protects others.\n"}
    ]"#;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("script.json");
    fs::write(&file, script)?;
    let script = file.to_str().context("a path that is no text")?;
    let Setup {
        _provider: _stays,
        mut server,
        home: _home,
    } = setup(programs, &["--script", script], &[])?;
    discuss(&server, "panel", 20, 10)?;
    let (before, cpu) = (asked(&server)?, server.cpu()?);
    discuss(&server, "panel", DISCUSSIONS, 10)?;
    let (after, cpu) = (asked(&server)?, server.cpu()? - cpu);
    server.stop()?;
    let each = f64::from(DISCUSSIONS);
    Ok(Discussion {
        cpu_us: rounded(cpu.as_secs_f64() * 1e6 / each),
        model_calls: (after[0] - before[0]) / each,
        input_tokens: rounded((after[1] - before[1]) / each),
    })
}

fn curl(server: &Running, path: &str, number: u32, at_once: u32) -> Command {
    let body = r#"{"topic":"vaccines","text":"A vaccine trains the immune system. It always works for everybody.","rounds":3}"#;
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "--no-progress-meter",
        "--fail",
        "--parallel",
        "--parallel-immediate",
    ]);
    command.args(["--parallel-max", &at_once.to_string()]);
    command.args(["-H", "content-type: application/json", "--data", body]);
    command.args(["-o", "/dev/null"]);
    command.arg(format!("{}/{path}?number=[1-{number}]", server.url()));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn discuss(server: &Running, path: &str, number: u32, at_once: u32) -> Result<()> {
    let done = curl(server, path, number, at_once).status();
    let done = done.context("cannot start curl")?;
    if !done.success() {
        bail!("curl ended with {done}");
    }
    Ok(())
}

/// Memory of an idle server, and of one with many streams open.
fn process(programs: &Programs) -> Result<Process> {
    say("memory of open streams");
    let slow = [
        "--first-token",
        "4s",
        "--per-token",
        "20ms",
        "--output",
        "300",
    ];
    let Setup {
        _provider: _stays,
        mut server,
        home: _home,
    } = setup(programs, &slow, &[])?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = server.memory(Memory::Now)?;
    let streams = Streams(curl(&server, "panel/stream", STREAMS, STREAMS).spawn()?);
    let started = Instant::now();
    let (mut open, mut most) = (0.0_f64, 0);
    while started.elapsed() < Duration::from_secs(20) {
        open = open.max(metric(&server, "api_active_streams", "")?);
        most = most.max(server.memory(Memory::Now)?);
        std::thread::sleep(Duration::from_millis(250));
    }
    drop(streams);
    server.stop()?;
    if open < f64::from(STREAMS) {
        bail!("only {open} streams were open at once");
    }
    Ok(Process {
        idle_bytes: idle as f64,
        stream_bytes: rounded(most.saturating_sub(idle) as f64 / open),
    })
}

/// A client that is ended with its value.
struct Streams(Child);

impl Drop for Streams {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same turns kept by a PostgreSQL server of our own.
fn postgres(programs: &Programs) -> Result<Postgres> {
    say("turns, kept in PostgreSQL");
    let database = Database::start()?;
    let url = database.url();
    let store = [
        ("LYCEUM_STORE__KIND", "postgres"),
        ("LYCEUM_STORE__URL", url.as_str()),
    ];
    let Setup {
        _provider: _stays,
        mut server,
        home: _home,
    } = setup(programs, &[], &store)?;
    turns(programs, &server, WARM_UP, 20)?;
    let alone = Instant::now();
    turns(programs, &server, WARM_UP, 1)?;
    let alone = alone.elapsed();
    // Statistics of the database reach its view with a delay of about a second.
    std::thread::sleep(Duration::from_secs(2));
    let (before, cpu) = (database.figures()?, database.cpu()?);
    turns(programs, &server, TURNS, 20)?;
    std::thread::sleep(Duration::from_secs(2));
    let (after, cpu) = (database.figures()?, database.cpu()? - cpu);
    server.stop()?;
    let each = f64::from(TURNS);
    Ok(Postgres {
        cpu_us: rounded(cpu.as_secs_f64() * 1e6 / each),
        transactions: rounded((after[0] - before[0]) / each * 10.0) / 10.0,
        latency_ms: rounded(alone.as_secs_f64() * 1e4 / f64::from(WARM_UP)) / 10.0,
        bytes: rounded((after[1] - before[1]) / each),
    })
}

/// The bytes of all files below a folder.
fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() {
            bytes(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(sum)
}

fn rounded(value: f64) -> f64 {
    value.round()
}

fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%F"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = about
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, name)| name.trim());
    format!("{cores} cores of {name}, shared")
}
