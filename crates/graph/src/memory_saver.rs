//! The reference saver: everything in one map, gone with the process.
//!
//! Invariant: the lock is held for map operations only, never across an await.
//! Deliberately absent: bounds; prune threads that nobody continues.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::ready,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use crate::{
    outlet::now_ms,
    saver::{
        Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Record, Saved, Saver, SaverError,
        ThreadId, Value, ValueRef,
    },
    sweep::{ThreadEntry, Threads},
};

/// Keeps threads in memory: for tests, and for interrupts that need not survive a restart.
#[derive(Debug, Default)]
pub struct MemorySaver {
    threads: Mutex<HashMap<ThreadId, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    epoch: u64,
    /// When the lease of `epoch` ends; `None` when it was released.
    until: Option<Instant>,
    last: Option<CheckpointId>,
    written: Option<Instant>,
    heads: BTreeMap<CheckpointId, Checkpoint>,
    values: HashMap<ValueRef, Vec<u8>>,
    records: BTreeMap<(CheckpointId, u32, String), Vec<u8>>,
}

impl MemorySaver {
    /// A saver without threads.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn threads(&self) -> MutexGuard<'_, HashMap<ThreadId, Kept>> {
        // A panic elsewhere cannot leave a thread half written: no code here panics.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `write` on a thread that nobody has taken since, and extends the lease.
    fn fenced<T>(
        &self,
        lease: &Lease,
        write: impl FnOnce(&mut Kept) -> T,
    ) -> Result<T, SaverError> {
        let mut threads = self.threads();
        let now = Instant::now();
        match threads.get_mut(&lease.thread) {
            Some(kept) if kept.epoch == lease.epoch && kept.until.is_some() => {
                kept.until = Some(now + lease.ttl);
                kept.written = Some(now);
                Ok(write(kept))
            }
            _ => Err(SaverError::Fenced {
                thread: lease.thread.clone(),
            }),
        }
    }
}

impl Kept {
    fn store(&mut self, batch: &Batch) {
        for value in &batch.values {
            self.values.insert(value.key.clone(), value.bytes.clone());
        }
        for Record {
            checkpoint,
            task,
            key,
            bytes,
        } in &batch.records
        {
            self.records
                .insert((*checkpoint, *task, key.clone()), bytes.clone());
        }
        for head in &batch.checkpoints {
            self.last = self.last.max(Some(head.id));
            self.heads.insert(head.id, head.clone());
        }
    }

    fn saved(&self, head: &Checkpoint, thread: &ThreadId) -> Result<Saved, SaverError> {
        let value = |key: &ValueRef| match self.values.get(key) {
            Some(bytes) => Ok(Value {
                key: key.clone(),
                bytes: bytes.clone(),
            }),
            None => Err(SaverError::Corrupt {
                thread: thread.clone(),
                source: format!("no value {key:?}").into(),
            }),
        };
        let from = (head.id, 0, String::new());
        let records = self
            .records
            .range(from..)
            .take_while(|((id, ..), _)| *id == head.id);
        let records = records.map(|((checkpoint, task, key), bytes)| Record {
            checkpoint: *checkpoint,
            task: *task,
            key: key.clone(),
            bytes: bytes.clone(),
        });
        Ok(Saved {
            checkpoint: head.clone(),
            values: head.values.iter().map(value).collect::<Result<_, _>>()?,
            records: records.collect(),
        })
    }

    fn prune(&mut self, keep: Keep) -> u64 {
        let before = self.heads.len();
        let survivors = keep.survivors(self.heads.values(), now_ms());
        self.heads.retain(|id, _| survivors.contains(id));
        let used: BTreeSet<_> = self.heads.values().flat_map(|head| &head.values).collect();
        self.values.retain(|key, _| used.contains(key));
        self.records
            .retain(|(id, ..), _| self.heads.contains_key(id));
        (before - self.heads.len()) as u64
    }
}

impl Saver for MemorySaver {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        let mut threads = self.threads();
        let kept = threads.entry(thread.clone()).or_default();
        let now = Instant::now();
        let result = if claim == Claim::IfFree && kept.until > Some(now) {
            Err(SaverError::Busy {
                thread: thread.clone(),
            })
        } else {
            kept.epoch += 1;
            kept.until = Some(now + ttl);
            Ok(Lease {
                thread: thread.clone(),
                epoch: kept.epoch,
                ttl,
                last: kept.last,
            })
        };
        ready(result).boxed()
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        let mut threads = self.threads();
        if let Some(kept) = threads
            .get_mut(&lease.thread)
            .filter(|k| k.epoch == lease.epoch)
        {
            kept.until = None;
        }
        ready(Ok(())).boxed()
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        ready(self.fenced(lease, |kept| kept.store(batch))).boxed()
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        let threads = self.threads();
        let found = threads.get(thread).and_then(|kept| {
            let mut heads = kept.heads.values().rev();
            let head = heads.find(|h| h.namespace == namespace && id.is_none_or(|id| h.id == id));
            head.map(|head| kept.saved(head, thread))
        });
        ready(found.transpose()).boxed()
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        let threads = self.threads();
        let heads = threads
            .get(thread)
            .into_iter()
            .flat_map(|kept| kept.heads.values().rev());
        let heads = heads
            .filter(|head| head.namespace == namespace)
            .filter(|head| before.is_none_or(|before| head.id < before))
            .take(limit)
            .cloned()
            .collect();
        ready(Ok(heads)).boxed()
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        ready(self.fenced(lease, |kept| kept.prune(keep))).boxed()
    }
}

impl Threads for MemorySaver {
    fn threads<'a>(
        &'a self,
        idle: Duration,
        after: Option<&'a ThreadId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ThreadEntry>, SaverError>> {
        let now = Instant::now();
        let threads = self.threads();
        let mut found: Vec<_> = threads
            .iter()
            .filter(|(thread, _)| after.is_none_or(|after| *thread > after))
            .filter(|(_, kept)| !kept.heads.is_empty() && kept.until <= Some(now))
            .filter(|(_, kept)| kept.written.is_none_or(|written| now - written >= idle))
            .map(|(thread, kept)| ThreadEntry {
                thread: thread.clone(),
                last: kept.last,
            })
            .collect();
        found.sort_by(|a, b| a.thread.cmp(&b.thread));
        found.truncate(limit);
        ready(Ok(found)).boxed()
    }
}
