//! Graphs inside graphs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::StreamExt as _;
use lyceum_graph::{
    Answers, Command, Context, Durability, END, EventKind, Graph, GraphBuilder, MemorySaver,
    NodeError, RunConfig, RunError, START, State, Status, Thread, ThreadId,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(State, Clone, Debug, Default, PartialEq)]
struct Outer {
    #[state(append)]
    log: Vec<String>,
}

#[derive(State, Clone, Debug, Default, PartialEq)]
struct Inner {
    topic: String,
    #[state(append)]
    seen: Vec<String>,
}

#[derive(Default)]
struct World {
    runs: AtomicUsize,
    broken: AtomicBool,
    go: Notify,
    /// Cancelled by whichever node runs while the world is broken.
    drain: CancellationToken,
}

type Ctx = Context<World, &'static str>;
type Builder<S> = GraphBuilder<S, World, &'static str>;

async fn note(inner: Arc<Inner>, ctx: Ctx) -> Result<InnerUpdate, NodeError> {
    ctx.shared().runs.fetch_add(1, Ordering::Relaxed);
    if ctx.shared().broken.load(Ordering::Relaxed) {
        ctx.shared().drain.cancel();
    }
    Ok(InnerUpdate::new().seen([format!("{} {}", ctx.node(), inner.topic)]))
}

async fn last(_: Arc<Outer>, ctx: Ctx) -> Result<OuterUpdate, NodeError> {
    Ok(OuterUpdate::new().log([ctx.node().to_string()]))
}

fn enter(outer: &Outer) -> InnerUpdate {
    InnerUpdate::new().topic(format!("t{}", outer.log.len()))
}

fn leave(inner: &Inner) -> OuterUpdate {
    OuterUpdate::new().log(inner.seen.clone())
}

/// `first` → `second`, the second being the given node.
fn inner<F, Fut, R>(second: F) -> Graph<Inner, World, &'static str>
where
    F: Fn(Arc<Inner>, Ctx) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, NodeError>> + Send + 'static,
    R: Into<Command<Inner>>,
{
    Builder::new()
        .node("first", note)
        .node("second", second)
        .edge(START, "first")
        .edge("first", "second")
        .edge("second", END)
        .compile()
        .unwrap()
}

/// `sub` → `last`.
fn around(graph: Graph<Inner, World, &'static str>) -> Graph<Outer, World, &'static str> {
    Builder::new()
        .subgraph("sub", graph, enter, leave)
        .node("last", last)
        .edge(START, "sub")
        .edge("sub", "last")
        .edge("last", END)
        .compile()
        .unwrap()
}

struct Bench {
    thread: Thread<Outer, World, &'static str>,
    world: Arc<World>,
}

fn bench(graph: &Graph<Outer, World, &'static str>) -> Bench {
    let thread = graph.thread(Arc::new(MemorySaver::new()), ThreadId::new("t").unwrap());
    Bench {
        thread,
        world: Arc::default(),
    }
}

impl Bench {
    fn config(&self) -> RunConfig<World> {
        RunConfig::new(self.world.clone())
    }
}

#[tokio::test]
async fn subgraph_events_arrive_during_execution() {
    async fn wait(_: Arc<Inner>, ctx: Ctx) -> Result<(), NodeError> {
        ctx.emit("waiting").await;
        ctx.shared().go.notified().await;
        Ok(())
    }
    let world = Arc::new(World::default());
    let graph = around(inner(wait));
    let mut stream = graph.stream(Outer::default(), RunConfig::new(world.clone()));
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        if let EventKind::Custom { value, .. } = &event.kind {
            assert_eq!(*value, "waiting");
            // Without this event the run could not go on.
            world.go.notify_one();
        }
        if let EventKind::NestedUpdated { update, .. } = &event.kind
            && event.seq == 5
        {
            assert_eq!(*update, serde_json::json!({"seen": ["first t0"]}));
        }
        events.push(format!("{event:?}"));
    }
    assert_eq!(
        events,
        [
            "#1 step 0 state",
            "#2 step 1 started sub",
            "#3 sub step 0 state",
            "#4 sub step 1 started first",
            "#5 sub step 1 updated first",
            "#6 sub step 1 ended first wrote",
            "#7 sub step 1 state",
            "#8 sub step 2 started second",
            "#9 sub step 2 custom second",
            "#10 sub step 2 updated second",
            "#11 sub step 2 ended second wrote",
            "#12 sub step 2 state",
            "#13 step 1 updated sub",
            "#14 step 1 ended sub wrote",
            "#15 step 1 state",
            "#16 step 2 started last",
            "#17 step 2 updated last",
            "#18 step 2 ended last wrote",
            "#19 step 2 state",
            "#20 step 2 finished Done",
        ]
    );
}

#[tokio::test]
async fn parent_goto_from_a_nested_graph() {
    async fn escape(_: Arc<Inner>, _: Ctx) -> Result<Command<Inner>, NodeError> {
        let update = InnerUpdate::new().seen(["escape".to_owned()]);
        Ok(Command::update(update).and_leave_to("exit"))
    }
    let nested = |target: &'static str| {
        // The inner graph would go on: leaving gives up what follows.
        let graph = Builder::new()
            .node("escape", escape)
            .node("after", note)
            .edge(START, "escape")
            .edge("escape", "after")
            .edge("after", END)
            .compile()
            .unwrap();
        Builder::new()
            .subgraph("sub", graph, enter, leave)
            .node(target, last)
            .edge(START, "sub")
            .destinations("sub", [target])
            .edge(target, END)
            .compile()
            .unwrap()
    };
    let run = async |target| {
        nested(target)
            .run(Outer::default(), RunConfig::default())
            .await
    };
    assert_eq!(run("exit").await.unwrap().state.log, ["escape", "exit"]);
    let error = run("exits").await.unwrap_err();
    assert!(
        matches!(error, RunError::UndeclaredTarget { near: Some(_), .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_interrupt_inside_a_subgraph_is_answered_from_outside() {
    async fn ask(_: Arc<Inner>, ctx: Ctx) -> Result<InnerUpdate, NodeError> {
        let (a, b) = tokio::join!(ctx.interrupt("a", 1), ctx.interrupt("b", 2));
        Ok(InnerUpdate::new().seen([a?, b?]))
    }
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        let bench = bench(&around(inner(ask)));
        let config = || bench.config().durability(durability);
        let output = bench.thread.run(Outer::default(), config()).await.unwrap();
        assert_eq!(
            (output.status, output.interrupts.len()),
            (Status::Interrupted, 2)
        );
        let answers: Vec<(String, serde_json::Value)> = output
            .interrupts
            .iter()
            .map(|i| (i.id.clone(), i.key.clone().into()))
            .collect();
        let first = Answers::ById(BTreeMap::from([answers[0].clone()]));
        let output = bench.thread.resume(first, config()).await.unwrap();
        assert_eq!(
            (output.status, output.interrupts.len()),
            (Status::Interrupted, 1)
        );
        let rest = Answers::Only("b".into());
        let output = bench.thread.resume(rest, config()).await.unwrap();
        assert_eq!(
            output.state.log,
            ["first t0", "a", "b", "last"],
            "{durability:?}"
        );
        assert_eq!(
            bench.world.runs.load(Ordering::Relaxed),
            1,
            "inner steps are not repeated"
        );
    }
}

#[tokio::test]
async fn a_failed_subgraph_continues_where_it_failed() {
    async fn brittle(inner: Arc<Inner>, ctx: Ctx) -> Result<InnerUpdate, NodeError> {
        if ctx.shared().broken.load(Ordering::Relaxed) {
            return Err(NodeError::transient("broken"));
        }
        note(inner, ctx).await
    }
    let bench = bench(&around(inner(brittle)));
    bench.world.broken.store(true, Ordering::Relaxed);
    let error = bench
        .thread
        .run(Outer::default(), bench.config())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "run node sub: run node second: broken");
    assert!(error.is_retryable());
    bench.world.broken.store(false, Ordering::Relaxed);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.log, ["first t0", "second t0", "last"]);
    assert_eq!(bench.world.runs.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_drain_stops_inside_a_subgraph() {
    let bench = bench(&around(inner(note)));
    bench.world.broken.store(true, Ordering::Relaxed);
    let config = bench.config().drain(bench.world.drain.clone());
    let output = bench.thread.run(Outer::default(), config).await.unwrap();
    assert_eq!(output.status, Status::Drained);
    assert_eq!(bench.world.runs.load(Ordering::Relaxed), 1);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.log, ["first t0", "second t0", "last"]);
    assert_eq!(bench.world.runs.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn only_a_subgraph_with_memory_continues_its_state() {
    let graph = |with_memory| {
        let builder = Builder::new();
        let builder = if with_memory {
            builder.subgraph_with_memory("sub", inner(note), enter, leave)
        } else {
            builder.subgraph("sub", inner(note), enter, leave)
        };
        builder
            .edge(START, "sub")
            .edge("sub", END)
            .compile()
            .unwrap()
    };
    for (with_memory, second) in [
        (
            false,
            vec!["first t0", "second t0", "first t2", "second t2"],
        ),
        (
            true,
            vec![
                "first t0",
                "second t0",
                "first t0",
                "second t0",
                "first t2",
                "second t2",
            ],
        ),
    ] {
        let bench = bench(&graph(with_memory));
        bench
            .thread
            .run(Outer::default(), bench.config())
            .await
            .unwrap();
        let output = bench
            .thread
            .run(OuterUpdate::new(), bench.config())
            .await
            .unwrap();
        assert_eq!(output.state.log, second);
    }
}
