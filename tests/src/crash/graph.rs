//! The graph that is killed: effects in a row, side by side, in a loop, around questions, in
//! subgraphs of each kind, before and after failures.
//!
//! Invariant: its state and the ids of its effects depend on the thread alone, so that a run
//! that was killed can be compared with one that was not.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use lyceum_graph::{
    Context, END, Failure, Graph, GraphBuilder, NodeError, RetryPolicy, START, SendTo, State,
    Worker,
};
use serde::Serialize;

use super::ledger::{Entry, Ledger};

/// Tasks of the step with side effects side by side.
const ITEMS: u64 = 4;
/// Turns of the loop.
const TURNS: u64 = 3;

/// What the nodes share.
#[derive(State, Clone, Debug, Default, Serialize)]
pub struct Work {
    /// What was done, in order.
    #[state(append)]
    pub done: Vec<String>,
    /// The sum of all effects.
    #[state(add)]
    pub sum: u64,
    /// Turns of the loop so far.
    pub turns: u64,
}

/// What runs find beside the state.
#[derive(Debug)]
pub struct World {
    /// Where they write what they do.
    pub ledger: Arc<Ledger>,
    /// The thread they run on.
    pub thread: String,
    /// What happens once in a life has happened.
    pub has_failed: AtomicBool,
    /// The same, for what hangs.
    pub has_hung: AtomicBool,
}

type Ctx = Context<World>;

const ITEM: Worker<u64> = Worker::new("item");
const MEND: Worker<Failure> = Worker::new("mend");

/// A subgraph that hangs is cut off after this time, and goes on at once.
const HANGS: Duration = Duration::from_millis(100);
const AGAIN: RetryPolicy = RetryPolicy {
    max_attempts: NonZeroU32::MAX,
    first_wait: Duration::ZERO,
    longest_wait: Duration::ZERO,
};

/// Makes the graph.
///
/// # Errors
///
/// When it does not compile, which its first use would show.
pub fn work() -> Result<Graph<Work, World>> {
    let sends = |_: &Work| -> Vec<SendTo> {
        // A number is always serialised.
        (0..ITEMS).filter_map(|n| ITEM.send(&n).ok()).collect()
    };
    let graph = GraphBuilder::new()
        .node("plan", plan)
        .edge(START, "plan")
        .worker(ITEM, item)
        .route("plan", [ITEM.name()], sends)
        .edge(ITEM.name(), "gather")
        .node("gather", gather)
        .edge("gather", "approve")
        .edge("gather", "second")
        .node("approve", approve)
        .node("second", second)
        .join(["approve", "second"], "turn")
        .node("turn", turn)
        .edge("turn", "keeper")
        .subgraph_with_memory(
            "keeper",
            keeper()?,
            |_| WorkUpdate::new(),
            |inner: &Work| WorkUpdate::new().done([format!("the keeper knows {}", inner.turns)]),
        )
        .route("keeper", ["turn", "flaky"], |work: &Work| {
            match work.turns {
                0..TURNS => "turn",
                _ => "flaky",
            }
        })
        .subgraph("flaky", flaky()?, Clone::clone, |inner: &Work| {
            news("flaky", inner)
        })
        .retry("flaky", AGAIN)
        .time_limit("flaky", HANGS)
        .edge("flaky", "inner")
        .subgraph("inner", inner()?, Clone::clone, |inner: &Work| {
            news("inner", inner)
        })
        .edge("inner", "breaks")
        .node("breaks", breaks)
        // A record that fails is tried again; what is permanent goes to the handler.
        .retry("breaks", AGAIN)
        .on_error("breaks", MEND)
        .worker(MEND, mend)
        .edge(MEND.name(), "left")
        .edge(MEND.name(), "right")
        .node("left", side)
        .node("right", side)
        .join(["left", "right"], "close")
        .node("close", close)
        .edge("close", END);
    Ok(graph.compile()?)
}

fn inner() -> Result<Graph<Work, World>> {
    let graph = GraphBuilder::new()
        .node("first", async |_: Arc<Work>, ctx: Ctx| {
            started(&ctx, "/inner", 0)?;
            let value = effect(&ctx, "first", 7).await?;
            Ok::<_, NodeError>(WorkUpdate::new().done([format!("inner first {value}")]))
        })
        .node("second", async |_: Arc<Work>, ctx: Ctx| {
            started(&ctx, "/inner", 0)?;
            let value = effect(&ctx, "second", 8).await?;
            Ok::<_, NodeError>(WorkUpdate::new().done([format!("inner second {value}")]))
        })
        .edge(START, "first")
        .edge("first", "second")
        .edge("second", END);
    Ok(graph.compile()?)
}

/// What a subgraph has noted of its own.
fn news(node: &str, inner: &Work) -> WorkUpdate {
    let news = inner.done.iter().filter(|note| note.starts_with(node));
    WorkUpdate::new().done(news.cloned().collect::<Vec<_>>())
}

/// Remembers how often it was entered.
fn keeper() -> Result<Graph<Work, World>> {
    let graph = GraphBuilder::new()
        .node("keep", async |work: Arc<Work>, ctx: Ctx| {
            started(&ctx, "/keeper", 0)?;
            let value = effect(&ctx, "keep", work.turns + 1).await?;
            Ok::<_, NodeError>(WorkUpdate::new().turns(value))
        })
        .edge(START, "keep")
        .edge("keep", END);
    Ok(graph.compile()?)
}

/// Fails once and hangs once in each life, after an effect each.
fn flaky() -> Result<Graph<Work, World>> {
    let graph = GraphBuilder::new()
        .node("fails", async |_: Arc<Work>, ctx: Ctx| {
            started(&ctx, "/flaky", 0)?;
            let value = effect(&ctx, "fails", 9).await?;
            match ctx.shared().has_failed.swap(true, Ordering::Relaxed) {
                false => Err(NodeError::transient("once in a life")),
                true => Ok(WorkUpdate::new().done([format!("flaky fails {value}")])),
            }
        })
        .node("hangs", async |_: Arc<Work>, ctx: Ctx| {
            started(&ctx, "/flaky", 0)?;
            let value = effect(&ctx, "hangs", 10).await?;
            if !ctx.shared().has_hung.swap(true, Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Ok::<_, NodeError>(WorkUpdate::new().done([format!("flaky hangs {value}")]))
        })
        .edge(START, "fails")
        .edge("fails", "hangs")
        .edge("hangs", END);
    Ok(graph.compile()?)
}

async fn breaks(_: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 0)?;
    let value = effect(&ctx, "breaks", 11).await?;
    Err(NodeError::permanent(format!("broken after {value}")))
}

async fn mend(failure: Failure, _: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 0)?;
    let value = effect(&ctx, "mend", 12).await?;
    let note = format!("mended {}: {}, {value}", failure.node, failure.message);
    Ok(WorkUpdate::new().done([note]))
}

async fn side(_: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    let place = u32::from(ctx.node().as_str() == "right");
    started(&ctx, "", place)?;
    let value = effect(&ctx, "side", u64::from(place)).await?;
    ctx.shared().ledger.pass("node_end");
    Ok(WorkUpdate::new().done([format!("{} {value}", ctx.node())]))
}

async fn plan(_: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 0)?;
    let value = effect(&ctx, "plan", 1).await?;
    ctx.shared().ledger.pass("node_end");
    Ok(WorkUpdate::new().done(["planned".to_owned()]).sum(value))
}

async fn item(n: u64, _: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    // Sends are planned in their order, so the number is the task's place.
    started(&ctx, "", u32::try_from(n).unwrap_or(u32::MAX))?;
    // Tasks end in another order than they began in.
    for _ in n..ITEMS {
        tokio::task::yield_now().await;
    }
    let value = effect(&ctx, "item", n * n).await?;
    ctx.shared().ledger.pass("node_end");
    Ok(WorkUpdate::new().done([format!("item {n}")]).sum(value))
}

async fn gather(work: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 0)?;
    let first = effect(&ctx, "gather", work.sum).await?;
    let other = effect(&ctx, "other", 1).await?;
    // The same key again is another effect.
    let again = effect(&ctx, "gather", first + 1).await?;
    let note = format!("gathered {first} {other} {again}");
    ctx.shared().ledger.pass("node_end");
    Ok(WorkUpdate::new().done([note]).sum(first + other + again))
}

/// Stops the run until two questions are answered, between two effects.
async fn approve(_: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 0)?;
    let asked = effect(&ctx, "ask", 5).await?;
    let (one, other) = tokio::join!(
        ctx.interrupt::<u64>("approve", asked),
        ctx.interrupt::<u64>("really", asked)
    );
    let value = effect(&ctx, "approved", one? + other?).await?;
    ctx.shared().ledger.pass("node_end");
    let note = format!("approved {value}");
    Ok(WorkUpdate::new().done([note]).sum(value))
}

/// Asks beside it.
async fn second(_: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 1)?;
    let answer: u64 = ctx.interrupt("second", "and this?").await?;
    let value = effect(&ctx, "second", answer).await?;
    Ok(WorkUpdate::new().done([format!("second {value}")]))
}

async fn turn(work: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 0)?;
    let value = effect(&ctx, "turn", work.turns).await?;
    ctx.shared().ledger.pass("node_end");
    let note = format!("turn {value}");
    Ok(WorkUpdate::new().done([note]).turns(work.turns + 1))
}

async fn close(work: Arc<Work>, ctx: Ctx) -> Result<WorkUpdate, NodeError> {
    started(&ctx, "", 0)?;
    Ok(WorkUpdate::new().done([format!("closed at {}", work.sum)]))
}

fn started(ctx: &Ctx, namespace: &str, task: u32) -> Result<(), NodeError> {
    let World { ledger, thread, .. } = &**ctx.shared();
    let (thread, namespace, step) = (thread.clone(), namespace.to_owned(), ctx.step());
    let entry = Entry::Started {
        thread,
        namespace,
        step,
        task,
    };
    ledger.note(&entry).map_err(NodeError::permanent)?;
    ledger.pass("node_start");
    Ok(())
}

/// A side effect on the world outside, which is the ledger.
async fn effect(ctx: &Ctx, key: &str, value: u64) -> Result<u64, NodeError> {
    ctx.once(key, async |id| {
        let World { ledger, thread, .. } = &**ctx.shared();
        ledger.pass("before_effect");
        let (thread, id) = (thread.clone(), id.as_str().to_owned());
        let entry = Entry::Effect { thread, id, value };
        ledger.note_durably(&entry).map_err(NodeError::permanent)?;
        ledger.pass("after_effect");
        Ok(value)
    })
    .await
}
