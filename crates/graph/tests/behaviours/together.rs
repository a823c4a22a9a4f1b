//! Results that come together are stored together: a commit may cost a disk's sync.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use lyceum_graph::{
    Answers, Batch, Checkpoint, CheckpointId, Claim, END, Keep, Lease, MemorySaver, NodeError,
    RunConfig, START, Saved, Saver, SaverError, SendTo, Status, Thread, ThreadId, Worker,
};

use crate::world::{Ctx, Log, LogUpdate, World, builder};

const ITEM: Worker<u32> = Worker::new("item");
/// The sends of one step.
const ITEMS: u32 = 20;

/// Counts commits.
#[derive(Debug, Default)]
struct Counting {
    saver: MemorySaver,
    commits: AtomicUsize,
}

impl Saver for Counting {
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
        self.commits.fetch_add(1, Ordering::Relaxed);
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

async fn item(n: u32, _: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    ctx.shared().runs.lock().unwrap().push(n.to_string());
    // All have begun before the first ends, as calls over a network would.
    tokio::task::yield_now().await;
    if n == 0 && ctx.shared().broken.load(Ordering::Relaxed) {
        return Err(NodeError::permanent("broken"));
    }
    Ok(LogUpdate::new().done([n.to_string()]))
}

fn fan_out(saver: Arc<Counting>) -> Thread<Log, World, u8> {
    let sends = |_: &Log| -> Vec<SendTo> { (0..ITEMS).map(|n| ITEM.send(&n).unwrap()).collect() };
    let graph = builder()
        .worker(ITEM, item)
        .route(START, [ITEM.name()], sends)
        .edge(ITEM.name(), END)
        .compile()
        .unwrap();
    graph.thread(saver, ThreadId::new("t").unwrap())
}

#[tokio::test]
async fn a_step_whose_tasks_end_together_is_one_commit() {
    let saver = Arc::new(Counting::default());
    let thread = fan_out(saver.clone());
    let output = thread.run(Log::default(), RunConfig::default()).await;
    assert_eq!(output.unwrap().state.done.len(), 20);
    let commits = saver.commits.load(Ordering::Relaxed);
    assert_eq!(commits, 2, "the input's and the step's");
}

#[tokio::test]
async fn what_ended_beside_a_failure_is_stored_in_one_commit_and_does_not_run_again() {
    let saver = Arc::new(Counting::default());
    let thread = fan_out(saver.clone());
    let world = Arc::new(World::default());
    world.broken.store(true, Ordering::Relaxed);
    let config = || RunConfig::new(world.clone());
    thread.run(Log::default(), config()).await.unwrap_err();
    let commits = saver.commits.load(Ordering::Relaxed);
    assert_eq!(commits, 3, "the input's, 19 results, and what failed");

    world.runs();
    world.broken.store(false, Ordering::Relaxed);
    let output = thread.resume(Answers::None, config()).await.unwrap();
    assert_eq!(world.runs(), ["0"], "only the one without a result");
    let all: Vec<_> = (0..ITEMS).map(|n| n.to_string()).collect();
    assert_eq!(output.state.done, all);
}

#[tokio::test]
async fn results_that_come_one_by_one_are_stored_one_by_one() {
    let saver = Arc::new(Counting::default());
    let thread = fan_out(saver.clone());
    let one = NonZeroUsize::MIN;
    let output = thread
        .run(Log::default(), RunConfig::default().max_concurrency(one))
        .await
        .unwrap();
    assert_eq!(output.status, Status::Done);
    let commits = saver.commits.load(Ordering::Relaxed);
    assert_eq!(commits, 21, "the input's, 19 results, and the step's");
}
