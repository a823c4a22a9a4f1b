//! `graph-crash FOLDER sync|async|exit KEEP [ADDRESS]`: runs threads of a graph to their ends,
//! continuing whatever an earlier life has left in the folder's file, or on the PostgreSQL
//! server at the address. `KEEP` checkpoints are kept, or all when it is 0. It is made to be
//! killed.

use std::{collections::BTreeMap, env, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use lyceum_graph::{Answers, Claim, Durability, Graph, RunConfig, Saver, Status, ThreadId};
use lyceum_store_postgres::{PostgresOptions, PostgresStore};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};
use lyceum_tests::crash::{
    graph::{Work, World, work},
    ledger::{Entry, FAILPOINT, Ledger},
    saver::Watched,
};
use tokio_util::sync::CancellationToken;

/// Threads that run side by side.
const THREADS: usize = 4;

/// What every question is answered.
const ANSWER: u64 = 6;

/// The variable that stops all runs once, as `cancel:milliseconds` or `drain:milliseconds`;
/// they go on in the same life.
const STOP: &str = "LYCEUM_CRASH_STOP";

/// How all runs are stopped once.
#[derive(Debug, Clone, Default)]
struct Stop {
    cancel: CancellationToken,
    drain: CancellationToken,
}

impl Stop {
    fn start(text: &str) -> Result<Self> {
        let stop = Self::default();
        let (how, time) = text.split_once(':').context("want how:milliseconds")?;
        let token = match how {
            "cancel" => stop.cancel.clone(),
            "drain" => stop.drain.clone(),
            other => bail!("want cancel or drain, not {other}"),
        };
        let time = Duration::from_millis(time.parse()?);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            token.cancel();
        });
        Ok(stop)
    }
}

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
    let keep = arguments.next().context("want a number to keep")?.parse()?;
    let stop = match env::var(STOP) {
        Ok(text) => Stop::start(&text)?,
        Err(_) => Stop::default(),
    };
    let failpoint = env::var(FAILPOINT).ok();
    let ledger = Ledger::open(&folder.join("ledger"), failpoint.as_deref())?;
    let ledger = Arc::new(ledger);
    let mut file = None;
    let saver: Arc<dyn Saver> = match arguments.next() {
        Some(address) => Arc::new(PostgresStore::open(&address, PostgresOptions::default()).await?),
        None => {
            let store = SqliteStore::open(folder.join("graph.db"), SqliteOptions::default())?;
            file.insert(Arc::new(store)).clone()
        }
    };
    let saver: Arc<dyn Saver> = Arc::new(Watched {
        saver,
        ledger: ledger.clone(),
    });
    let graph = work()?;
    let threads: Vec<_> = (0..THREADS)
        .map(|n| {
            let thread = format!("thread-{n}");
            let runs = Runs {
                graph: graph.clone(),
                saver: saver.clone(),
                ledger: ledger.clone(),
                durability,
                keep,
            };
            tokio::spawn(runs.finish(thread, stop.clone()))
        })
        .collect();
    for thread in threads {
        thread.await??;
    }
    if let Some(file) = file {
        file.close().await;
    }
    Ok(())
}

/// How the runs of all threads are made.
struct Runs {
    graph: Graph<Work, World>,
    saver: Arc<dyn Saver>,
    ledger: Arc<Ledger>,
    durability: Durability,
    keep: u32,
}

impl Runs {
    /// Runs a thread to its end, however often the saver fails or it is stopped on the way.
    async fn finish(self, name: String, mut stop: Stop) -> Result<()> {
        // The life before this one has ended, and its lease may not have.
        let thread = self.graph.thread(self.saver, ThreadId::new(&name)?);
        let mut thread = thread.claim(Claim::TakeOver);
        if self.keep > 0 {
            thread = thread.keep_last(self.keep);
        }
        let mut answers = Answers::None;
        let world = Arc::new(World {
            ledger: self.ledger.clone(),
            thread: name.clone(),
            has_failed: false.into(),
            has_hung: false.into(),
        });
        loop {
            let config = RunConfig::new(world.clone())
                .durability(self.durability)
                .cancellation(stop.cancel.clone())
                .drain(stop.drain.clone());
            let run = if thread.snapshot(None).await?.is_some() {
                thread.resume(std::mem::take(&mut answers), config).await
            } else {
                self.ledger.note(&Entry::Begun {
                    thread: name.clone(),
                })?;
                thread.run(Work::default(), config).await
            };
            let output = match run {
                Ok(output) => output,
                Err(error) if error.is_retryable() => continue,
                Err(error) => return Err(error).with_context(|| name.clone()),
            };
            match output.status {
                Status::Done => {
                    let state = serde_json::to_string(&*output.state)?;
                    self.ledger.note(&Entry::Ended {
                        thread: name,
                        state,
                    })?;
                    return Ok(());
                }
                // A question that a killed life was answered in vain is asked again.
                Status::Interrupted => {
                    let asked = output.interrupts.into_iter();
                    let given: BTreeMap<_, _> = asked.map(|one| (one.id, ANSWER.into())).collect();
                    answers = Answers::ById(given);
                }
                Status::Cancelled | Status::Drained => stop = Stop::default(),
                other => ensure!(false, "{name} ended as {other:?}"),
            }
        }
    }
}
