//! The command line of the provider simulator and the load generator.

mod cli;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use lyceum_sim::{
    SimConfig, Simulator,
    load::{self, LoadConfig},
};
use tokio::runtime::{Builder, Runtime};

use cli::{Command, Options};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nowhere is left to say that this failed.
            let _ = writeln!(io::stderr(), "failed to {error:#}");
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
        Command::Load(load) => {
            let workers = load.workers;
            runtime(workers)?.block_on(measure(load.into_config()))
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
    print(&format!("lyceum-sim listens on {}", running.url()))?;
    end_signal().await.context("wait for the end")?;
    print(&serde_json::to_string(&running.shutdown().await)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C or, on Unix, SIGTERM.
async fn end_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

async fn measure(config: LoadConfig) -> anyhow::Result<ExitCode> {
    let report = load::run(config).await?;
    for metric in report.metrics() {
        print(&serde_json::to_string(&metric)?)?;
    }
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}").context("write to stdout")
}
