//! Many connections at once: streams that wait in the line for the model, and idle ones.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::{
    Figures,
    build::Programs,
    process::{Memory, Running},
    say,
    users::{Stage, megabytes},
};

const CROWD: usize = 10_000;
/// Opened by one thread after another, as people come.
const OPENERS: usize = 4;
/// New streams, one after the other, while the crowd waits.
const PROBES: usize = 200;
/// How long a stream may keep silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long connections are left alone before memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// 10,000 learners wait for a model that answers a few, and hear how long; what their streams hold, and how soon a new one hears.
pub(super) fn streams(figures: &Figures, programs: &Programs) -> Result<()> {
    let name = "streams-10000";
    say(name);
    more_files()?;
    // The model answers nobody while the crowd is there.
    let provider = ["--first-token", "600s"];
    let environment = [
        ("LYCEUM_QUEUE__MAX_CONCURRENT", "50"),
        ("LYCEUM_QUEUE__CAPACITY", "20000"),
        ("LYCEUM_SERVER__MAX_STREAMS", "20000"),
    ];
    let stage = Stage::set(programs, &provider, &environment)?;
    let alone = first_events(&stage.server, 0)?;
    let before = stage.server.memory(Memory::Now)?;
    let streams = at_once(|n| stream(&stage.server, n + PROBES))?;
    let heard = streams.iter().filter(|(_, heard)| heard.is_some()).count();
    let crowded = first_events(&stage.server, CROWD + PROBES)?;
    thread::sleep(SETTLE);
    let memory = stage.server.memory(Memory::Now)?.saturating_sub(before);
    let peak = stage.server.memory(Memory::Peak)?;
    figures.print(name, "heard", heard as f64, "1", Some(CROWD as f64))?;
    figures.print(name, "memory", megabytes(memory), "MB", Some(300.0))?;
    figures.print(name, "peak_memory", megabytes(peak), "MB", None)?;
    let added = (crowded.as_secs_f64() - alone.as_secs_f64()) * 1e3;
    figures.print(name, "added_first_event_p99", added, "ms", Some(5.0))
}

/// 10,000 connections that have asked once and say nothing more.
pub(super) fn idle(figures: &Figures, programs: &Programs) -> Result<()> {
    let name = "idle-10000";
    say(name);
    more_files()?;
    let stage = Stage::set(programs, &[], &[])?;
    thread::sleep(SETTLE);
    let before = stage.server.memory(Memory::Now)?;
    let connections = at_once(|_| {
        let mut connection = connect(&stage.server)?;
        let host = stage.server.address();
        write!(connection, "GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        let mut answer = [0; 4096];
        ensure!(connection.read(&mut answer)? > 0, "a connection was closed");
        Ok(connection)
    })?;
    let memory = stage.server.memory(Memory::Now)?.saturating_sub(before);
    let each = memory as f64 / connections.len() as f64 / 1e3;
    figures.print(name, "memory_each", each, "kB", Some(20.0))
}

/// Opens the crowd on a few threads.
fn at_once<T: Send>(open: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let each = CROWD / OPENERS;
    thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|opener| {
                let open = &open;
                scope.spawn(move || (0..each).map(|n| open(opener * each + n)).collect())
            })
            .collect();
        let mut all = Vec::with_capacity(CROWD);
        for opener in openers {
            let opened: Result<Vec<T>> = opener.join().ok().context("an opener panicked")?;
            all.extend(opened?);
        }
        Ok(all)
    })
}

/// The 99th percentile of the time from a request for a stream to its first event.
fn first_events(server: &Running, from: usize) -> Result<Duration> {
    let mut times = Vec::with_capacity(PROBES);
    for n in 0..PROBES {
        let (_stream, heard) = stream(server, from + n)?;
        times.push(heard.context("a stream kept silent")?);
    }
    times.sort_unstable();
    Ok(times[PROBES * 99 / 100])
}

/// Opens a stream in a conversation of its own; how long its first event took, if one came.
fn stream(server: &Running, number: usize) -> Result<(TcpStream, Option<Duration>)> {
    let body = format!(
        r#"{{"topic":"tides","explanation":"The moon pulls the water.","session_id":"crowd-{number}"}}"#
    );
    let mut connection = connect(server)?;
    let start = Instant::now();
    write!(
        connection,
        "POST /chat/stream HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        server.address(),
        body.len()
    )?;
    let mut answer = Vec::new();
    let mut piece = [0; 2048];
    loop {
        let read = connection.read(&mut piece)?;
        if read == 0 {
            return Ok((connection, None));
        }
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        ensure!(
            text.starts_with("HTTP/1.1 200"),
            "a stream was refused: {text}"
        );
        if text.contains("\ndata:") {
            return Ok((connection, Some(start.elapsed())));
        }
    }
}

fn connect(server: &Running) -> Result<TcpStream> {
    let connection = TcpStream::connect(server.address())?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// Lets this program and those it starts have as many files open as they may.
fn more_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit)?;
    let needed = CROWD as u64 + 1_000;
    let enough = maximum.is_none_or(|most| most > needed);
    ensure!(
        enough,
        "{needed} files have to be open at once: raise `ulimit -Hn`"
    );
    Ok(())
}
