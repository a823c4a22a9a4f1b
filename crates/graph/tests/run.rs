//! Runs without a saver, through the public API.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lyceum_graph::{
    CachePolicy, Command, Context, END, EventKind, Graph, GraphBuilder, MemorySaver, Mode,
    NodeError, RunConfig, RunError, START, Saver, State, Status, ThreadId, Worker,
};
use tokio_util::sync::CancellationToken;

#[derive(State, Clone, Debug, Default, PartialEq)]
struct Trail {
    last: String,
    #[state(append)]
    steps: Vec<String>,
    #[state(add)]
    count: u64,
    #[state(max)]
    highest: u64,
    #[state(fold = longer)]
    longest: String,
    #[state(topic)]
    news: Vec<u64>,
    #[state(ephemeral)]
    hint: String,
}

fn longer(value: &mut String, write: String) {
    if write.len() > value.len() {
        *value = write;
    }
}

/// A node that writes its name and nothing else.
async fn mark(_: Arc<Trail>, ctx: Context) -> Result<TrailUpdate, NodeError> {
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

/// Says that it was dropped.
struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type Drops = Arc<AtomicUsize>;

async fn hang(_: Arc<Trail>, ctx: Context<Drops, u8>) -> Result<(), NodeError> {
    let _guard = OnDrop(Arc::clone(ctx.shared()));
    ctx.emit(1).await;
    std::future::pending().await
}

async fn fail(_: Arc<Trail>, _: Context<Drops, u8>) -> Result<(), NodeError> {
    tokio::task::yield_now().await;
    Err(NodeError::transient("overloaded"))
}

#[tokio::test]
async fn failure_cancels_siblings() {
    let graph = GraphBuilder::new()
        .node("hang", hang)
        .node("fail", fail)
        .edge(START, "hang")
        .edge(START, "fail")
        .edge("hang", END)
        .edge("fail", END)
        .compile()
        .unwrap();
    let drops = Drops::default();
    let error = graph
        .run(Trail::default(), RunConfig::new(drops.clone()))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "run node fail: overloaded");
    assert!(error.is_retryable());
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_panic_fails_the_run_only() {
    async fn boom(_: Arc<Trail>, _: Context) -> Result<(), NodeError> {
        panic!("kettle {}", 7)
    }
    let graph = GraphBuilder::new()
        .node("boom", boom)
        .edge(START, "boom")
        .edge("boom", END)
        .compile()
        .unwrap();
    let error = graph
        .run(Trail::default(), RunConfig::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "run node boom: it panicked: kettle 7");
}

#[tokio::test]
async fn dropping_the_stream_and_cancelling_both_drop_the_running_nodes() {
    let graph = GraphBuilder::new()
        .node("hang", hang)
        .edge(START, "hang")
        .edge("hang", END)
        .compile()
        .unwrap();
    let drops = Drops::default();
    let token = CancellationToken::new();
    let config = || {
        RunConfig::new(drops.clone())
            .cancellation(token.clone())
            .modes([Mode::Custom])
    };

    let mut stream = graph.stream(Trail::default(), config());
    let event = stream.next().await.unwrap().unwrap();
    assert!(matches!(event.kind, EventKind::Custom { value: 1, .. }));
    drop(stream);
    assert_eq!(drops.load(Ordering::Relaxed), 1);

    let mut stream = graph.stream(Trail::default(), config());
    stream.next().await.unwrap().unwrap();
    token.cancel();
    let event = stream.next().await.unwrap().unwrap();
    let EventKind::Finished(output) = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!((output.status, output.steps), (Status::Cancelled, 0));
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_tells_every_event_in_order() {
    async fn speak(_: Arc<Trail>, ctx: Context<(), String>) -> Result<TrailUpdate, NodeError> {
        // More than the buffer holds: emitting waits for the reader.
        for word in ["tea", "is", "old"] {
            ctx.emit(word.to_owned()).await;
        }
        Ok(TrailUpdate::new().last("done"))
    }
    let graph = GraphBuilder::new()
        .node("speak", speak)
        .edge(START, "speak")
        .edge("speak", END)
        .compile()
        .unwrap();
    let stream = graph.stream(Trail::default(), RunConfig::default().event_buffer(1));
    let events: Vec<_> = stream
        .map(|event| format!("{:?}", event.unwrap()))
        .collect()
        .await;
    assert_eq!(
        events,
        [
            "#1 step 1 started speak",
            "#2 step 1 custom speak",
            "#3 step 1 custom speak",
            "#4 step 1 custom speak",
            "#5 step 1 updated speak",
            "#6 step 1 state",
            "#7 step 1 finished Done",
        ]
    );
}

#[tokio::test]
async fn a_failed_run_ends_its_stream_with_the_error() {
    let graph = GraphBuilder::new()
        .node("fail", fail)
        .edge(START, "fail")
        .edge("fail", END)
        .compile()
        .unwrap();
    let config = RunConfig::new(Drops::default()).modes([]);
    let items: Vec<_> = graph.stream(Trail::default(), config).collect().await;
    assert_eq!(items.len(), 1);
    assert!(matches!(items[0], Err(RunError::Node { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_result_is_taken_from_the_cache() {
    async fn costly(_: Arc<Trail>, ctx: Context<Drops, ()>) -> Result<TrailUpdate, NodeError> {
        let runs = ctx.shared().fetch_add(1, Ordering::Relaxed);
        if runs == 0 {
            return Err(NodeError::transient("failures are not kept"));
        }
        Ok(TrailUpdate::new().count(runs as u64))
    }
    let policy = CachePolicy {
        ttl: Duration::from_secs(60),
        capacity: NonZeroUsize::MIN,
    };
    let graph = GraphBuilder::new()
        .node("costly", costly)
        .cache("costly", policy, |trail: &Trail| trail.last.clone())
        .edge(START, "costly")
        .edge("costly", END)
        .compile()
        .unwrap();
    let runs = Drops::default();
    let run = async |key: &str| {
        let input = Trail {
            last: key.to_owned(),
            ..Trail::default()
        };
        graph
            .run(input, RunConfig::new(runs.clone()))
            .await
            .map(|output| output.state.count)
    };
    run("a").await.unwrap_err();
    assert_eq!((run("a").await.unwrap(), run("a").await.unwrap()), (1, 1));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(run("a").await.unwrap(), 2);
    assert_eq!(run("b").await.unwrap(), 3, "another key");
    assert_eq!(run("a").await.unwrap(), 4, "one result is kept");
}

/// Every order of completion, made by how often a node waits, gives the same checkpoints.
#[tokio::test]
async fn any_interleaving_of_completions_gives_the_same_checkpoints() {
    #[derive(Default)]
    struct Waits([usize; 4]);
    async fn wait(_: Arc<Trail>, ctx: Context<Waits>) -> Result<TrailUpdate, NodeError> {
        let name = ctx.node().to_string();
        let index = usize::from(name.as_bytes()[0] - b'a');
        for _ in 0..ctx.shared().0[index] {
            tokio::task::yield_now().await;
        }
        let update = TrailUpdate::new()
            .longest(name.clone())
            .highest(index as u64);
        Ok(update.steps([name]).count(1u64))
    }
    let graph = GraphBuilder::new()
        .node("a", wait)
        .node("b", wait)
        .node("c", wait)
        .node("d", wait)
        .edge(START, "a")
        .edge(START, "b")
        .edge(START, "c")
        .edge("a", "d")
        .edge("b", "d")
        .edge("c", END)
        .edge("d", END)
        .compile()
        .unwrap();
    let mut seen = Vec::new();
    for code in 0..27 {
        let waits = Waits([code % 3, code / 3 % 3, code / 9, 0]);
        let saver = Arc::new(MemorySaver::new());
        let thread = graph.thread(saver.clone(), ThreadId::new("t").unwrap());
        thread
            .run(Trail::default(), RunConfig::new(waits))
            .await
            .unwrap();
        let mut history = Vec::new();
        for head in thread.history(None, 10).await.unwrap() {
            let mut saved = saver
                .load(thread.id(), "", Some(head.id))
                .await
                .unwrap()
                .unwrap();
            saved.checkpoint.created_at_ms = 0;
            // Which results were recorded on their own depends on who was last.
            saved.records.clear();
            history.push(saved);
        }
        seen.push(history);
    }
    assert_eq!(seen[0].len(), 3);
    assert!(seen.iter().all(|history| *history == seen[0]));
}
