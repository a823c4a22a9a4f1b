//! `bench gateway`: what the server adds to a call of a model, and what a crowd of connections
//! costs.
//!
//! Queue, limits and metrics are on, as the README's first command has them. Server, provider and
//! users share this machine's cores, so the figures to go by are the processor time of the
//! server beside that of the provider for the same calls, and the memory; times to a first byte
//! are taken through the server and without it, one after the other.

mod crowd;
mod litellm;

use std::time::Duration;

use anyhow::Result;

use super::{
    Figures,
    build::Programs,
    process::{Memory, Running},
    say,
    users::{Stage, Users, find, home, median, megabytes, server},
};

const WARM_UP: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(8);
/// Users without a pause, for what a call costs.
const BUSY: usize = 20;
/// Bytes of a call's text.
const TEXT: usize = 1024;
/// Starts of which the median counts.
const STARTS: usize = 7;

pub(super) fn run(figures: &Figures) -> Result<()> {
    let programs = Programs::build()?;
    start(figures, &programs)?;
    completion(figures, &programs, "openai")?;
    completion(figures, &programs, "openai-stream")?;
    completion(figures, &programs, "anthropic")?;
    paced(figures, &programs)?;
    chat(figures, &programs)?;
    crowd::streams(figures, &programs)?;
    crowd::idle(figures, &programs)
}

fn start(figures: &Figures, programs: &Programs) -> Result<()> {
    say(&format!("starting the server {STARTS} times"));
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let home = home(programs)?;
        times.push(server(programs, &home, &[])?.answers("/health")?);
    }
    let time = median(&mut times).as_secs_f64() * 1e3;
    figures.print("start", "first_health_p50", time, "ms", Some(100.0))
}

/// What a call of a model costs the server, beside what it costs the provider.
fn completion(figures: &Figures, programs: &Programs, endpoint: &'static str) -> Result<()> {
    let name = format!("{endpoint}-1-kib");
    say(&name);
    let stage = Stage::set(programs, &[], &[])?;
    let users = Users {
        text: TEXT,
        ..Users::of(endpoint, BUSY)
    };
    let cost = Cost::of(&users, programs, &stage.server, &stage.provider)?;
    figures.print(&name, "errors", cost.errors, "1", Some(0.0))?;
    figures.print(&name, "rate", cost.rate, "1/s", None)?;
    figures.print(&name, "server_cpu", cost.server, "us", None)?;
    figures.print(&name, "provider_cpu", cost.provider, "us", None)?;
    let ratio = cost.server / cost.provider;
    figures.print(&name, "cpu_ratio", ratio, "1", Some(5.0))?;
    figures.print(&name, "per_core", 1e6 / cost.server, "1/s", None)?;
    if endpoint == "openai" {
        litellm::beside(figures, programs, &users, cost.server)?;
    }
    Ok(())
}

/// Processor time of a call, in microseconds, and what the users saw.
#[derive(Debug)]
struct Cost {
    server: f64,
    provider: f64,
    rate: f64,
    errors: f64,
}

impl Cost {
    fn of(
        users: &Users,
        programs: &Programs,
        server: &Running,
        provider: &Running,
    ) -> Result<Self> {
        let url = server.url();
        let warm_up = users.talk(programs, &url, WARM_UP)?;
        let before = (server.cpu()?, provider.cpu()?);
        let seen = users.talk(programs, &url, TIME)?;
        let (server, provider) = (server.cpu()? - before.0, provider.cpu()? - before.1);
        let answers = find(&seen, "answers")?.value.max(1.0);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / answers;
        Ok(Self {
            server: each(server),
            provider: each(provider),
            rate: find(&seen, "rate")?.value,
            errors: find(&seen, "errors")?.value + find(&warm_up, "errors")?.value,
        })
    }
}

/// What 1,000 calls a second wait longer for when they go through the server.
fn paced(figures: &Figures, programs: &Programs) -> Result<()> {
    let name = "openai-1000-per-second";
    say(name);
    let stage = Stage::set(programs, &["--first-token", "20ms"], &[])?;
    // A turn takes 20 ms and a little, and the pause after it the rest of a second.
    let users = Users {
        think: 980,
        ..Users::of("openai", 1_000)
    };
    let mut times = Vec::new();
    for url in [stage.provider.url(), stage.server.url()] {
        users.talk(programs, &url, WARM_UP)?;
        let seen = users.talk(programs, &url, TIME)?;
        let time = |metric| find(&seen, metric).map(|seen| seen.value);
        times.push((time("latency_p50")?, time("latency_p99")?, time("rate")?));
    }
    let (direct, through) = (times[0], times[1]);
    figures.print(name, "rate", through.2, "1/s", None)?;
    figures.print(name, "added_p50", through.0 - direct.0, "ms", Some(0.35))?;
    figures.print(name, "added_p99", through.1 - direct.1, "ms", Some(0.45))
}

/// A whole turn with the student: two calls of a model, kept durably.
fn chat(figures: &Figures, programs: &Programs) -> Result<()> {
    let name = "chat-20-users";
    say(name);
    let stage = Stage::set(programs, &[], &[])?;
    let users = Users::of("chat", BUSY);
    let cost = Cost::of(&users, programs, &stage.server, &stage.provider)?;
    figures.print(name, "errors", cost.errors, "1", Some(0.0))?;
    figures.print(name, "rate", cost.rate, "1/s", Some(2_100.0))?;
    figures.print(name, "server_cpu", cost.server, "us", Some(400.0))?;
    let peak = megabytes(stage.server.memory(Memory::Peak)?);
    figures.print(name, "peak_memory", peak, "MB", None)
}
