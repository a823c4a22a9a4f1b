//! What the runs of one thread have yet to store, in the order in which it came to be.
//!
//! While one commit is under way everything that follows waits, and goes to the saver as one
//! batch. A run and its subgraphs share one outbox, so what is stored of a thread is at any
//! moment a prefix of what happened in it, whatever namespace that was in.
//!
//! Invariant: one commit at a time; what failed is tried again before anything that came
//! later. Deliberately absent: tasks of its own; whoever waits here moves it on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::time::{Duration, Instant};

use crate::{
    pruning::Pruning,
    saver::{Batch, Checkpoint, CheckpointId, Lease, Record, Saved, Saver, SaverError, Value},
};

/// The most batches that wait: what a crash may lose, and what a commit may take long for.
const WAITING: usize = 256;

/// The most bytes of values, records and plans that wait.
const WAITING_BYTES: usize = 1 << 20;

/// A run that never waits for anything stores after so long: below a disk's sync, and above
/// a short run as a whole, which is then one commit.
const UNHURRIED: Duration = Duration::from_millis(1);

type Commit = Shared<BoxFuture<'static, ()>>;

/// The outbox of one thread.
#[derive(Debug)]
pub(crate) struct Outbox {
    saver: Arc<dyn Saver>,
    lease: Lease,
    pruning: Arc<Pruning>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    waiting: Batch,
    batches: usize,
    bytes: usize,
    /// When the oldest of what waits came.
    since: Option<Instant>,
    /// What is on its way to the saver, if anything is, and its number.
    sending: Option<(Arc<Batch>, Commit)>,
    /// How many batches were put in, went off, and were stored.
    put: u64,
    sent: u64,
    stored: u64,
    /// Why the last commit failed, for the first who asks.
    failure: Option<SaverError>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("put", &self.put)
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}

/// What of a checkpoint is not known to be stored.
pub(crate) struct Unstored {
    /// The checkpoint, if it is not.
    pub(crate) head: Option<Checkpoint>,
    /// Those of its values that are not.
    pub(crate) values: Vec<Value>,
    /// Records that are not, of this checkpoint or, where it is not known, of any.
    pub(crate) records: Vec<Record>,
    /// Its nearest ancestor that is stored, which has the other values.
    pub(crate) stored: Option<CheckpointId>,
}

impl Unstored {
    /// Adds the records to what is stored; the later one of a key counts.
    pub(crate) fn add_records(self, saved: &mut Saved) {
        let id = saved.checkpoint.id;
        for record in self.records {
            if record.checkpoint == id {
                let same = |old: &Record| (old.task, &old.key) == (record.task, &record.key);
                saved.records.retain(|old| !same(old));
                saved.records.push(record);
            }
        }
        saved
            .records
            .sort_by(|a, b| (a.task, &a.key).cmp(&(b.task, &b.key)));
    }
}

/// The place of a batch in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Outbox {
    pub(crate) fn new(saver: Arc<dyn Saver>, lease: Lease, pruning: Arc<Pruning>) -> Self {
        Self {
            saver,
            lease,
            pruning,
            inner: Arc::default(),
        }
    }

    /// Puts a batch behind the others.
    pub(crate) fn put(&self, batch: Batch) -> Place {
        let mut inner = lock(&self.inner);
        inner.batches += 1;
        inner.bytes += weight(&batch);
        inner.waiting.append(batch);
        inner.since.get_or_insert_with(Instant::now);
        inner.put += 1;
        Place(inner.put)
    }

    /// Whether there is nothing that is not stored.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = lock(&self.inner);
        inner.stored == inner.put
    }

    /// What of a checkpoint, or of the newest of a namespace, is not known to be stored.
    pub(crate) fn unstored(&self, namespace: &str, id: Option<CheckpointId>) -> Unstored {
        let inner = lock(&self.inner);
        let sending = inner.sending.iter().map(|(batch, _)| &**batch);
        let batches: Vec<_> = sending.chain([&inner.waiting]).collect();
        let heads = batches.iter().flat_map(|batch| &batch.checkpoints);
        let heads: BTreeMap<_, _> = heads
            .filter(|head| head.namespace == namespace)
            .map(|head| (head.id, head))
            .collect();
        let newest = heads.last_key_value().map(|(newest, _)| *newest);
        let head = id.or(newest).and_then(|id| heads.get(&id)).copied();
        let values = batches.iter().flat_map(|batch| &batch.values);
        let is_named = |value: &&Value| head.is_some_and(|head| head.values.contains(&value.key));
        let of = head.map(|head| head.id).or(id);
        let records = batches.iter().flat_map(|batch| &batch.records);
        let records = records.filter(|record| of.is_none_or(|id| record.checkpoint == id));
        let mut stored = head.and_then(|head| head.parent);
        while let Some(parent) = stored.and_then(|id| heads.get(&id)) {
            stored = parent.parent;
        }
        Unstored {
            values: values.filter(is_named).cloned().collect(),
            records: records.cloned().collect(),
            head: head.cloned(),
            stored,
        }
    }

    /// Moves things on without waiting, where they have waited long enough; waits only while
    /// more waits than may.
    pub(crate) async fn nudge(&self) -> Result<(), SaverError> {
        let is_due = {
            let inner = lock(&self.inner);
            let is_old = inner
                .since
                .is_some_and(|since| since.elapsed() >= UNHURRIED);
            is_old || inner.sending.is_some()
        };
        // One poll: the commit begins, or the next one does when it has ended.
        if is_due && let Some(Err(failure)) = self.flush(self.end()).now_or_never() {
            return Err(failure);
        }
        self.relieve().await
    }

    /// Waits while more waits than may.
    pub(crate) async fn relieve(&self) -> Result<(), SaverError> {
        while self.is_full() {
            let Some(commit) = self.commit()? else {
                break;
            };
            if !self.is_full() {
                // It has just taken all that waited, and the run goes on beside it.
                let _begun = commit.now_or_never();
                break;
            }
            commit.await;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let inner = lock(&self.inner);
        inner.batches >= WAITING || inner.bytes >= WAITING_BYTES
    }

    /// Waits until everything up to a place is stored.
    ///
    /// After a failure everything is still here, and the next call tries it again.
    pub(crate) async fn flush(&self, place: Place) -> Result<(), SaverError> {
        loop {
            if lock(&self.inner).stored >= place.0 {
                return Ok(());
            }
            match self.commit()? {
                Some(commit) => commit.await,
                None => return Ok(()),
            }
        }
    }

    /// The place behind everything that was put in so far.
    pub(crate) fn end(&self) -> Place {
        Place(lock(&self.inner).put)
    }

    /// The commit that is under way, else one of all that waits.
    fn commit(&self) -> Result<Option<Commit>, SaverError> {
        let mut inner = lock(&self.inner);
        if let Some(failure) = inner.failure.take() {
            return Err(failure);
        }
        if let Some((_, commit)) = &inner.sending {
            return Ok(Some(commit.clone()));
        }
        if inner.stored == inner.put {
            return Ok(None);
        }
        let batch = Arc::new(std::mem::take(&mut inner.waiting));
        (inner.batches, inner.bytes, inner.since) = (0, 0, None);
        inner.sent = inner.put;
        let sending = (batch.clone(), self.saver.clone(), self.lease.clone());
        let pruning = self.pruning.clone();
        // Weak, because the outbox holds the commit.
        let outbox = Arc::downgrade(&self.inner);
        let commit = async move {
            let (batch, saver, lease) = sending;
            let result = saver.commit(&lease, &batch).await;
            let newest = batch.last();
            drop(batch);
            if let (Ok(()), Some(newest)) = (&result, newest) {
                pruning.run(&*saver, &lease, newest).await;
            }
            Self::ended(&outbox, result);
        };
        let commit = commit.boxed().shared();
        inner.sending = Some((batch, commit.clone()));
        Ok(Some(commit))
    }

    fn ended(outbox: &Weak<Mutex<Inner>>, result: Result<(), SaverError>) {
        let Some(inner) = outbox.upgrade() else {
            return;
        };
        let mut inner = lock(&inner);
        let sending = inner.sending.take();
        match result {
            Ok(()) => inner.stored = inner.sent,
            Err(failure) => {
                inner.failure = Some(failure);
                inner.sent = inner.stored;
                if let Some((batch, _)) = sending {
                    inner.batches += 1;
                    inner.bytes += weight(&batch);
                    let mut batch = Arc::unwrap_or_clone(batch);
                    batch.append(std::mem::take(&mut inner.waiting));
                    inner.waiting = batch;
                    inner.since.get_or_insert_with(Instant::now);
                }
            }
        }
    }

    /// Everything that is not known to be stored, for a run that can wait no longer. Storing
    /// again what is on its way is storing it once.
    pub(crate) fn take(&self) -> Batch {
        let mut inner = lock(&self.inner);
        let sending = inner.sending.take();
        let mut batch =
            sending.map_or_else(Batch::default, |(batch, _)| Arc::unwrap_or_clone(batch));
        batch.append(std::mem::take(&mut inner.waiting));
        batch
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // Nothing that is done under the lock panics half-way.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// About the bytes that a batch holds.
fn weight(batch: &Batch) -> usize {
    let values = batch.values.iter().map(|value| value.bytes.len());
    let records = batch.records.iter().map(|record| record.bytes.len());
    let plans = batch.checkpoints.iter().map(|head| head.plan.len());
    values.chain(records).chain(plans).sum()
}
