//! `Durability::Async`: what waits while a commit is under way, and what a crash leaves.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use lyceum_graph::{
    Answers, Batch, Checkpoint, CheckpointId, Claim, Durability, END, Keep, Lease, MemorySaver,
    Moment, MomentKind, NodeError, RunConfig, START, Saved, Saver, SaverError, Status, Thread,
    ThreadId,
};
use tokio::sync::Semaphore;

use crate::world::{Ctx, Log, LogUpdate, MODES, World, builder};

/// A memory saver whose commits wait for a permit each, and may fail.
#[derive(Debug)]
struct Gated {
    saver: MemorySaver,
    permits: Semaphore,
    /// How many checkpoints each commit held.
    commits: Mutex<Vec<usize>>,
    failing: AtomicUsize,
    prunes_fail: AtomicUsize,
}

impl Gated {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            saver: MemorySaver::new(),
            permits: Semaphore::new(permits),
            commits: Mutex::default(),
            failing: AtomicUsize::new(0),
            prunes_fail: AtomicUsize::new(0),
        })
    }

    fn commits(&self) -> Vec<usize> {
        self.commits.lock().unwrap().clone()
    }
}

fn fails(left: &AtomicUsize) -> Result<(), SaverError> {
    let less = |left: usize| left.checked_sub(1);
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
        Ok(_) => Err(SaverError::Backend {
            source: "asked for".into(),
        }),
        Err(_) => Ok(()),
    }
}

impl Saver for Gated {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        self.saver.acquire(thread, ttl, claim)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        self.saver.release(lease)
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        Box::pin(async move {
            self.permits.acquire().await.unwrap().forget();
            fails(&self.failing)?;
            self.commits.lock().unwrap().push(batch.checkpoints.len());
            self.saver.commit(lease, batch).await
        })
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        self.saver.load(thread, namespace, id)
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        self.saver.history(thread, namespace, before, limit)
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        Box::pin(async move {
            fails(&self.prunes_fail)?;
            self.saver.prune(lease, keep).await
        })
    }
}

/// Adds its name, after the others had a turn.
async fn turn(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    tokio::task::yield_now().await;
    ctx.shared().effects.fetch_add(1, Ordering::Relaxed);
    Ok(LogUpdate::new().done([log.done.len().to_string()]))
}

/// A loop of so many steps.
fn turns(saver: Arc<Gated>, steps: usize) -> Thread<Log, World, u8> {
    let graph = builder()
        .node("turn", turn)
        .edge(START, "turn")
        .route("turn", ["turn", END], move |log: &Log| {
            match log.done.len() < steps {
                true => "turn",
                false => END,
            }
        })
        .compile()
        .unwrap();
    graph.thread(saver, ThreadId::new("t").unwrap())
}

fn config(world: &Arc<World>) -> RunConfig<World> {
    RunConfig::new(world.clone())
        .durability(Durability::Async)
        .step_limit(10_000)
}

/// Polls until nothing happens any more.
async fn quiet() {
    for _ in 0..5_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_commit_is_under_way_is_the_next_commit() {
    let (saver, world) = (Gated::new(0), Arc::new(World::default()));
    let thread = turns(saver.clone(), 20);
    let run = tokio::spawn({
        let (thread, config) = (thread.clone(), config(&world));
        async move { thread.run(Log::default(), config).await }
    });
    quiet().await;
    assert_eq!(world.effects.load(Ordering::Relaxed), 20, "no step waits");
    assert!(!run.is_finished(), "the end waits for the record");
    assert!(thread.history(None, 9).await.unwrap().is_empty());
    saver.permits.add_permits(1);
    quiet().await;
    assert!(!run.is_finished(), "the end waits for all of the record");
    assert_eq!(thread.history(None, 99).await.unwrap().len(), 1, "a prefix");
    saver.permits.add_permits(1);
    assert_eq!(run.await.unwrap().unwrap().status, Status::Done);
    assert_eq!(saver.commits(), [1, 20], "the input's, and all steps'");
    assert_eq!(thread.history(None, 99).await.unwrap().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_too_far_ahead_of_its_record_waits() {
    let (saver, world) = (Gated::new(0), Arc::new(World::default()));
    let thread = turns(saver.clone(), 1_000);
    let run = tokio::spawn({
        let config = config(&world);
        async move { thread.run(Log::default(), config).await }
    });
    quiet().await;
    let steps = world.effects.load(Ordering::Relaxed);
    assert_eq!(steps, 256, "one commit under way, and 256 wait for it");
    saver.permits.add_permits(1_000);
    run.await.unwrap().unwrap();
    let commits = saver.commits();
    assert_eq!(commits.iter().sum::<usize>(), 1_001, "{commits:?}");
    assert!(commits.iter().all(|held| *held <= 256), "{commits:?}");
}

#[tokio::test(start_paused = true)]
async fn an_effect_is_acknowledged_after_all_that_came_before_it() {
    async fn effect(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let step = ctx.step();
        let effects = &ctx.shared().effects;
        ctx.once("pay", async |_| Ok(effects.fetch_add(1, Ordering::Relaxed)))
            .await?;
        ctx.shared().runs.lock().unwrap().push(step.to_string());
        Ok(LogUpdate::new().done([step.to_string()]))
    }
    let (saver, world) = (Gated::new(0), Arc::new(World::default()));
    let graph = builder()
        .node("turn", turn)
        .node("effect", effect)
        .edge(START, "turn")
        .edge("turn", "effect")
        .edge("effect", END);
    let thread = graph
        .compile()
        .unwrap()
        .thread(saver.clone(), ThreadId::new("t").unwrap());
    let run = tokio::spawn({
        let (thread, config) = (thread.clone(), config(&world));
        async move { thread.run(Log::default(), config).await }
    });
    quiet().await;
    assert_eq!(world.effects.load(Ordering::Relaxed), 2, "it takes place");
    assert!(world.runs().is_empty(), "and is not acknowledged");
    saver.permits.add_permits(2);
    quiet().await;
    assert!(!run.is_finished());
    assert_eq!(world.runs(), ["2"]);
    assert_eq!(thread.history(None, 9).await.unwrap().len(), 2);
    saver.permits.add_permits(1);
    run.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_is_tried_again_before_what_came_later() {
    let (saver, world) = (Gated::new(100), Arc::new(World::default()));
    let thread = turns(saver.clone(), 5);
    saver.failing.store(1, Ordering::Relaxed);
    let error = thread
        .run(Log::default(), config(&world))
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let heads = thread.history(None, 9).await.unwrap();
    let ids: Vec<_> = heads.iter().map(|head| head.id.0).collect();
    let whole: Vec<_> = (1..=heads.len() as u64).rev().collect();
    assert_eq!(ids, whole, "no checkpoint is missing between others");
    let output = thread.resume(Answers::None, config(&world)).await.unwrap();
    assert_eq!(output.state.done, ["0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_stores_what_it_had_done() {
    let (saver, world) = (Gated::new(0), Arc::new(World::default()));
    let thread = turns(saver.clone(), 20);
    let mut stream = thread.stream(Log::default(), config(&world));
    while world.effects.load(Ordering::Relaxed) < 10 {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    saver.permits.add_permits(100);
    quiet().await;
    assert!(thread.history(None, 99).await.unwrap().len() >= 10);
    let output = thread.resume(Answers::None, config(&world)).await.unwrap();
    assert_eq!(output.state.done.len(), 20);
    assert_eq!(world.effects.load(Ordering::Relaxed), 20, "none ran twice");
}

/// A subgraph that remembers what the graph around it has forgotten would do it twice:
/// whatever prefix of the commits survives, the run ends the same.
#[tokio::test(start_paused = true)]
async fn at_any_kill_a_subgraph_with_memory_is_no_further_than_the_graph_around_it() {
    for (durability, permits) in MODES
        .into_iter()
        .flat_map(|mode| (0..12).map(move |n| (mode, n)))
    {
        let (saver, world) = (Gated::new(permits), Arc::new(World::default()));
        let inner = builder()
            .node("add", turn)
            .edge(START, "add")
            .edge("add", END)
            .compile()
            .unwrap();
        let update = |log: &Log| LogUpdate::new().done([format!("inner {}", log.done.len())]);
        let graph = builder()
            .node("turn", turn)
            .subgraph_with_memory("inner", inner, |_: &Log| LogUpdate::new(), update)
            .edge(START, "turn")
            .edge("turn", "inner")
            .route("inner", ["turn", END], |log: &Log| match log.done.len() {
                0..6 => "turn",
                _ => END,
            })
            .compile()
            .unwrap();
        let thread = graph.thread(saver.clone(), ThreadId::new("t").unwrap());
        let config = || config(&world).durability(durability);
        {
            // A crash: what is in the memory of the process is gone.
            let mut run = Box::pin(thread.run(Log::default(), config()));
            for _ in 0..200 {
                if run.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            std::mem::forget(run);
        }
        saver.permits.forget_permits(usize::MAX >> 4);
        saver.permits.add_permits(1_000);
        let thread = thread.claim(Claim::TakeOver);
        let output = match thread.snapshot(None).await.unwrap() {
            Some(_) => thread.resume(Answers::None, config()).await.unwrap(),
            None => thread.run(Log::default(), config()).await.unwrap(),
        };
        let expected = ["0", "inner 1", "2", "inner 2", "4", "inner 3"];
        assert_eq!(
            output.state.done, expected,
            "{durability:?}, {permits} commits"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_prune_fails_no_run_is_told_and_tried_again() {
    for durability in [Durability::Sync, Durability::Async] {
        let (saver, world) = (Gated::new(1_000), Arc::new(World::default()));
        let thread = turns(saver.clone(), 40).keep_last(4);
        saver.prunes_fail.store(3, Ordering::Relaxed);
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        let observer = move |moment: &Moment<'_>| {
            if let MomentKind::PruneFailed(error) = moment.kind {
                assert!(error.is_retryable());
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let config = config(&world)
            .durability(durability)
            .max_concurrency(NonZeroUsize::MIN)
            .observe(Arc::new(observer));
        // Each step is a commit of its own.
        let mut stream = thread.stream(Log::default(), config);
        while let Some(event) = stream.next().await {
            event.unwrap();
            tokio::time::advance(Duration::from_millis(2)).await;
        }
        assert_eq!(told.load(Ordering::Relaxed), 3, "{durability:?}");
        let left = thread.history(None, 99).await.unwrap().len();
        assert!((4..=8).contains(&left), "{left} are left");
    }
}
