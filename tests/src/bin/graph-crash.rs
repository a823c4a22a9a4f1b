//! `graph-crash FOLDER sync|async|exit`: runs threads of a graph to their ends, continuing
//! whatever an earlier life has left in the folder. It is made to be killed.

use std::{env, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use lyceum_graph::{Answers, Durability, Graph, RunConfig, Saver, Status, ThreadId};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};
use lyceum_tests::crash::{
    graph::{Work, World, work},
    ledger::{Entry, FAILPOINT, Ledger},
    saver::Watched,
};

/// Threads that run side by side.
const THREADS: usize = 4;

/// What every question is answered.
const ANSWER: u64 = 6;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("want a folder")?);
    let durability = match arguments.next().as_deref() {
        Some("sync") => Durability::Sync,
        Some("async") => Durability::Async,
        Some("exit") => Durability::Exit,
        other => bail!("want sync, async or exit, not {other:?}"),
    };
    let failpoint = env::var(FAILPOINT).ok();
    let ledger = Ledger::open(&folder.join("ledger"), failpoint.as_deref())?;
    let ledger = Arc::new(ledger);
    let store = SqliteStore::open(folder.join("graph.db"), SqliteOptions::default())?;
    let store = Arc::new(store);
    let saver: Arc<dyn Saver> = Arc::new(Watched {
        saver: store.clone(),
        ledger: ledger.clone(),
    });
    let graph = work()?;
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let thread = format!("thread-{n}");
            let (graph, saver, ledger) = (graph.clone(), saver.clone(), ledger.clone());
            tokio::spawn(finish(graph, saver, ledger, thread, durability))
        })
        .collect();
    for thread in threads {
        thread.await??;
    }
    store.close().await;
    Ok(())
}

/// Runs a thread to its end, however often the saver fails on the way.
async fn finish(
    graph: Graph<Work, World>,
    saver: Arc<dyn Saver>,
    ledger: Arc<Ledger>,
    name: String,
    durability: Durability,
) -> Result<()> {
    let thread = graph.thread(saver, ThreadId::new(&name)?);
    let mut answers = Answers::None;
    loop {
        let config = RunConfig::new(World {
            ledger: ledger.clone(),
            thread: name.clone(),
        })
        .durability(durability);
        let run = if thread.snapshot(None).await?.is_some() {
            thread.resume(std::mem::take(&mut answers), config).await
        } else {
            ledger.note(&Entry::Begun {
                thread: name.clone(),
            })?;
            thread.run(Work::default(), config).await
        };
        let output = match run {
            Ok(output) => output,
            Err(error) if error.is_retryable() => continue,
            Err(error) => return Err(error).with_context(|| name.clone()),
        };
        if output.status == Status::Interrupted {
            // A question that a killed life was answered in vain is asked again.
            answers = Answers::Only(ANSWER.into());
            continue;
        }
        ensure!(output.status == Status::Done, "{name} was not done");
        let state = serde_json::to_string(&*output.state)?;
        ledger.note(&Entry::Ended {
            thread: name,
            state,
        })?;
        return Ok(());
    }
}
