//! `bench telemetry`: what logs and traces cost a turn of `/chat`.
//!
//! Servers with everything (JSON lines of every request, all traces sent to a collector, the
//! metrics scraped) and with nothing take turns, because a busy machine changes while one
//! measures. The collector is a thread of ours that reads and throws away. The server's CPU of
//! a turn is the figure that a busy machine distorts least; the rate is that of server,
//! provider, users and collector on the same cores.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Result, bail};
use serde::Deserialize;

use super::{Figures, build::Programs, process::Running, say};
use crate::root;

/// How often each server is measured.
const ROUNDS: usize = 5;
const USERS: &str = "20";
const TURNS: u32 = 1_000;
const WARM_UP: u32 = 200;

/// A turn with this kind of server.
#[derive(Debug, Clone, Copy)]
struct Turn {
    cpu_us: f64,
    rate: f64,
}

pub(super) fn run(figures: &Figures) -> Result<()> {
    let programs = Programs::build()?;
    let collector = Collector::start()?;
    let endpoint = format!("http://{}", collector.address);
    let quiet = [("LYCEUM_LOG__FILTER", "off")];
    let whole = [
        ("LYCEUM_LOG__FILTER", "info"),
        ("LYCEUM_LOG__FORMAT", "json"),
        ("LYCEUM_TRACES__ENDPOINT", endpoint.as_str()),
    ];
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}"));
        without.push(turns(&programs, &quiet)?);
        with.push(turns(&programs, &whole)?);
    }
    if collector.bytes.load(Ordering::Relaxed) == 0 {
        bail!("the collector got no spans");
    }
    let cpu = |turns: &[Turn]| median(turns.iter().map(|turn| turn.cpu_us));
    let rate = |turns: &[Turn]| median(turns.iter().map(|turn| turn.rate));
    for (case, turns) in [("without", &without), ("with", &with)] {
        figures.print(case, "server_cpu", cpu(turns), "us", None)?;
        figures.print(case, "rate", rate(turns), "1/s", None)?;
    }
    let more = 100.0 * (cpu(&with) / cpu(&without) - 1.0);
    let less = 100.0 * (1.0 - rate(&with) / rate(&without));
    figures.print("overhead", "server_cpu", more, "%", None)?;
    figures.print("overhead", "rate", less, "%", Some(5.0))?;
    let turns = f64::from(TURNS + WARM_UP) * ROUNDS as f64;
    let bytes = collector.bytes.load(Ordering::Relaxed) as f64 / turns;
    figures.print("with", "spans_sent", bytes, "bytes", None)
}

/// Turns with a fresh server.
fn turns(programs: &Programs, environment: &[(&str, &str)]) -> Result<Turn> {
    let home = tempfile::tempdir_in(root().join("target"))?;
    let mut command = Command::new(&programs.sim);
    let provider = Running::start(command.arg("serve"), &[], &home.path().join("provider.log"))?;
    let base_url = format!("{}/v1", provider.url());
    let model = [
        ("OPENAI_API_KEY", "x"),
        ("OPENAI_BASE_URL", base_url.as_str()),
        ("OLLAMA_HOST", "127.0.0.1:9"),
    ];
    let environment = [&model, environment].concat();
    let mut command = Command::new(&programs.lyceum);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(home.path().join("data"));
    let log = home.path().join("server.log");
    let mut server = Running::start(&mut command, &environment, &log)?;
    server.answers("/readyz")?;
    load(programs, &server, WARM_UP)?;
    let before = server.cpu()?;
    let rate = load(programs, &server, TURNS)?;
    let _scraped = server.get("/metrics")?;
    let cpu = server.cpu()? - before;
    server.stop()?;
    let has_lines = fs::metadata(&log)?.len() > u64::from(TURNS);
    let is_whole = environment
        .iter()
        .any(|(name, _)| *name == "LYCEUM_TRACES__ENDPOINT");
    if has_lines != is_whole {
        bail!("the log is not as it should be: {}", log.display());
    }
    Ok(Turn {
        cpu_us: cpu.as_secs_f64() * 1e6 / f64::from(TURNS),
        rate,
    })
}

#[derive(Debug, Deserialize)]
struct Seen {
    metric: String,
    value: f64,
}

/// Lets users talk; turns a second.
fn load(programs: &Programs, server: &Running, requests: u32) -> Result<f64> {
    let output = Command::new(&programs.sim)
        .args(["load", "--target", &server.url(), "--endpoint", "chat"])
        .args(["--users", USERS, "--requests", &requests.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let seen = text.lines().map(serde_json::from_str::<Seen>);
    let mut rate = None;
    for figure in seen {
        let figure = figure?;
        match figure.metric.as_str() {
            "errors" | "mixed_up" if figure.value > 0.0 => bail!("{figure:?}"),
            "rate" => rate = Some(figure.value),
            _ => {}
        }
    }
    rate.map_or_else(|| bail!("lyceum-sim load said no rate"), Ok)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Takes what is posted to it, and counts its bytes.
struct Collector {
    address: std::net::SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Collector {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // It ends with its connection.
                thread::spawn(move || take(stream, &counted).ok());
            }
        });
        Ok(Self { address, bytes })
    }
}

/// Answers the requests of one connection.
fn take(stream: TcpStream, counted: &AtomicU64) -> Result<()> {
    let mut answers = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let read = std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        counted.fetch_add(read, Ordering::Relaxed);
        answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
