//! What goes on while something else waits: nodes beside a slow commit or a full stream, steps
//! that take too long, leases of readers that do not read.

use std::{
    future::pending,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use lyceum_graph::{
    Answers, Claim, END, EventKind, MemorySaver, Mode, Moment, MomentKind, NodeError, RunConfig,
    RunError, START, Saver as _, SaverError, Status, ThreadId,
    testkit::{Failpoints, Fault, Operation},
};

use crate::world::{Ctx, Log, LogGraph, LogUpdate, MODES, World, bench, builder, work};

/// Says that it lives, again and again.
async fn talks(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    for n in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ctx.emit(n).await;
    }
    work(log, ctx).await
}

/// `quick`, whose result is stored first, beside `talks`.
fn siblings() -> LogGraph {
    builder()
        .node("quick", work)
        .node("talks", talks)
        .edge(START, "quick")
        .edge(START, "talks")
        .edge("quick", END)
        .edge("talks", END)
        .compile()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_hangs_does_not_silence_the_siblings() {
    // The first commit is the input's, the second the result of `quick`.
    let saver = Failpoints::new(Arc::new(MemorySaver::new()));
    let saver = Arc::new(saver.at(Operation::Commit, 2, Fault::Hangs));
    let thread = siblings().thread(saver.clone(), ThreadId::new("t").unwrap());
    let config = RunConfig::new(World::default()).modes([Mode::Custom, Mode::Updates]);
    let mut stream = thread.stream(Log::default(), config);
    for expected in 0..5 {
        match stream.next().await.unwrap().unwrap().kind {
            EventKind::Custom { value, .. } => assert_eq!(value, expected),
            // What is not stored is not told.
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(saver.calls(Operation::Commit), 2, "one thing after another");
    let waits = tokio::time::timeout(Duration::from_secs(60), stream.next());
    assert!(waits.await.is_err(), "the record is still awaited");
}

#[tokio::test(start_paused = true)]
async fn a_full_stream_does_not_stop_nodes_that_tell_nothing() {
    async fn silent(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ctx.shared().effects.fetch_add(1, Ordering::Relaxed);
        work(log, ctx).await
    }
    let graph = builder()
        .node("quick", work)
        .node("silent", silent)
        .edge(START, "quick")
        .edge(START, "silent")
        .edge("quick", END)
        .edge("silent", END)
        .compile()
        .unwrap();
    let world = Arc::new(World::default());
    let config = RunConfig::new(world.clone())
        .event_buffer(1)
        .modes([Mode::Tasks]);
    let mut stream = graph.stream(Log::default(), config);
    // Both are started; then `quick` has ended and its event waits for a place.
    for _ in 0..2 {
        let event = stream.next().await.unwrap().unwrap();
        assert!(matches!(event.kind, EventKind::Started { .. }), "{event:?}");
    }
    let ended = stream.next().await.unwrap().unwrap();
    assert!(matches!(ended.kind, EventKind::Ended { .. }), "{ended:?}");
    let mut kinds = Vec::new();
    while let Some(event) = stream.next().await {
        kinds.push(event.unwrap().kind);
    }
    assert!(matches!(kinds.last(), Some(EventKind::Finished(_))));
    assert_eq!(world.effects.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_while_another_is_stored_is_not_lost() {
    // The commit of the first result is slow, the second ends meanwhile, the third fails.
    async fn late(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        work(log, ctx).await
    }
    async fn fails(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match ctx.shared().broken.swap(true, Ordering::Relaxed) {
            true => work(log, ctx).await,
            false => Err(NodeError::transient("at first")),
        }
    }
    let graph = builder()
        .node("a", work)
        .node("b", late)
        .node("c", fails)
        .edge(START, "a")
        .edge(START, "b")
        .edge(START, "c")
        .edge("a", END)
        .edge("b", END)
        .edge("c", END)
        .compile()
        .unwrap();
    for durability in MODES {
        let bench = bench(&graph);
        let config = || bench.config().durability(durability);
        let error = bench.thread.run(Log::default(), config()).await;
        assert!(
            matches!(error, Err(RunError::Node { .. })),
            "{durability:?}"
        );
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(output.state.done, ["a", "b", "c"], "{durability:?}");
        assert_eq!(bench.world.runs(), ["a", "b", "c"], "each ran once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_too_long_ends_the_run_and_keeps_what_was_done() {
    async fn hangs(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        match ctx.shared().broken.swap(true, Ordering::Relaxed) {
            true => work(log, ctx).await,
            false => pending().await,
        }
    }
    let graph = builder()
        .node("first", work)
        .node("good", work)
        .node("hangs", hangs)
        .edge(START, "first")
        .edge("first", "good")
        .edge("first", "hangs")
        .edge("good", END)
        .edge("hangs", END)
        .compile()
        .unwrap();
    let limit = Duration::from_secs(7);
    let config = RunConfig::new(World::default()).step_time_limit(limit);
    let error = graph.run(Log::default(), config).await.unwrap_err();
    assert!(matches!(error, RunError::StepTimeLimit { step: 2, .. }));
    assert_eq!(error.to_string(), "finish step 2 within 7s");
    for durability in MODES {
        let bench = bench(&graph);
        let config = || bench.config().durability(durability).step_time_limit(limit);
        let error = bench
            .thread
            .run(Log::default(), config())
            .await
            .unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(output.state.done, ["first", "good", "hangs"]);
        assert_eq!(
            bench.world.runs(),
            ["first", "good", "hangs"],
            "{durability:?}"
        );
    }
}

/// A lease outlives a reader's pause as long as nobody else wants the thread.
#[tokio::test(start_paused = true)]
async fn a_reader_that_pauses_goes_on_unless_another_took_the_thread() {
    let lease = Duration::from_secs(30);
    for is_taken in [false, true] {
        let saver = Arc::new(MemorySaver::new());
        let id = ThreadId::new("t").unwrap();
        let thread = siblings().thread(saver.clone(), id.clone()).lease(lease);
        let config = RunConfig::new(World::default()).modes([Mode::Custom]);
        let mut stream = thread.stream(Log::default(), config);
        let _first = stream.next().await.unwrap().unwrap();
        // Nobody polls the run, so nobody renews its lease.
        tokio::time::advance(lease * 10).await;
        if is_taken {
            saver.acquire(&id, lease, Claim::IfFree).await.unwrap();
        }
        let mut end = None;
        while let Some(event) = stream.next().await {
            end = Some(event);
        }
        match end {
            Some(Ok(event)) if !is_taken => {
                assert!(matches!(event.kind, EventKind::Finished(_)), "{event:?}");
            }
            Some(Err(RunError::Saver(SaverError::Fenced { .. }))) if is_taken => {}
            other => panic!("taken: {is_taken}, {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_observer_hears_that_a_run_goes_on() {
    let graph = builder()
        .node("first", work)
        .node("second", work)
        .edge(START, "first")
        .edge("first", "second")
        .edge("second", END)
        .interrupt_after("first")
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let config = || {
        let heard = heard.clone();
        let observer = move |moment: &Moment<'_>| {
            if let MomentKind::Resumed(checkpoint) = moment.kind {
                heard.lock().unwrap().push((moment.step, checkpoint.id.0));
            }
        };
        bench.config().observe(Arc::new(observer))
    };
    let output = bench.thread.run(Log::default(), config()).await.unwrap();
    assert_eq!(output.status, Status::Paused);
    assert!(heard.lock().unwrap().is_empty());
    let resumed = bench.thread.resume(Answers::None, config()).await.unwrap();
    assert_eq!(resumed.status, Status::Done);
    assert_eq!(*heard.lock().unwrap(), [(1, 2)]);
}

/// With `Exit`, records of steps that are merged are not held until the end.
#[tokio::test]
async fn a_long_run_that_is_stored_at_its_end_holds_no_more_than_one_step() {
    async fn turn(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        // A record of 10 kB a step.
        ctx.once("note", async |_| Ok("x".repeat(10_000))).await?;
        Ok(LogUpdate::new().scratch(log.scratch + 1))
    }
    let graph = builder()
        .node("turn", turn)
        .edge(START, "turn")
        .route("turn", ["turn", END], |log: &Log| match log.scratch {
            0..2_000 => "turn",
            _ => END,
        })
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let config = bench.config().durability(lyceum_graph::Durability::Exit);
    let config = config.step_limit(10_000);
    let before = resident_kb();
    let run = bench.thread.run(Log::default(), config);
    let mut run = Box::pin(run);
    let output = loop {
        if let Some(output) = run.as_mut().now_or_never() {
            break output.unwrap();
        }
    };
    assert_eq!(output.state.scratch, 2_000);
    // All records together are 20 MB.
    let growth = resident_kb().saturating_sub(before);
    assert!(growth < 10_000, "{growth} kB");
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The effect took place, and the attempt ends before the record of it is stored.
#[tokio::test(start_paused = true)]
async fn an_effect_whose_attempt_ends_before_its_record_is_not_repeated() {
    async fn pay(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let effects = &ctx.shared().effects;
        let paid = ctx.once("pay", async |_| Ok(effects.fetch_add(1, Ordering::Relaxed)));
        Ok(LogUpdate::new().done([format!("paid {}", paid.await?)]))
    }
    let graph = builder()
        .node("pay", pay)
        .edge(START, "pay")
        .edge("pay", END)
        .time_limit("pay", Duration::from_secs(5))
        .retry("pay", lyceum_graph::RetryPolicy::default())
        .compile()
        .unwrap();
    // The first commit is the input's, the second the record of the effect.
    for fault in [
        Fault::Hangs,
        Fault::DoesAndHangs,
        Fault::Fails,
        Fault::LosesReply,
    ] {
        let saver = Failpoints::new(Arc::new(MemorySaver::new())).at(Operation::Commit, 2, fault);
        let thread = graph.thread(Arc::new(saver), ThreadId::new("t").unwrap());
        let world = Arc::new(World::default());
        let run = thread.run(Log::default(), RunConfig::new(world.clone()));
        assert_eq!(run.await.unwrap().state.done, ["paid 0"], "{fault:?}");
        assert_eq!(world.effects.load(Ordering::Relaxed), 1, "{fault:?}");
    }
}

/// What one thread's node keeps, another's finds.
#[tokio::test]
async fn nodes_share_what_they_keep_in_the_store() {
    use lyceum_graph::{MemoryStore, Near, NewItem, Search, Shelf, Store as _};
    async fn learns(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let store = ctx
            .store()
            .ok_or_else(|| NodeError::permanent("no store"))?;
        let shelf = Shelf::new(["user-7", "likes"]).map_err(NodeError::permanent)?;
        let near = Near::Words("tea".to_owned());
        let known = store.search(Search::below(shelf.clone()).near(near)).await;
        let known = known.map_err(NodeError::transient)?.len();
        let item = NewItem::new(shelf, log.last.clone(), log.last.clone());
        store.put(item).await.map_err(NodeError::transient)?;
        Ok(LogUpdate::new().done([format!("knew {known}")]))
    }
    let graph = builder()
        .node("learns", learns)
        .edge(START, "learns")
        .edge("learns", END)
        .compile()
        .unwrap();
    let store = Arc::new(MemoryStore::new());
    for (n, likes) in ["green tea", "milk", "black tea"].into_iter().enumerate() {
        let config = RunConfig::new(World::default()).store(store.clone());
        let output = graph
            .run(LogUpdate::new().last(likes), config)
            .await
            .unwrap();
        assert_eq!(output.state.done, [format!("knew {}", n.min(1))]);
    }
    let all = Search::below(Shelf::default());
    assert_eq!(store.search(all).await.unwrap().len(), 3);
}
