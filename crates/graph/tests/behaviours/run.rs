//! Runs without a saver: order, merging, routes, sends.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use lyceum_graph::{
    Command, Context, END, Graph, GraphBuilder, NodeError, RunConfig, RunError, START, State,
    Status, Worker,
};

#[derive(State, Clone, Debug, Default, PartialEq)]
pub(crate) struct Trail {
    pub(crate) last: String,
    #[state(append)]
    pub(crate) steps: Vec<String>,
    #[state(add)]
    pub(crate) count: u64,
    #[state(max)]
    pub(crate) highest: u64,
    #[state(fold = longer)]
    pub(crate) longest: String,
    #[state(topic)]
    pub(crate) news: Vec<u64>,
    #[state(ephemeral)]
    pub(crate) hint: String,
}

fn longer(value: &mut String, write: String) {
    if write.len() > value.len() {
        *value = write;
    }
}

/// A node that writes its name and nothing else.
pub(crate) async fn mark(_: Arc<Trail>, ctx: Context) -> Result<TrailUpdate, NodeError> {
    Ok(TrailUpdate::new()
        .steps([ctx.node().to_string()])
        .count(1u64))
}

fn fan_out() -> Graph<Trail> {
    GraphBuilder::new()
        .node("a", mark)
        .node("b", mark)
        .node("c", mark)
        .node("end", mark)
        .edge(START, "c")
        .edge(START, "a")
        .edge(START, "b")
        .join(["a", "b", "c"], "end")
        .edge("end", END)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn merges_in_the_order_of_names_and_joins_once() {
    let output = fan_out()
        .run(TrailUpdate::new(), RunConfig::default())
        .await
        .unwrap();
    assert_eq!(output.state.steps, ["a", "b", "c", "end"]);
    assert_eq!(
        (output.state.count, output.steps, output.status),
        (4, 2, Status::Done)
    );
}

#[tokio::test]
async fn multi_source_join_fires_once() {
    let graph = GraphBuilder::new()
        .node("short", mark)
        .node("long1", mark)
        .node("long2", mark)
        .node("joined", mark)
        .edge(START, "short")
        .edge(START, "long1")
        .edge("long1", "long2")
        .join(["short", "long2"], "joined")
        .edge("joined", END)
        .compile()
        .unwrap();
    let output = graph
        .run(Trail::default(), RunConfig::default())
        .await
        .unwrap();
    assert_eq!(output.state.steps, ["long1", "short", "long2", "joined"]);
}

#[tokio::test]
async fn deferred_node_last() {
    let graph = GraphBuilder::new()
        .node("short", mark)
        .node("long1", mark)
        .node("long2", mark)
        .deferred_node("a_summary", mark)
        .edge(START, "short")
        .edge(START, "long1")
        .edge("long1", "long2")
        .edge("short", "a_summary")
        .edge("long2", "a_summary")
        .edge("a_summary", END)
        .compile()
        .unwrap();
    let output = graph
        .run(Trail::default(), RunConfig::default())
        .await
        .unwrap();
    assert_eq!(output.state.steps, ["long1", "short", "long2", "a_summary"]);
}

#[tokio::test]
async fn double_write_to_a_last_value_field_rejected() {
    async fn write(_: Arc<Trail>, ctx: Context) -> Result<TrailUpdate, NodeError> {
        Ok(TrailUpdate::new().last(ctx.node().as_str()))
    }
    let graph = GraphBuilder::new()
        .node("a", write)
        .node("b", write)
        .edge(START, "a")
        .edge(START, "b")
        .edge("a", END)
        .edge("b", END)
        .compile()
        .unwrap();
    let error = graph
        .run(Trail::default(), RunConfig::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RunError::Conflict { channel: "last", first, second, step: 1 }
            if first.as_str() == "a" && second.as_str() == "b"),
        "{error}"
    );
}

#[tokio::test]
async fn each_reducer_merges_its_way_and_short_lived_channels_are_cleared() {
    async fn first(_: Arc<Trail>, _: Context) -> Result<TrailUpdate, NodeError> {
        let update = TrailUpdate::new().highest(3u64).longest("abc").news([1]);
        Ok(update.hint("once"))
    }
    async fn second(_: Arc<Trail>, _: Context) -> Result<TrailUpdate, NodeError> {
        Ok(TrailUpdate::new().highest(2u64).longest("ab").news([2]))
    }
    async fn look(trail: Arc<Trail>, _: Context) -> Result<TrailUpdate, NodeError> {
        Ok(TrailUpdate::new().last(format!("{:?} {}", trail.news, trail.hint)))
    }
    let graph = GraphBuilder::new()
        .node("first", first)
        .node("second", second)
        .node("look", look)
        .edge(START, "first")
        .edge(START, "second")
        .edge("first", "look")
        .edge("second", "look")
        .edge("look", END)
        .compile()
        .unwrap();
    let output = graph
        .run(Trail::default(), RunConfig::default())
        .await
        .unwrap();
    let expected = Trail {
        last: "[1, 2] once".into(),
        highest: 3,
        longest: "abc".into(),
        ..Trail::default()
    };
    assert_eq!(*output.state, expected);
}

#[tokio::test]
async fn a_cycle_ends_by_its_route_or_at_the_limit() {
    let graph = GraphBuilder::<Trail>::new()
        .node("again", mark)
        .edge(START, "again")
        .route("again", ["again", END], |trail: &Trail| {
            if trail.count < 5 { "again" } else { END }
        })
        .compile()
        .unwrap();
    let output = graph
        .run(Trail::default(), RunConfig::default())
        .await
        .unwrap();
    assert_eq!((output.state.count, output.steps), (5, 5));
    let error = graph
        .run(Trail::default(), RunConfig::default().step_limit(4))
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::StepLimit { limit: 4 }), "{error}");
}

#[tokio::test]
async fn an_undeclared_target_is_an_error_with_a_suggestion() {
    async fn jump(_: Arc<Trail>, _: Context) -> Result<Command<Trail>, NodeError> {
        Ok(Command::goto("finnish"))
    }
    let graph = GraphBuilder::new()
        .node("jump", jump)
        .node("finish", mark)
        .edge(START, "jump")
        .destinations("jump", ["finish"])
        .edge("finish", END)
        .compile()
        .unwrap();
    let error = graph
        .run(Trail::default(), RunConfig::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "leave node jump: finnish is not among its declared targets; did you mean finish?"
    );
}

#[tokio::test]
async fn send_order_and_max_concurrency() {
    const WORK: Worker<u64> = Worker::new("work");
    #[derive(Default)]
    struct Gauge {
        now: AtomicUsize,
        most: AtomicUsize,
    }
    async fn split(_: Arc<Trail>, _: Context<Gauge>) -> Result<Command<Trail>, NodeError> {
        // The answers come in the order of the sends, not of the payloads.
        let sends = [3, 1, 2]
            .iter()
            .map(|n| WORK.send(n))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(sends.into())
    }
    async fn work(n: u64, _: Arc<Trail>, ctx: Context<Gauge>) -> Result<TrailUpdate, NodeError> {
        let gauge = ctx.shared();
        let now = gauge.now.fetch_add(1, Ordering::Relaxed) + 1;
        gauge.most.fetch_max(now, Ordering::Relaxed);
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        gauge.now.fetch_sub(1, Ordering::Relaxed);
        Ok(TrailUpdate::new().steps([format!("work {n}")]))
    }
    let graph = GraphBuilder::new()
        .node("split", split)
        .worker(WORK, work)
        .edge(START, "split")
        .destinations("split", ["work"])
        .edge("work", END)
        .compile()
        .unwrap();
    for (limit, most) in [(usize::MAX, 3), (2, 2), (1, 1)] {
        let gauge = Arc::new(Gauge::default());
        let config =
            RunConfig::new(gauge.clone()).max_concurrency(NonZeroUsize::new(limit).unwrap());
        let output = graph.run(Trail::default(), config).await.unwrap();
        assert_eq!(output.state.steps, ["work 3", "work 1", "work 2"]);
        assert_eq!(gauge.most.load(Ordering::Relaxed), most);
    }
}

/// What nodes share beside the state has a type, and is the same value everywhere in a run.
#[tokio::test]
async fn the_runtime_context_is_typed_and_reaches_workers_and_subgraphs() {
    #[derive(Default)]
    struct Shared {
        language: &'static str,
        seen: AtomicUsize,
    }
    const WORK: Worker<u8> = Worker::new("work");
    fn see(ctx: &Context<Shared>) -> TrailUpdate {
        ctx.shared().seen.fetch_add(1, Ordering::Relaxed);
        TrailUpdate::new().steps([format!("{} {}", ctx.node(), ctx.shared().language)])
    }
    async fn plain(_: Arc<Trail>, ctx: Context<Shared>) -> Result<Command<Trail>, NodeError> {
        Ok(Command::update(see(&ctx)).and_send(WORK.send(&1)?))
    }
    async fn work(_: u8, _: Arc<Trail>, ctx: Context<Shared>) -> Result<TrailUpdate, NodeError> {
        Ok(see(&ctx))
    }
    async fn inner(_: Arc<Trail>, ctx: Context<Shared>) -> Result<TrailUpdate, NodeError> {
        Ok(see(&ctx))
    }
    let nested = GraphBuilder::new()
        .node("inner", inner)
        .edge(START, "inner")
        .edge("inner", END)
        .compile()
        .unwrap();
    let leave = |trail: &Trail| TrailUpdate::new().steps(trail.steps.clone());
    let graph = GraphBuilder::new()
        .node("plain", plain)
        .worker(WORK, work)
        .subgraph("sub", nested, |_: &Trail| TrailUpdate::new(), leave)
        .edge(START, "plain")
        .destinations("plain", ["work"])
        .edge("work", "sub")
        .edge("sub", END)
        .compile()
        .unwrap();
    let shared = Arc::new(Shared {
        language: "fr",
        ..Shared::default()
    });
    let config = RunConfig::new(shared.clone());
    let output = graph.run(Trail::default(), config).await.unwrap();
    assert_eq!(output.state.steps, ["plain fr", "work fr", "inner fr"]);
    assert_eq!(shared.seen.load(Ordering::Relaxed), 3);
}
