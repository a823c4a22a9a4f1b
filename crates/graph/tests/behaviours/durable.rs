//! Threads: what survives the end of a run, and who may write.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use lyceum_graph::{
    Answers, Batch, Checkpoint, CheckpointId, Claim, END, EventKind, Keep, Lease, MemorySaver,
    NodeError, RunConfig, RunError, START, Saved, Saver, SaverError, Status, ThreadId,
};
use tokio_util::sync::CancellationToken;

use crate::world::{Ctx, Log, LogUpdate, MODES, World, bench, builder, hang, siblings, work};

#[tokio::test]
async fn the_memory_saver_conforms() {
    lyceum_graph::conformance::check(&MemorySaver::new()).await;
    lyceum_graph::conformance::check_store(&lyceum_graph::MemoryStore::new()).await;
    lyceum_graph::conformance::check_threads(&MemorySaver::new()).await;
}

#[tokio::test]
async fn a_thread_continues_its_state_and_forgets_what_is_untracked() {
    async fn scratch(log: Arc<Log>, _: Ctx) -> Result<LogUpdate, NodeError> {
        Ok(LogUpdate::new()
            .scratch(7u32)
            .done([log.scratch.to_string()]))
    }
    let graph = builder()
        .node("n", scratch)
        .edge(START, "n")
        .edge("n", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    let output = bench
        .thread
        .run(LogUpdate::new().last("b"), bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.done, ["0", "0"]);
    assert_eq!((output.state.last.as_str(), output.steps), ("b", 1));
    let heads = bench.thread.history(None, 10).await.unwrap();
    assert_eq!(heads[0].step, 2);
    let changed = heads[0]
        .values
        .iter()
        .filter(|v| v.written_by == heads[0].id);
    let changed: Vec<_> = changed.map(|value| value.channel.as_str()).collect();
    assert_eq!(changed, ["done"], "a checkpoint holds only what changed");
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_takeover_fences_the_first() {
    let graph = builder()
        .node("ask", hang)
        .edge(START, "ask")
        .edge("ask", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let mut first = bench.thread.stream(Log::default(), bench.config());
    first.next().await.unwrap().unwrap();
    let error = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RunError::Saver(SaverError::Busy { .. })),
        "{error}"
    );
    assert!(error.is_retryable());

    let second = bench.thread.clone().claim(Claim::TakeOver);
    bench.world.broken.store(true, Ordering::Relaxed);
    let output = second.resume(Answers::None, bench.config()).await.unwrap();
    assert_eq!(output.status, Status::Done);
    let error = loop {
        match first.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, RunError::Saver(SaverError::Fenced { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_dropped_run_gives_the_thread_back() {
    let graph = builder()
        .node("hang", hang)
        .edge(START, "hang")
        .edge("hang", END);
    let bench = bench(&graph.compile().unwrap());
    let mut stream = bench.thread.stream(Log::default(), bench.config());
    stream.next().await.unwrap().unwrap();
    drop(stream);
    tokio::task::yield_now().await;
    bench.world.broken.store(true, Ordering::Relaxed);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.status, Status::Done);
}

#[tokio::test(start_paused = true)]
async fn a_long_node_keeps_its_lease_and_a_dead_writer_loses_it() {
    async fn slow(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        tokio::time::sleep(Duration::from_secs(300)).await;
        work(log, ctx).await
    }
    let graph = builder()
        .node("slow", slow)
        .edge(START, "slow")
        .edge("slow", END);
    let bench = bench(&graph.compile().unwrap());
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();

    let lease = bench
        .saver
        .acquire(bench.thread.id(), Duration::from_secs(5), Claim::IfFree);
    lease.await.unwrap();
    bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap_err();
    tokio::time::advance(Duration::from_secs(5)).await;
    bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
}

#[tokio::test]
async fn checkpoint_still_written_after_external_cancel() {
    for durability in MODES {
        let graph = builder()
            .node("good", work)
            .node("hang", hang)
            .edge(START, "good")
            .edge(START, "hang")
            .edge("good", END)
            .edge("hang", END)
            .compile()
            .unwrap();
        let bench = bench(&graph);
        let token = CancellationToken::new();
        let config = bench
            .config()
            .durability(durability)
            .cancellation(token.clone());
        let mut stream = bench.thread.stream(Log::default(), config);
        let mut status = None;
        while let Some(event) = stream.next().await {
            match event.unwrap().kind {
                EventKind::Updated { .. } => token.cancel(),
                EventKind::Finished(output) => status = Some(output.status),
                _ => {}
            }
        }
        assert_eq!(status, Some(Status::Cancelled));
        assert_eq!(bench.world.runs(), ["good"]);
        bench.world.broken.store(true, Ordering::Relaxed);
        let config = bench.config().durability(durability);
        let output = bench.thread.resume(Answers::None, config).await.unwrap();
        assert_eq!(output.state.done, ["good"]);
        assert_eq!(bench.world.runs(), [""; 0], "{durability:?}: good ran once");
    }
}

#[tokio::test]
async fn drain_then_resume() {
    for durability in MODES {
        let bench = bench(&siblings());
        let token = CancellationToken::new();
        let config = bench.config().durability(durability).drain(token.clone());
        let mut stream = bench.thread.stream(Log::default(), config);
        let mut last = None;
        while let Some(event) = stream.next().await {
            match event.unwrap().kind {
                EventKind::Started { node, .. } if node.as_str() == "good" => token.cancel(),
                EventKind::Finished(output) => last = Some(output),
                _ => {}
            }
        }
        let output = last.unwrap();
        assert_eq!((output.status, output.steps), (Status::Drained, 2));
        assert_eq!(bench.world.runs(), ["start", "good", "bad"]);
        let config = bench.config().durability(durability);
        let output = bench.thread.resume(Answers::None, config).await.unwrap();
        assert_eq!(output.state.done, ["start", "bad", "good", "end"]);
        assert_eq!(bench.world.runs(), ["end"]);
    }
}

/// A memory saver that takes its time to say that a thread was acquired.
#[derive(Debug, Default)]
struct Slow {
    saver: MemorySaver,
    go: tokio::sync::Notify,
}

impl Saver for Slow {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        Box::pin(async move {
            let lease = self.saver.acquire(thread, ttl, claim).await?;
            self.go.notified().await;
            Ok(lease)
        })
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        self.saver.release(lease)
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        self.saver.commit(lease, batch)
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
        self.saver.prune(lease, keep)
    }
}

#[tokio::test]
async fn a_run_dropped_while_it_claims_its_thread_gives_it_back() {
    let saver = Arc::new(Slow::default());
    let thread = siblings().thread(saver.clone(), ThreadId::new("t").unwrap());
    let world = Arc::new(World::default());
    {
        let mut run = pin!(thread.run(Log::default(), RunConfig::new(world.clone())));
        assert!(run.as_mut().now_or_never().is_none());
    }
    saver.go.notify_one();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let lease = saver
        .saver
        .acquire(thread.id(), Duration::from_secs(9), Claim::IfFree);
    lease.await.unwrap();
    assert_eq!(world.runs(), [""; 0]);
}
