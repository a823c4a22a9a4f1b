//! The command line of the provider simulator and the load generator.

mod cli;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use lyceum_sim::{SimConfig, Simulator};
use tokio::runtime::{Builder, Runtime};

use cli::{Command, Options};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            report(&format!("failed to {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Serve(serve) => {
            let workers = serve.workers;
            runtime(workers)?.block_on(simulate(serve.into_config()?))
        }
    }
}

/// One worker is a runtime without hand-over between threads, which is the fastest.
fn runtime(workers: u16) -> anyhow::Result<Runtime> {
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(usize::from(workers))
        .enable_all()
        .build()
        .context("start the runtime")
}

async fn simulate(config: SimConfig) -> anyhow::Result<ExitCode> {
    let listen = config.listen;
    let running = Simulator::start(config)
        .await
        .with_context(|| format!("listen on {listen}"))?;
    print(&format!("lyceum-sim listens on {}", running.url()));
    tokio::signal::ctrl_c().await.context("wait for the end")?;
    print(&serde_json::to_string(&running.shutdown().await)?);
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the command's result goes to stdout")]
fn print(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "the command's errors go to stderr")]
fn report(line: &str) {
    eprintln!("{line}");
}
