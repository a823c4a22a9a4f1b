//! The port behind which threads are kept: checkpoints, what finished since, and who writes.
//!
//! Invariant: a batch is stored whole or not at all, and only under a live lease, so a
//! thread has one writer and never forks by accident. Deliberately absent: what the bytes
//! mean, which is the runtime's, and encryption, which is a decorator over this port.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::by_channel;

/// The longest thread id, in bytes: it is part of every key a backend stores.
const THREAD_ID_BYTES: usize = 512;

/// Names one durable sequence of runs, unique in its saver. A server with tenants builds
/// it from the tenant's and the user's ids: a saver has no other wall between threads.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ThreadId(Arc<str>);

/// A thread id is empty, longer than 512 bytes, or holds a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("accept the thread id: give 1 to {THREAD_ID_BYTES} bytes without control characters")]
pub struct ThreadIdError;

impl ThreadId {
    /// Checks a text as a thread id.
    ///
    /// # Errors
    ///
    /// [`ThreadIdError`] when it is empty, too long or holds a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, ThreadIdError> {
        let text = text.as_ref();
        let fits = (1..=THREAD_ID_BYTES).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(ThreadIdError)
        }
    }

    /// Borrows the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ThreadId {
    type Error = ThreadIdError;
    fn try_from(text: String) -> Result<Self, ThreadIdError> {
        Self::new(text)
    }
}

impl From<ThreadId> for String {
    fn from(id: ThreadId) -> String {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checkpoint's number in its thread; later ones are larger, the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a checkpoint was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// A run began with an input.
    Input,
    /// A step was merged.
    Step,
    /// The state was written from outside.
    Update,
    /// An older checkpoint was made the newest.
    Fork,
}

/// The head of a checkpoint: everything but the values of its channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its number.
    pub id: CheckpointId,
    /// The graph inside the thread it belongs to; empty for the outermost.
    pub namespace: String,
    /// The checkpoint it continues; none for a thread's first.
    pub parent: Option<CheckpointId>,
    /// Steps merged in the thread so far.
    pub step: u64,
    /// Why it was made.
    pub source: Source,
    /// Which stored values make up the state. A channel may have several, oldest first: its
    /// value and what was written to it since; one that has its default is absent.
    #[serde(with = "by_channel")]
    pub values: Vec<ValueRef>,
    /// What runs next, as the runtime wrote it.
    pub plan: String,
    /// When it was made, in milliseconds since 1970 by the writer's clock; informative.
    pub created_at_ms: u64,
    /// The checkpoints that subgraphs with memory continue from here, by namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub children: BTreeMap<String, CheckpointId>,
    /// What the caller wants to find it by, e.g. the id of a request. Nothing here reads it.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// Free JSON that a caller attaches to the checkpoints of a run.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// Names one stored value: a channel as a certain checkpoint wrote it, or what that
/// checkpoint added to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueRef {
    /// The channel.
    pub channel: String,
    /// The checkpoint that wrote the value; it never changes afterwards.
    pub written_by: CheckpointId,
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub key: ValueRef,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What one task of a checkpoint's plan has achieved: its result, a memoised effect, an
/// interrupt or an answer. Storing a key again replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The checkpoint whose plan holds the task.
    pub checkpoint: CheckpointId,
    /// The task's place in that plan.
    pub task: u32,
    /// What is recorded.
    pub key: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What is stored in one transaction: nothing, one step's progress or that of several. An
/// empty batch only renews the lease. Of what stands in it twice, the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// New checkpoints, of any namespace of the thread, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// The values that the checkpoints wrote.
    pub values: Vec<Value>,
    /// What tasks achieved, of these checkpoints and of older ones.
    pub records: Vec<Record>,
}

impl Batch {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.checkpoints.is_empty() && self.values.is_empty() && self.records.is_empty()
    }

    /// Makes this batch and a later one into one.
    pub fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.checkpoints.extend(later.checkpoints);
        self.values.extend(later.values);
        self.records.extend(later.records);
    }

    /// The highest id of its checkpoints, if it has any.
    #[must_use]
    pub fn last(&self) -> Option<CheckpointId> {
        self.checkpoints.iter().map(|head| head.id).max()
    }
}

/// A checkpoint with everything needed to continue from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its head.
    pub checkpoint: Checkpoint,
    /// The values it names, in any order.
    pub values: Vec<Value>,
    /// What its tasks achieved, by task and key.
    pub records: Vec<Record>,
}

/// The right to write a thread. Once its time has passed others may take the thread; it ends
/// when somebody does, or when it is released. Until then its holder's next write extends it
/// again: a writer that was silent for too long, and has no successor, goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The thread.
    pub thread: ThreadId,
    /// Rises with every acquisition: the fencing token.
    pub epoch: u64,
    /// How long a commit extends the lease.
    pub ttl: Duration,
    /// The highest checkpoint id ever stored in the thread, in any namespace.
    pub last: Option<CheckpointId>,
}

/// What to do when another writer holds the thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Claim {
    /// Fail with [`SaverError::Busy`].
    #[default]
    IfFree,
    /// End the other's lease; its next commit fails with [`SaverError::Fenced`]. For
    /// callers that already know the other writer is gone.
    TakeOver,
}

/// Which checkpoints of a thread survive a pruning. What a surviving checkpoint needs survives
/// with it: values, records, and the checkpoints that its subgraphs with memory continue.
/// Everything else is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest so many of each namespace, at least one.
    Last(u32),
    /// The newest of each namespace, and those that were made in this time before now, by
    /// the clocks of the saver and of the writers.
    Younger(Duration),
    /// None: the thread is forgotten; its epoch is not.
    Nothing,
}

impl Keep {
    /// Which of a thread's checkpoints survive, for a saver to ask. The heads are all that the
    /// thread has, in any order; `now_ms` is in milliseconds since 1970.
    #[must_use]
    pub fn survivors<'a>(
        self,
        heads: impl IntoIterator<Item = &'a Checkpoint>,
        now_ms: u64,
    ) -> BTreeSet<CheckpointId> {
        let heads: BTreeMap<_, _> = heads.into_iter().map(|head| (head.id, head)).collect();
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        let mut open = Vec::new();
        for (id, head) in heads.iter().rev() {
            let newer = seen.entry(&head.namespace).or_default();
            let stays = match self {
                Self::Nothing => false,
                Self::Last(count) => *newer < count.max(1),
                Self::Younger(age) => {
                    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                    *newer == 0 || head.created_at_ms >= now_ms.saturating_sub(age)
                }
            };
            *newer += 1;
            open.extend(stays.then_some(*id));
        }
        let mut survivors = BTreeSet::new();
        while let Some(id) = open.pop() {
            let Some(head) = heads.get(&id) else {
                continue;
            };
            if survivors.insert(id) {
                open.extend(head.children.values());
            }
        }
        survivors
    }
}

/// Keeps threads.
///
/// Every method may be called again after an error whose outcome is unknown: storing the
/// same checkpoint, value or record twice under one lease is the same as storing it once.
/// Dropping a returned future leaves its batch either stored or not, never in part.
pub trait Saver: fmt::Debug + Send + Sync + 'static {
    /// Becomes the writer of a thread, which need not exist. Others can take it when `ttl` has
    /// passed since the last commit.
    ///
    /// Fails with [`SaverError::Busy`] while another lease is live and not taken over.
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>>;

    /// Ends a lease early; a lease that has already ended is left alone.
    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>>;

    /// Stores a batch in one transaction and extends the lease. Of a batch with several
    /// checkpoints either all are stored or none, whenever the process or the backend ends.
    ///
    /// Fails with [`SaverError::Fenced`], storing nothing, when the lease has ended.
    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>>;

    /// Reads one checkpoint, or the newest of the namespace. `None` when there is none.
    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>>;

    /// Lists checkpoint heads, newest first, that are older than `before`.
    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>>;

    /// Removes what `keep` does not keep, and says how many checkpoints that were.
    ///
    /// Fails with [`SaverError::Fenced`] when the lease has ended.
    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>>;
}

impl<S: Saver + ?Sized> Saver for Arc<S> {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        self.as_ref().acquire(thread, ttl, claim)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        self.as_ref().release(lease)
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        self.as_ref().commit(lease, batch)
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        self.as_ref().load(thread, namespace, id)
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        self.as_ref().history(thread, namespace, before, limit)
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        self.as_ref().prune(lease, keep)
    }
}

/// Why a saver refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaverError {
    /// Another writer holds the thread.
    #[error("write thread {thread}: another writer holds it")]
    Busy {
        /// The thread.
        thread: ThreadId,
    },
    /// This writer's lease has ended: it was released, or the thread was taken by another.
    #[error("write thread {thread}: the lease has ended, another writer has it or had it")]
    Fenced {
        /// The thread.
        thread: ThreadId,
    },
    /// What is stored cannot be read.
    #[error("read thread {thread}: stored data is damaged")]
    Corrupt {
        /// The thread.
        thread: ThreadId,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The backend failed; the outcome of a commit is unknown.
    #[error("reach the checkpoint store")]
    Backend {
        /// What the backend said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SaverError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Backend { .. })
    }

    /// A bounded name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Fenced { .. } => "fenced",
            Self::Corrupt { .. } => "corrupt",
            Self::Backend { .. } => "backend",
        }
    }
}
