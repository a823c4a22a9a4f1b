//! The suite of `lyceum-graph` on a real file, and a graph that outlives its store.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{path::Path, sync::Arc, time::Duration};

use lyceum_graph::{
    Answers, Batch, Claim, Context, END, GraphBuilder, NodeError, RunConfig, START, Saver, State,
    Status, ThreadId, conformance,
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory.join("l.db"), SqliteOptions::default()).unwrap()
}

#[tokio::test]
async fn a_file_conforms_as_a_saver() {
    let directory = tempfile::tempdir().unwrap();
    conformance::check(&open(directory.path())).await;
}

#[tokio::test]
async fn a_file_keeps_items() {
    let directory = tempfile::tempdir().unwrap();
    conformance::check_store(&open(directory.path())).await;
}

#[tokio::test]
async fn a_file_lists_its_threads() {
    let directory = tempfile::tempdir().unwrap();
    conformance::check_threads(&open(directory.path())).await;
}

#[derive(State, Clone, Debug, Default)]
struct Order {
    #[state(append)]
    log: Vec<String>,
}

async fn ask(_: Arc<Order>, ctx: Context) -> Result<OrderUpdate, NodeError> {
    let paid = ctx
        .once("pay", async |id| Ok(format!("paid {}", id.as_str())))
        .await?;
    let size: String = ctx.interrupt("size", "which size?").await?;
    Ok(OrderUpdate::new().log([paid, size]))
}

#[tokio::test]
async fn a_thread_continues_in_the_next_process() {
    let graph = GraphBuilder::new()
        .node("ask", ask)
        .edge(START, "ask")
        .edge("ask", END)
        .compile()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let id = ThreadId::new("order/7").unwrap();

    let store = Arc::new(open(directory.path()));
    let thread = graph.thread(store.clone(), id.clone());
    let output = thread
        .run(Order::default(), RunConfig::default())
        .await
        .unwrap();
    assert_eq!(output.status, Status::Interrupted);
    // A writer that dies with its process takes its lease with it.
    let dead = store
        .acquire(&id, Duration::from_secs(3600), Claim::IfFree)
        .await
        .unwrap();
    store.close().await;

    let store = Arc::new(open(directory.path()));
    let thread = graph.thread(store.clone(), id);
    let answer = Answers::Only("small".into());
    let output = thread.resume(answer, RunConfig::default()).await.unwrap();
    assert_eq!(output.state.log, ["paid @1:0:effect:pay#1", "small"]);
    assert!(
        store.commit(&dead, &Batch::default()).await.is_err(),
        "it stays fenced"
    );
}

#[derive(State, Clone, Debug, Default)]
struct Count {
    value: u64,
}

async fn count(count: Arc<Count>, _: Context) -> Result<CountUpdate, NodeError> {
    Ok(CountUpdate::new().value(count.value + 1))
}

/// More runs than may wait for the store: each is slowed down, none fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_runs_at_once_all_end_on_default_options() {
    let graph = GraphBuilder::new()
        .node("a", count)
        .node("b", count)
        .node("c", count)
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", "c")
        .edge("c", END)
        .compile()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(directory.path()));
    let runs: Vec<_> = (0..10_000)
        .map(|n| {
            let id = ThreadId::new(format!("{n}")).unwrap();
            let thread = graph.thread(store.clone(), id);
            tokio::spawn(async move { thread.run(Count::default(), RunConfig::default()).await })
        })
        .collect();
    for run in runs {
        assert_eq!(run.await.unwrap().unwrap().state.value, 3);
    }
    store.close().await;
}
