//! Runs without a saver: streams, failures, cancellation, cache, effects.

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
    CachePolicy, Context, END, EventKind, GraphBuilder, MemorySaver, Mode, NodeError, RetryPolicy,
    RunConfig, RunError, START, Saver, Status, ThreadId,
};
use tokio_util::sync::CancellationToken;

use crate::run::{Trail, TrailUpdate};

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
            "#1 step 0 state",
            "#2 step 1 started speak",
            "#3 step 1 custom speak",
            "#4 step 1 custom speak",
            "#5 step 1 custom speak",
            "#6 step 1 updated speak",
            "#7 step 1 ended speak wrote",
            "#8 step 1 state",
            "#9 step 1 finished Done",
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

#[tokio::test(start_paused = true)]
async fn a_second_attempt_finds_the_effects_of_the_first() {
    async fn flaky(_: Arc<Trail>, ctx: Context<Drops>) -> Result<TrailUpdate, NodeError> {
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let effect = async |_| Ok(ctx.shared().fetch_add(1, Ordering::Relaxed) as u64);
            numbers.push(ctx.once("effect", effect).await?);
        }
        if ctx.attempt() < 3 {
            return Err(NodeError::transient("later"));
        }
        Ok(TrailUpdate::new().last(format!("{numbers:?}")))
    }
    let graph = GraphBuilder::new()
        .node("flaky", flaky)
        .retry("flaky", RetryPolicy::default())
        .edge(START, "flaky")
        .edge("flaky", END)
        .compile()
        .unwrap();
    let effects = Drops::default();
    let config = RunConfig::new(effects.clone());
    let output = graph.run(Trail::default(), config).await.unwrap();
    assert_eq!(output.state.last, "[0, 1]");
    assert_eq!(effects.load(Ordering::Relaxed), 2);
}
