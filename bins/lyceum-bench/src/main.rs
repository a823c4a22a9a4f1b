//! `lyceum-bench NAME`: runs one benchmark in process. `cargo xtask bench NAME` builds and
//! starts it.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lyceum_bench::{Options, graph, llm, memory, queue, tools};

#[derive(Parser)]
#[command(about = "Measures Lyceum's crates; prints one JSON object a figure")]
struct Args {
    #[command(subcommand)]
    bench: Bench,
    /// Fewer repeats: seconds instead of minutes.
    #[arg(long, global = true)]
    quick: bool,
    /// Runs only the cases whose name holds this text.
    #[arg(long, global = true)]
    only: Option<String>,
    /// A Python that has the program to compare with; default `python3`.
    #[arg(long, global = true)]
    python: Option<PathBuf>,
    /// Where files are written; default beside this program.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Bench {
    /// Runs of the workflow graph, without and with savers, and LangGraph beside them.
    Graph,
    /// The model layer: decoding, and the time added before the first token.
    Llm,
    /// Whether memories are found again: recall over long conversations, with no model.
    Memory(memory::Args),
    /// The queue in front of a limited upstream: quota used, fairness, forecasts, costs.
    Queue(queue::Args),
    /// What a tool's policy adds to a call.
    Tools,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let data = match args.data {
        Some(data) => data,
        // Where temporary files are kept in memory a sync would cost nothing.
        None => {
            let program = env::current_exe()?;
            program
                .parent()
                .context("a program in no folder")?
                .to_owned()
        }
    };
    let options = Options {
        quick: args.quick,
        python: args.python,
        only: args.only,
        data,
    };
    match args.bench {
        Bench::Graph => graph::run(&options),
        Bench::Llm => llm::run(&options),
        Bench::Memory(args) => memory::run(&options, &args),
        Bench::Queue(args) => queue::run(&options, args),
        Bench::Tools => tools::run(&options),
    }
}
