//! `bench smoke`: what everybody feels first — the start, the size, one turn.
//!
//! Server, simulated provider and users share this machine's cores, so the rate is that of
//! all three together; the server's own share is the CPU time of a turn, which a busy
//! machine distorts least. The provider answers at once, and each turn asks it twice.
//! Everything is as the README's first command has it: conversations are kept durably, the
//! log is written, memory is consolidated in the background.

use std::{fs, time::Duration};

use anyhow::Result;

use super::{
    Figures,
    build::Programs,
    process::Memory,
    say,
    users::{Seen, Stage, Users, find, home, median, megabytes, server},
};

/// Starts of which the median counts.
const STARTS: usize = 7;
/// How long a freshly started server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// How long users talk before it counts: connections, caches and statements are made.
const WARM_UP: Duration = Duration::from_secs(2);

/// What the users of one case do, and what its figures should be.
#[derive(Debug)]
struct Case {
    name: &'static str,
    endpoint: &'static str,
    users: usize,
    seconds: u64,
    /// Figures of `lyceum-sim load` that are passed on, with their targets.
    figures: &'static [(&'static str, Option<f64>)],
}

const CASES: [Case; 3] = [
    Case {
        name: "chat-stream-1-user",
        endpoint: "chat-stream",
        users: 1,
        seconds: 5,
        figures: &[
            ("first_byte_p50", Some(5.0)),
            ("first_byte_p99", None),
            ("latency_p50", None),
        ],
    },
    Case {
        name: "chat-stream-20-users",
        endpoint: "chat-stream",
        users: 20,
        seconds: 5,
        figures: &[
            ("rate", None),
            ("first_byte_p50", Some(5.0)),
            ("first_byte_p99", None),
        ],
    },
    Case {
        name: "chat-20-users",
        endpoint: "chat",
        users: 20,
        seconds: 10,
        figures: &[
            ("rate", Some(2_000.0)),
            ("latency_p50", None),
            ("latency_p99", None),
        ],
    },
];

pub(super) fn run(figures: &Figures) -> Result<()> {
    let programs = Programs::build()?;
    let size = megabytes(fs::metadata(&programs.lyceum)?.len());
    figures.print("binary", "size", size, "MB", None)?;
    start(figures, &programs)?;
    for case in &CASES {
        under_load(figures, &programs, case)?;
    }
    Ok(())
}

/// A server without a model: how soon it answers, and what it holds when nobody asks.
fn start(figures: &Figures, programs: &Programs) -> Result<()> {
    say(&format!("starting the server {STARTS} times"));
    let mut times = Vec::new();
    let mut memories = Vec::new();
    for _ in 0..STARTS {
        let home = home(programs)?;
        let mut server = server(programs, &home, &[])?;
        times.push(server.answers("/health")?);
        std::thread::sleep(SETTLE);
        memories.push(server.memory(Memory::Now)?);
    }
    let time = median(&mut times).as_secs_f64() * 1e3;
    let memory = megabytes(median(&mut memories));
    figures.print("start", "first_health_p50", time, "ms", Some(300.0))?;
    figures.print("start", "idle_memory", memory, "MB", Some(40.0))
}

/// A server with a hosted model, and users who talk to it.
fn under_load(figures: &Figures, programs: &Programs, case: &Case) -> Result<()> {
    let (name, users) = (case.name, Users::of(case.endpoint, case.users));
    let time = Duration::from_secs(case.seconds);
    say(&format!("{name}: {} s", (WARM_UP + time).as_secs()));
    let stage = Stage::set(programs, &[], &[])?;
    let (server, url) = (&stage.server, stage.server.url());
    let warm_up = users.talk(programs, &url, WARM_UP)?;
    let before = server.cpu()?;
    let seen = users.talk(programs, &url, time)?;
    let cpu = server.cpu()? - before;
    // A wrong answer is wrong at any time.
    for metric in ["mixed_up", "errors"] {
        let Seen { value, unit, .. } = find(&seen, metric)?;
        let value = value + find(&warm_up, metric)?.value;
        figures.print(name, metric, value, unit, Some(0.0))?;
    }
    for (metric, target) in case.figures {
        let Seen { value, unit, .. } = find(&seen, metric)?;
        figures.print(name, metric, *value, unit, *target)?;
    }
    let answers = find(&seen, "answers")?.value.max(1.0);
    let micros = cpu.as_secs_f64() * 1e6 / answers;
    figures.print(name, "server_cpu", micros, "us", None)?;
    let peak = megabytes(server.memory(Memory::Peak)?);
    figures.print(name, "peak_memory", peak, "MB", None)
}
