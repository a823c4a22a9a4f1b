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

use crate::{
    outbox::Outbox,
    pruning::Pruning,
    saver::{
        Batch, CheckpointId, Claim, Lease, Metadata, Record, Saved, Saver, SaverError, ThreadId,
    },
    turns::Turn,
};
use futures_util::future::BoxFuture;

/// When progress is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the run goes on, in a commit for each step: after a crash, nothing that the
    /// run has told is lost.
    #[default]
    Sync,
    /// While the run goes on. One commit is under way at a time; what the run does meanwhile
    /// waits, 256 results and checkpoints or 1 MiB at most, and becomes the next commit as a
    /// whole. Beyond that the run waits.
    ///
    /// A crash loses what came after the last commit: steps, results and questions that the
    /// run's stream may have told of already. Their nodes run again. Never lost is what was
    /// acknowledged: a run ends, and `Context::once` returns, after everything before it is
    /// stored. What is found after a crash is the thread as it was at one moment, its
    /// subgraphs included.
    Async,
    /// When the run ends, in whichever way but a crash or a drop, in one commit for the
    /// graph and its subgraphs. A crash loses the run, and what its `Context::once` recorded:
    /// these effects take place again, under the same id.
    ///
    /// Of subgraphs, what is more than 1 MiB or 256 runs is stored before the end; it counts
    /// from the end on.
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
    pub(crate) pruning: Arc<Pruning>,
    /// What is not stored yet, in its order.
    pub(crate) outbox: Outbox,
    durability: Durability,
    /// What lets the next run of this process go on, after the lease.
    turn: Mutex<Option<Turn>>,
}

impl HeldLease {
    pub(crate) fn new(
        saver: Arc<dyn Saver>,
        lease: Lease,
        durability: Durability,
        keep: Option<NonZeroU32>,
        turn: Option<Turn>,
    ) -> Self {
        let last = lease.last.map_or(0, |id| id.0);
        let pruning = Arc::new(Pruning::new(keep, last));
        Self {
            outbox: Outbox::new(saver.clone(), lease.clone(), pruning.clone()),
            pruning,
            durability,
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
    /// A dropped run cannot wait. One short task stores what still waits for that and gives
    /// the thread back, so that the next run need not sit out the lease; without a runtime
    /// the lease ends by itself.
    fn drop(&mut self) {
        if *self.released.get_mut() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (saver, lease, turn) = (self.saver.clone(), self.lease.clone(), self.turn().take());
            let rest = match self.durability {
                Durability::Sync | Durability::Async => self.outbox.take(),
                Durability::Exit => Batch::default(),
            };
            runtime.spawn(async move {
                if !rest.is_empty() {
                    let _lost_like_in_a_crash = saver.commit(&lease, &rest).await;
                }
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
            staged: Mutex::default(),
        }
    }

    /// The same thread, seen by the subgraph that keeps its part there.
    pub(crate) fn within(mut self, place: String) -> Self {
        self.namespace = place;
        self
    }

    /// The same thread, seen by the subgraph that keeps its part there.
    pub(crate) fn nested(&self, place: String) -> Self {
        Self {
            saver: self.saver.clone(),
            held: self.held.clone(),
            namespace: place,
            durability: self.durability,
            metadata: self.metadata.clone(),
            ids: self.ids.clone(),
            staged: Mutex::default(),
        }
    }

    /// Whether nothing of the thread was ever stored.
    pub(crate) fn is_new(&self) -> bool {
        self.ids.load(Ordering::Relaxed) == 0
    }

    /// Whether a checkpoint was made by this run.
    pub(crate) fn has_made(&self, checkpoint: CheckpointId) -> bool {
        self.held.lease.last.is_none_or(|last| checkpoint > last)
    }

    pub(crate) fn next_id(&self) -> CheckpointId {
        CheckpointId(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn stage(&self, records: impl IntoIterator<Item = Record>) {
        self.staged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(records);
    }

    /// Forgets the staged records of older checkpoints: they are part of this one by now.
    pub(crate) fn forget_staged(&self, checkpoint: CheckpointId) {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        staged.retain(|record| record.checkpoint == checkpoint);
    }

    /// The staged records of one checkpoint; older ones are part of it by now.
    pub(crate) fn take_staged(&self, checkpoint: Option<CheckpointId>) -> Vec<Record> {
        let mut staged =
            std::mem::take(&mut *self.staged.lock().unwrap_or_else(PoisonError::into_inner));
        staged.retain(|record| Some(record.checkpoint) == checkpoint);
        staged
    }

    /// Stores one record of a running task, and all that came before it.
    pub(crate) async fn record(
        &self,
        checkpoint: CheckpointId,
        task: usize,
        key: String,
        bytes: Vec<u8>,
    ) -> Result<(), SaverError> {
        let task = u32::try_from(task).unwrap_or(u32::MAX);
        let records = vec![Record {
            checkpoint,
            task,
            key,
            bytes,
        }];
        let batch = Batch {
            records,
            ..Batch::default()
        };
        match self.durability {
            // Its checkpoint was stored before the task began.
            Durability::Sync => self.commit(&batch).await,
            Durability::Async => {
                let outbox = &self.held.outbox;
                outbox.flush(outbox.put(batch)).await
            }
            Durability::Exit => {
                self.stage(batch.records);
                Ok(())
            }
        }
    }

    /// Reads a checkpoint of this namespace, or the newest, whether it is stored yet or not.
    pub(crate) async fn load(&self, id: Option<CheckpointId>) -> Result<Option<Saved>, SaverError> {
        if self.is_new() {
            return Ok(None);
        }
        // In this order: what is stored in between is found twice, not missed.
        let unstored = self.held.outbox.unstored(&self.namespace, id);
        let thread = &self.held.lease.thread;
        let stored = async |id| self.saver.load(thread, &self.namespace, id).await;
        let Some(head) = unstored.head.clone() else {
            let mut saved = stored(id).await?;
            if let Some(saved) = &mut saved {
                unstored.add_records(saved);
            }
            return Ok(saved);
        };
        let mut values = unstored.values.clone();
        if let Some(ancestor) = unstored.stored
            && values.len() < head.values.len()
        {
            match stored(Some(ancestor)).await? {
                Some(saved) => values.extend(saved.values),
                // It was pruned meanwhile, when newer ones were stored.
                None => {
                    let outbox = &self.held.outbox;
                    outbox.flush(outbox.end()).await?;
                    return stored(Some(head.id)).await;
                }
            }
        }
        let mut saved = Saved {
            checkpoint: head,
            values,
            records: Vec::new(),
        };
        unstored.add_records(&mut saved);
        Ok(Some(saved))
    }

    pub(crate) async fn commit(&self, batch: &Batch) -> Result<(), SaverError> {
        self.saver.commit(&self.held.lease, batch).await
    }

    /// Removes old checkpoints where it is time for that; see [`Pruning`].
    pub(crate) async fn prune(&self, stored: CheckpointId) {
        let held = &self.held;
        held.pruning.run(&*self.saver, &held.lease, stored).await;
    }
}
