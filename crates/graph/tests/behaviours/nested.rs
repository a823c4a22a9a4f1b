//! Subgraphs that fail, are cut off, are left behind on a branch, or run many at once.

use std::{
    future::pending,
    num::NonZeroU32,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use lyceum_graph::{
    Answers, Claim, Command, CompileError, Context, Durability, END, Failure, GraphBuilder,
    Interrupt, MemorySaver, Multitask, NodeError, Output, RetryPolicy, RunConfig, RunError, START,
    State, Status, ThreadId, Turns, Worker,
    testkit::{Failpoints, Fault, Operation},
};
use serde_json::Value;

use crate::world::{Ctx, Log, LogGraph, LogUpdate, MODES, World, bench, builder, work};

/// Tried again at once, so many times in all.
fn attempts(most: u32) -> RetryPolicy {
    RetryPolicy {
        max_attempts: NonZeroU32::new(most).unwrap(),
        first_wait: Duration::ZERO,
        longest_wait: Duration::ZERO,
    }
}

/// Runs a graph without a thread, and on one with each durability.
async fn everywhere(graph: &LogGraph, check: impl Fn(Output<Log>, &World, &str)) {
    let world = Arc::new(World::default());
    let config = RunConfig::new(world.clone());
    let output = graph.run(Log::default(), config).await.unwrap();
    check(output, &world, "no saver");
    for durability in MODES {
        let bench = bench(graph);
        let config = bench.config().durability(durability);
        let output = bench.thread.run(Log::default(), config).await.unwrap();
        check(output, &bench.world, &format!("{durability:?}"));
    }
}

/// The graph as the only node of another.
fn around(inner: LogGraph) -> GraphBuilder<Log, World, u8> {
    builder()
        .subgraph(
            "sub",
            inner,
            |_: &Log| LogUpdate::new(),
            |log: &Log| LogUpdate::new().done(log.done.clone()),
        )
        .edge(START, "sub")
        .edge("sub", END)
}

async fn fails_thrice(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    // The sibling goes first.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    match ctx.shared().effects.fetch_add(1, Ordering::Relaxed) {
        0..3 => Err(NodeError::transient("not yet")),
        _ => work(log, ctx).await,
    }
}

#[tokio::test(start_paused = true)]
async fn a_retried_subgraph_runs_no_node_again_that_was_done() {
    let inner = builder()
        .node("first", work)
        .node("good", work)
        .node("bad", fails_thrice)
        .edge(START, "first")
        .edge("first", "good")
        .edge("first", "bad")
        .edge("good", END)
        .edge("bad", END)
        .compile()
        .unwrap();
    let graph = around(inner).retry("sub", attempts(4)).compile().unwrap();
    everywhere(&graph, |output, world, how| {
        assert_eq!(output.state.done, ["first", "bad", "good"], "{how}");
        assert_eq!(world.runs(), ["first", "good", "bad"], "{how}");
    })
    .await;
}

/// Pays once, and hangs in the first attempt.
async fn pay(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    let effects = &ctx.shared().effects;
    ctx.once("pay", async |_| Ok(effects.fetch_add(1, Ordering::Relaxed)))
        .await?;
    if !ctx.shared().broken.swap(true, Ordering::Relaxed) {
        pending::<()>().await;
    }
    Ok(LogUpdate::new().done(["paid".to_owned()]))
}

#[tokio::test(start_paused = true)]
async fn a_subgraph_that_is_cut_off_repeats_neither_nodes_nor_effects() {
    let inner = builder()
        .node("first", work)
        .node("pay", pay)
        .edge(START, "first")
        .edge("first", "pay")
        .edge("pay", END)
        .compile()
        .unwrap();
    // One level more: a subgraph in a subgraph is cut off with it.
    let middle = around(inner).compile().unwrap();
    let limit = Duration::from_secs(5);
    for graph in [
        around(middle.clone()).time_limit("sub", limit),
        around(middle).idle_limit("sub", limit),
    ] {
        let graph = graph.retry("sub", attempts(2)).compile().unwrap();
        everywhere(&graph, |output, world, how| {
            assert_eq!(output.state.done, ["first", "paid"], "{how}");
            assert_eq!(world.runs(), ["first"], "{how}");
            assert_eq!(world.effects.load(Ordering::Relaxed), 1, "{how}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_subgraph_had_done_when_it_was_given_up_is_kept() {
    let inner = builder()
        .node("first", work)
        .node("pay", pay)
        .edge(START, "first")
        .edge("first", "pay")
        .edge("pay", END)
        .compile()
        .unwrap();
    let graph = around(inner).time_limit("sub", Duration::from_secs(5));
    let graph = graph.compile().unwrap();
    for durability in MODES {
        let bench = bench(&graph);
        let config = || bench.config().durability(durability);
        let error = bench.thread.run(Log::default(), config()).await;
        assert!(error.unwrap_err().is_retryable(), "{durability:?}");
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(output.state.done, ["first", "paid"], "{durability:?}");
        assert_eq!(bench.world.runs(), ["first"], "{durability:?}");
        assert_eq!(bench.world.effects.load(Ordering::Relaxed), 1);
    }
}

/// A graph whose subgraph remembers how often it was entered.
fn remembering() -> LogGraph {
    let inner = builder()
        .node("add", work)
        .edge(START, "add")
        .edge("add", END)
        .compile()
        .unwrap();
    let told = |log: &Log| LogUpdate::new().done([format!("sub knows {}", log.done.len())]);
    // The graph with the memory is inside one without.
    let middle = builder()
        .subgraph_with_memory("memory", inner, |_: &Log| LogUpdate::new(), told)
        .edge(START, "memory")
        .edge("memory", END)
        .compile()
        .unwrap();
    around(middle).compile().unwrap()
}

#[tokio::test]
async fn a_branch_continues_the_memory_of_its_own_past() {
    for durability in MODES {
        let bench = bench(&remembering());
        let config = || bench.config().durability(durability);
        let run = async |thread: &lyceum_graph::Thread<Log, World, u8>| {
            let output = thread.run(LogUpdate::new(), config()).await.unwrap();
            output.state.done.last().unwrap().clone()
        };
        let thread = &bench.thread;
        assert_eq!(run(thread).await, "sub knows 1");
        let first = thread.snapshot(None).await.unwrap().unwrap().checkpoint.id;
        assert_eq!(run(thread).await, "sub knows 2");
        assert_eq!(run(thread).await, "sub knows 3");
        assert_eq!(run(&thread.at(first)).await, "sub knows 2", "from a point");
        assert_eq!(run(thread).await, "sub knows 3", "the branch goes on");
        thread.fork(first).await.unwrap();
        assert_eq!(run(thread).await, "sub knows 2", "from a fork");
        // What a checkpoint continues is pruned with it, not before.
        thread.prune(lyceum_graph::Keep::Last(1)).await.unwrap();
        assert_eq!(run(thread).await, "sub knows 3", "after a pruning");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolled_back_run_takes_what_its_subgraph_learnt_with_it() {
    async fn hang(_: Arc<Log>, ctx: Ctx) -> Result<(), NodeError> {
        match ctx.shared().broken.load(Ordering::Relaxed) {
            true => pending().await,
            false => Ok(()),
        }
    }
    let inner = builder()
        .node("add", work)
        .edge(START, "add")
        .edge("add", END)
        .compile()
        .unwrap();
    let told = |log: &Log| LogUpdate::new().done([format!("sub knows {}", log.done.len())]);
    let graph = builder()
        .subgraph_with_memory("sub", inner, |_: &Log| LogUpdate::new(), told)
        .node("hang", hang)
        .edge(START, "sub")
        .edge("sub", "hang")
        .edge("hang", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let turns = Turns::default();
    let thread = bench.thread.clone().multitask(&turns, Multitask::Rollback);
    thread.run(Log::default(), bench.config()).await.unwrap();
    bench.world.broken.store(true, Ordering::Relaxed);
    let mut hung = Box::pin(thread.run(LogUpdate::new(), bench.config()));
    for _ in 0..100 {
        assert!(hung.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    bench.world.broken.store(false, Ordering::Relaxed);
    let next = thread.run(LogUpdate::new(), bench.config());
    let (hung, next) = tokio::join!(hung, next);
    assert_eq!(hung.unwrap().status, Status::Cancelled);
    assert_eq!(next.unwrap().state.done, ["sub knows 1", "sub knows 2"]);
}

const ITEM: Worker<u64> = Worker::new("item");

/// Ten runs of a subgraph side by side, each of which asks something between two effects.
fn ten() -> LogGraph {
    async fn effect(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let (world, name) = (ctx.shared().clone(), format!("{} {}", ctx.node(), log.last));
        ctx.once("note", async |_| {
            world.runs.lock().unwrap().push(name.clone());
            Ok(())
        })
        .await?;
        Ok(LogUpdate::new().done([name]))
    }
    async fn asks(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let answer: u64 = ctx.interrupt("which", log.last.clone()).await?;
        Ok(LogUpdate::new().done([format!("{}={answer}", log.last)]))
    }
    let inner = builder()
        .node("before", effect)
        .node("asks", asks)
        .node("behind", effect)
        .edge(START, "before")
        .edge("before", "asks")
        .edge("asks", "behind")
        .edge("behind", END)
        .compile()
        .unwrap();
    builder()
        .subgraph_worker(
            ITEM,
            inner,
            |n: u64, _: &Log| LogUpdate::new().last(n.to_string()),
            |log: &Log| LogUpdate::new().done([log.done.join(", ")]),
        )
        .route(START, [ITEM.name()], |_: &Log| -> Vec<_> {
            (0..10).map(|n| ITEM.send(&n).unwrap()).collect()
        })
        .edge(ITEM.name(), END)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn ten_subgraphs_side_by_side_keep_apart_what_they_ask_and_do() {
    for (durability, killed_at) in MODES
        .into_iter()
        .flat_map(|mode| (1..9).map(move |n| (mode, n)))
    {
        let how = format!("{durability:?}, killed at commit {killed_at}");
        let saver = Failpoints::new(Arc::new(MemorySaver::new()));
        let world = Arc::new(World::default());
        let thread = ten().thread(Arc::new(saver.clone()), ThreadId::new("t").unwrap());
        let thread = thread.claim(Claim::TakeOver);
        let config = || RunConfig::new(world.clone()).durability(durability);
        let output = thread.run(Log::default(), config()).await.unwrap();
        assert_eq!(output.status, Status::Interrupted);
        assert_eq!(sorted(world.runs()), names("before", 0..10));
        let answer = |asked: &Interrupt| {
            let n: u64 = asked.payload.as_str().unwrap().parse().unwrap();
            (asked.id.clone(), Value::from(n * n))
        };
        let answers: Vec<_> = output.interrupts.iter().map(answer).collect();
        assert_eq!(answers.len(), 10);
        let some = |range: Range<usize>| Answers::ById(answers[range].iter().cloned().collect());
        let output = thread.resume(some(0..3), config()).await.unwrap();
        assert_eq!(output.interrupts.len(), 7, "{how}");
        assert_eq!(sorted(world.runs()), names("behind", 0..3), "{how}");

        // The process dies while four others go on.
        let commit = saver.calls(Operation::Commit) + killed_at;
        let _armed = saver
            .clone()
            .at(Operation::Commit, commit, Fault::DoesAndHangs);
        let mut killed = Box::pin(thread.resume(some(3..7), config()));
        let mut ended = None;
        for _ in 0..100 {
            if ended.is_none() {
                ended = killed.as_mut().now_or_never();
            }
            tokio::task::yield_now().await;
        }
        if ended.is_some() {
            // It has fewer commits than that.
            assert!(killed_at > 1, "{how}");
            continue;
        }
        std::mem::forget(killed);
        let died_with = world.runs();

        let snapshot = thread.snapshot(None).await.unwrap().unwrap();
        let left = snapshot.interrupts.iter().map(answer).collect();
        let output = thread.resume(Answers::ById(left), config()).await.unwrap();
        assert_eq!(output.status, Status::Done, "{how}");
        let done = (0..10).map(|n| format!("before {n}, {n}={}, behind {n}", n * n));
        assert_eq!(output.state.done, done.collect::<Vec<_>>(), "{how}");
        let mut behind = world.runs();
        if durability == Durability::Sync {
            // Every effect was recorded before the kill.
            behind.extend(died_with);
        } else {
            // Those of the lost life took place again, or were recorded.
            behind.extend(
                died_with
                    .into_iter()
                    .filter(|name| !behind.contains(name))
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(sorted(behind), names("behind", 3..10), "{how}");
    }
}

fn names(node: &str, range: Range<usize>) -> Vec<String> {
    range.map(|n| format!("{node} {n}")).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn what_is_sent_to_a_node_that_takes_nothing_is_an_error() {
    let inner = builder()
        .node("a", work)
        .edge(START, "a")
        .edge("a", END)
        .compile()
        .unwrap();
    const SUB: Worker<u64> = Worker::new("sub");
    let graph = builder()
        .subgraph(
            "sub",
            inner.clone(),
            |_: &Log| LogUpdate::new(),
            |_: &Log| (),
        )
        .route(START, ["sub"], |_: &Log| vec![SUB.send(&1).unwrap()])
        .edge("sub", END)
        .compile()
        .unwrap();
    let error = graph.run(Log::default(), RunConfig::default()).await;
    let error = error.unwrap_err();
    assert!(
        matches!(&error, RunError::NotAWorker { target, .. } if target.as_str() == "sub"),
        "{error}"
    );
    // A handler of failures is sent the failure.
    const HANDLER: Worker<Failure> = Worker::new("sub");
    let handled = builder()
        .node("node", work)
        .subgraph("sub", inner, |_: &Log| LogUpdate::new(), |_: &Log| ())
        .on_error("node", HANDLER)
        .edge(START, "node")
        .edge("node", END)
        .edge("sub", END)
        .compile();
    let handler = "sub".into();
    let node = "node".into();
    assert_eq!(
        handled.err(),
        Some(CompileError::HandlerIsNoWorker { node, handler })
    );
}

#[derive(State, Clone, Debug, Default)]
struct Order {
    #[state(append)]
    done: Vec<String>,
}

#[tokio::test]
async fn a_subgraph_is_entered_with_what_was_sent_and_the_state_around_it() {
    async fn note(order: Arc<Order>, _: Context) -> Result<OrderUpdate, NodeError> {
        let note = format!("{} items", order.done.len());
        Ok(OrderUpdate::new().done([note]))
    }
    let inner = GraphBuilder::new()
        .node("note", note)
        .edge(START, "note")
        .edge("note", END)
        .compile()
        .unwrap();
    const PACK: Worker<Vec<String>> = Worker::new("pack");
    let graph = GraphBuilder::new()
        .node("start", async |_: Arc<Order>, _: Context| {
            let send = PACK.send(&vec!["tea".to_owned(), "milk".to_owned()])?;
            let update = OrderUpdate::new().done(["started".to_owned()]);
            Ok(Command::update(update).and_send(send))
        })
        .subgraph_worker(
            PACK,
            inner,
            |items: Vec<String>, order: &Order| {
                OrderUpdate::new().done([order.done.clone(), items].concat())
            },
            |order: &Order| OrderUpdate::new().done([order.done.join(" ")]),
        )
        .edge(START, "start")
        .destinations("start", [PACK.name()])
        .edge(PACK.name(), END)
        .compile()
        .unwrap();
    let output = graph.run(Order::default(), RunConfig::default()).await;
    let done = output.unwrap().state.done.clone();
    assert_eq!(done, ["started", "started tea milk 3 items"]);
}
