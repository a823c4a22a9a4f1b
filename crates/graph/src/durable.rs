//! One thread as its writer sees it: what is stored, when, and in which order.
//!
//! Invariant: a record is never stored before the checkpoint whose plan it belongs to.
//! Deliberately absent: what is worth storing, which the driver decides.

use std::{
    future::poll_fn,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    saver::{
        Batch, CheckpointId, Claim, Keep, Lease, Metadata, Record, Saver, SaverError, ThreadId,
    },
    turns::Turn,
};
use futures_util::future::BoxFuture;

/// When progress is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the run goes on: after a crash, nothing that the run has told is lost.
    #[default]
    Sync,
    /// While the run goes on, at most one batch behind: a crash may lose the last step.
    Async,
    /// When the run ends, in whichever way: a crash loses the run.
    Exit,
}

/// Becomes the writer of a thread.
///
/// Dropping the future while the saver decides would leave the thread to nobody until the
/// lease ends; instead the claim is seen to its end on the current runtime, and given back.
pub(crate) async fn acquire(
    saver: &Arc<dyn Saver>,
    thread: &ThreadId,
    ttl: Duration,
    claim: Claim,
) -> Result<Lease, SaverError> {
    let (asked, thread) = (saver.clone(), thread.clone());
    let running = async move { asked.acquire(&thread, ttl, claim).await };
    let mut claiming = Claiming {
        saver: saver.clone(),
        running: Some(Box::pin(running)),
        has_begun: false,
    };
    poll_fn(|cx| claiming.poll(cx)).await
}

struct Claiming {
    saver: Arc<dyn Saver>,
    running: Option<BoxFuture<'static, Result<Lease, SaverError>>>,
    has_begun: bool,
}

impl Claiming {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Lease, SaverError>> {
        self.has_begun = true;
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        let result = ready!(running.as_mut().poll(cx));
        self.running = None;
        Poll::Ready(result)
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let Some(running) = self.running.take().filter(|_| self.has_begun) else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let saver = self.saver.clone();
            runtime.spawn(async move {
                if let Ok(lease) = running.await {
                    let _ends_by_itself = saver.release(&lease).await;
                }
            });
        }
    }
}

/// The right to write, released when dropped.
#[derive(Debug)]
pub(crate) struct HeldLease {
    saver: Arc<dyn Saver>,
    pub(crate) lease: Lease,
    released: AtomicBool,
    /// What lets the next run of this process go on, after the lease.
    turn: Mutex<Option<Turn>>,
}

impl HeldLease {
    pub(crate) fn new(saver: Arc<dyn Saver>, lease: Lease, turn: Option<Turn>) -> Self {
        Self {
            saver,
            lease,
            released: AtomicBool::new(false),
            turn: Mutex::new(turn),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_turn(&self) -> bool {
        self.turn().is_some()
    }

    /// Notes where the run began.
    pub(crate) fn began_at(&self, checkpoint: Option<CheckpointId>) {
        if let Some(turn) = &*self.turn() {
            turn.began_at(checkpoint);
        }
    }

    /// Lets others write. A failure only delays them until the lease ends by itself.
    pub(crate) async fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            let _ends_by_itself = self.saver.release(&self.lease).await;
        }
        let turn = self.turn().take();
        drop(turn);
    }
}

impl Drop for HeldLease {
    /// A dropped run cannot wait. One short task gives the thread back, so that the next
    /// run need not sit out the lease; without a runtime it ends by itself.
    fn drop(&mut self) {
        if *self.released.get_mut() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (saver, lease, turn) = (self.saver.clone(), self.lease.clone(), self.turn().take());
            runtime.spawn(async move {
                let _ends_by_itself = saver.release(&lease).await;
                drop(turn);
            });
        }
    }
}

/// A thread, or a subgraph's part of one, while a run writes it.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) saver: Arc<dyn Saver>,
    pub(crate) held: Arc<HeldLease>,
    /// Empty for the outermost graph, else the path of subgraph nodes.
    pub(crate) namespace: String,
    pub(crate) durability: Durability,
    /// What every checkpoint carries.
    pub(crate) metadata: Arc<Metadata>,
    /// The last checkpoint id given out, for all namespaces of the thread.
    ids: Arc<AtomicU64>,
    /// The newest stored checkpoint of this namespace.
    stored: watch::Sender<u64>,
    /// How many checkpoints of each namespace the thread keeps at least, if not all.
    keep: Option<NonZeroU32>,
    /// The number of times that `keep` fits into the last checkpoint id that was pruned at.
    pruned: Arc<AtomicU64>,
    /// With [`Durability::Exit`]: records that wait for the end of the run.
    staged: Mutex<Vec<Record>>,
}

impl Durable {
    pub(crate) fn root(
        held: Arc<HeldLease>,
        saver: Arc<dyn Saver>,
        durability: Durability,
        metadata: Arc<Metadata>,
    ) -> Self {
        let last = held.lease.last.map_or(0, |id| id.0);
        Self {
            saver,
            held,
            namespace: String::new(),
            durability,
            metadata,
            ids: Arc::new(AtomicU64::new(last)),
            stored: watch::Sender::new(0),
            keep: None,
            pruned: Arc::default(),
            staged: Mutex::default(),
        }
    }

    /// The same thread, seen by a subgraph.
    pub(crate) fn nested(&self, node: &str) -> Self {
        Self {
            saver: self.saver.clone(),
            held: self.held.clone(),
            namespace: format!("{}/{node}", self.namespace),
            durability: self.durability,
            metadata: self.metadata.clone(),
            ids: self.ids.clone(),
            stored: watch::Sender::new(0),
            keep: self.keep,
            pruned: self.pruned.clone(),
            staged: Mutex::default(),
        }
    }

    /// Keeps about so many checkpoints.
    pub(crate) fn keep_last(mut self, keep: Option<NonZeroU32>) -> Self {
        let last = self.ids.load(Ordering::Relaxed);
        let pruned = keep.map_or(0, |keep| last / u64::from(keep.get()));
        self.keep = keep;
        self.pruned = Arc::new(pruned.into());
        self
    }

    /// Removes old checkpoints, once for as many new ones as are kept: the work of it is
    /// shared out, and a thread holds at most twice that many.
    pub(crate) async fn prune(&self, stored: CheckpointId) -> Result<(), SaverError> {
        let Some(keep) = self.keep else {
            return Ok(());
        };
        let times = stored.0 / u64::from(keep.get());
        if self.pruned.fetch_max(times, Ordering::Relaxed) < times {
            let keep = Keep::Last(keep.get());
            self.saver.prune(&self.held.lease, keep).await?;
        }
        Ok(())
    }

    pub(crate) fn next_id(&self) -> CheckpointId {
        CheckpointId(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Says that a checkpoint is stored, so that records may follow it.
    pub(crate) fn mark_stored(&self, id: CheckpointId) {
        self.stored.send_replace(id.0);
    }

    pub(crate) fn stage(&self, records: impl IntoIterator<Item = Record>) {
        self.staged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(records);
    }

    /// The staged records of one checkpoint; older ones are part of it by now.
    pub(crate) fn take_staged(&self, checkpoint: Option<CheckpointId>) -> Vec<Record> {
        let mut staged =
            std::mem::take(&mut *self.staged.lock().unwrap_or_else(PoisonError::into_inner));
        staged.retain(|record| Some(record.checkpoint) == checkpoint);
        staged
    }

    /// Stores one record of a running task.
    pub(crate) async fn record(
        &self,
        checkpoint: CheckpointId,
        task: usize,
        key: String,
        bytes: Vec<u8>,
    ) -> Result<(), SaverError> {
        let task = u32::try_from(task).unwrap_or(u32::MAX);
        let record = Record {
            checkpoint,
            task,
            key,
            bytes,
        };
        if self.durability == Durability::Exit {
            self.stage([record]);
            return Ok(());
        }
        // The sender lives as long as `self`, so waiting cannot fail.
        let mut stored = self.stored.subscribe();
        // The borrow must end here: the driver takes the lock to store the next checkpoint.
        drop(stored.wait_for(|id| *id >= checkpoint.0).await);
        self.commit(&Batch {
            records: vec![record],
            ..Batch::default()
        })
        .await
    }

    pub(crate) async fn commit(&self, batch: &Batch) -> Result<(), SaverError> {
        self.saver.commit(&self.held.lease, batch).await
    }
}
