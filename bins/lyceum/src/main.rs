//! The Lyceum server: reads its configuration, wires the layers, runs, drains.

mod access;
mod accounts;
mod alerts;
mod archive;
mod banner;
mod capacity;
mod cli;
mod compose;
mod config;
mod cost;
mod edge;
mod embedders;
mod graphs;
mod health;
mod key;
mod key_file;
mod keys;
mod mcp;
mod meaning;
mod models;
mod operator;
mod privacy;
mod private_file;
mod provider;
mod rotate;
mod seats;
mod secret_file;
mod spend;
mod store;
mod tools;
mod upkeep;
mod webhooks;

use std::{io::IsTerminal, net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use lyceum_gateway::Address;
use lyceum_llm_local::{THREADS_VARIABLE, recommended_threads};
use lyceum_observe::{Telemetry, TelemetryConfig};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Cli, Command, Options},
    config::{LogFormat, Resolved},
    provider::{Choice, ProcessEnvironment},
};

/// Measured with `cargo xtask bench gateway`, a call costs a seventh less than with glibc's.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(options) => serve(&options).await,
        Command::Mcp(options) => speak_mcp(&options).await,
        Command::Check(options) => check(&options).await,
        Command::Key(options) => key::make(&options),
        Command::Keys(command) => keys::run(&command),
        Command::Memory(command) => upkeep::run(&command).await,
        Command::Cost(command) => cost::run(&command),
        Command::Capacity(options) => capacity::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            banner::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn resolved(options: &Options) -> Result<Resolved> {
    Ok(config::resolve(config::load(
        options.config.as_deref(),
        options.overrides(),
    )?)?)
}

async fn check(options: &Options) -> Result<()> {
    let resolved = resolved(options)?;
    let auth = access::Access::open(&resolved)?.config()?;
    edge::gateway(&resolved.config, auth)?;
    let chosen = provider::choose(&resolved, &ProcessEnvironment).await?;
    let text = format!(
        "{}\n# The model that would answer: {}\n{}{}",
        config::show(&resolved, &chosen.main)?.trim_end(),
        chosen.main,
        models::layout(&chosen, &resolved.config).trim_end(),
        mcp::report(&resolved.config.mcp, &ProcessEnvironment).await?,
    );
    banner::say(text.trim_end())
}

async fn serve(options: &Options) -> Result<()> {
    let resolved = resolved(options)?;
    let telemetry = telemetry(&resolved)?;
    let chosen = provider::choose(&resolved, &ProcessEnvironment).await?;
    for choice in std::iter::once(&chosen.main).chain(&chosen.fallbacks) {
        if let Choice::Local(file) = choice {
            with_free_cores()?;
            banner::say(&format!("Loading {} …", file.display()))?;
        }
    }
    let server = compose::compose(&resolved, &chosen, &telemetry).await?;
    // Before anything is said: whoever reads the address may send a signal at once.
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    let hangups = access::hangups()?;
    banner::started(&resolved, &chosen.main, &server)?;
    let exported = telemetry.clone();
    tokio::spawn(telemetry.upkeep());
    let end_alerts = CancellationToken::new();
    let watched = alerts::start(&resolved, &exported, end_alerts.clone())?;
    server.run(stop, hangups).await;
    end_alerts.cancel();
    watched.await?;
    exported.stop().await;
    banner::say("Stopped.")
}

/// Standard output is the protocol's: nothing else is written there.
async fn speak_mcp(options: &Options) -> Result<()> {
    let mut resolved = resolved(options)?;
    // Nobody is served there, and another process may hold the configured address.
    resolved.listen = Address::Net((Ipv4Addr::LOCALHOST, 0).into());
    let telemetry = telemetry(&resolved)?;
    let chosen = provider::choose(&resolved, &ProcessEnvironment).await?;
    let server = compose::compose(&resolved, &chosen, &telemetry).await?;
    tokio::spawn(telemetry.clone().upkeep());
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    server.run_mcp(stop).await?;
    telemetry.stop().await;
    end_at_once()
}

/// Ends the process where a read of standard input may still wait in a thread, which the end of
/// the runtime would wait for. Everything is stored and told by now.
#[expect(
    clippy::exit,
    reason = "a read of standard input cannot be ended otherwise"
)]
fn end_at_once() -> ! {
    std::process::exit(0)
}

/// The model's threads are sized from the environment when they start, so the program
/// starts itself again with a core left for requests. The operator's own setting wins.
fn with_free_cores() -> Result<()> {
    if std::env::var_os(THREADS_VARIABLE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().context("find this program")?;
    let mut again = std::process::Command::new(program);
    again.args(std::env::args_os().skip(1));
    again.env(THREADS_VARIABLE, recommended_threads().to_string());
    Err(std::os::unix::process::CommandExt::exec(&mut again)).context("start this program again")
}

/// Logs, metrics and traces as configured.
pub(crate) fn telemetry(resolved: &Resolved) -> Result<Telemetry> {
    let log = &resolved.config.log;
    let default = if std::io::stderr().is_terminal() {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let format = match log.format.unwrap_or(default) {
        LogFormat::Text => lyceum_observe::LogFormat::Text,
        LogFormat::Json => lyceum_observe::LogFormat::Json,
    };
    let traces = resolved
        .config
        .traces
        .resolved(compose::service_id(&resolved.listen));
    if traces.is_some() {
        lyceum_core::install_propagator(lyceum_observe::traces::outgoing);
        lyceum_core::install_linker(lyceum_observe::traces::link);
    }
    Ok(Telemetry::init(&TelemetryConfig {
        format,
        filter: log.filter.clone(),
        most_per_second: log.most_per_second,
        traces,
        scrubber: privacy::for_logs(resolved),
    })?)
}

/// The first Ctrl-C or SIGTERM asks for a stop, the second one is not caught.
fn stop_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
        // Somebody who asks again does not want to wait for running requests.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        banner::abandon();
    })
}
