//! One quota for several processes: the port of a ledger that they share, and who speaks it.
//!
//! Each process keeps its own order, fairness and deadlines, and asks the ledger before a
//! call starts. The ledger decides on its own clock. [`LocalLedger`] is the reference
//! inside one process; a store's ledger passes the same conformance suite. What a process
//! does while it cannot reach the ledger is decided by a pure state machine in `replica`.
//! Deliberately absent here: any backend.

mod book;
#[cfg(feature = "conformance")]
pub mod conformance;
mod link;
mod local;
mod replica;
mod spends;

use std::{fmt, time::Duration};

use async_trait::async_trait;

pub(crate) use link::{Answer, Link};
pub use local::LocalLedger;
pub(crate) use replica::Need;

/// One amount for each kind of quota: requests, tokens together, input tokens, output
/// tokens.
pub type Kinds<T> = [T; 4];

/// Names a process at a ledger; drawn at random when a queue is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What all processes of one ledger agree on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LedgerTerms {
    /// The upstream's window. Default 60 s; at least 100 ms.
    pub window: Duration,
    /// By how much two calls' ways to the upstream may differ in length, the answer of
    /// the ledger included. Default 500 ms; it costs this share of the window.
    pub jitter: Duration,
    /// The share of a window's quota that may go at once after a pause, 0 to 1. Default 0.1.
    pub burst: f64,
    /// A process that is silent for so long is taken for dead; its slots return. Default 10 s.
    pub dead_after: Duration,
    /// A new or emptied ledger grants nothing for so long, so that every process can tell
    /// it what it spent within the window. Default 2 s; longer than
    /// [`SharedConfig::probe`] and [`SharedConfig::beat`].
    pub grace: Duration,
}

impl Default for LedgerTerms {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            jitter: Duration::from_millis(500),
            burst: 0.1,
            dead_after: Duration::from_secs(10),
            grace: Duration::from_secs(2),
        }
    }
}

/// How one process behaves towards the ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedConfig {
    /// The fewest processes to assume while the ledger is out of reach. Default 1; what
    /// the ledger said last counts when it is more.
    pub replicas: u32,
    /// The longest that one operation may take. Default 100 ms.
    pub timeout: Duration,
    /// How often a process says that it lives. Default 500 ms.
    pub beat: Duration,
    /// How often a lost ledger is tried again. Default 250 ms.
    pub probe: Duration,
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self {
            replicas: 1,
            timeout: Duration::from_millis(100),
            beat: Duration::from_millis(500),
            probe: Duration::from_millis(250),
        }
    }
}

/// How a queue stands to its ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedStatus {
    /// Whether the ledger answers, or was not needed yet. If not, the queue spends its
    /// share of the quota.
    pub linked: bool,
    /// Processes that share the quota, as far as is known.
    pub replicas: u32,
}

/// What the calls that run in one process may come to count for beyond what was counted of
/// their output when they started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beyond {
    /// What is likely; below zero where less is.
    pub likely: i64,
    /// The variance of that. Those of several processes add up, so all of them together
    /// need less of a margin than each for itself.
    pub variance: u64,
}

/// A call that asks to start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Who asks.
    pub replica: ReplicaId,
    /// The call's number: above every earlier number of this replica.
    pub seq: u64,
    /// What counts from the grant on.
    pub counted: Kinds<u64>,
    /// What is set aside until the call ends, and counts from then on.
    pub held: Kinds<u64>,
    /// What the upstream allows in a window; `None` is no limit.
    pub limits: Kinds<Option<u64>>,
    /// The most calls at one time; `None` is no limit.
    pub concurrency: Option<u32>,
    /// Of the replica's calls in flight and this one, for the kinds that hold output.
    pub beyond: Beyond,
    /// The call's band, 0 for the highest. Among replicas that wait the highest goes first.
    pub band: u8,
    /// Conversations that wait in the replica, at least 1: its share compared with others.
    pub flows: u32,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call may start; it has a slot and its cost is set aside.
    Granted,
    /// Not yet. Nothing was taken, but the replica is remembered as one that waits.
    Later {
        /// When to ask again.
        after: Duration,
        /// Whether that is because the upstream asked for a pause.
        paused: bool,
    },
    /// The ledger does not know the replica: it has to join.
    Unknown,
}

/// How a call ended. Ending one that the ledger does not know, or twice, does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The call's number.
    pub seq: u64,
    /// What really counts from its grant on, in place of what was counted.
    pub counted: Kinds<u64>,
    /// What counts from now on, in place of what was held.
    pub late: Kinds<u64>,
}

impl Ended {
    /// The end of a call that was never sent.
    #[must_use]
    pub fn unsent(seq: u64) -> Self {
        Self {
            seq,
            counted: [0; 4],
            late: [0; 4],
        }
    }
}

/// What a replica tells the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Who tells it.
    pub replica: ReplicaId,
    /// Calls that ended.
    pub ended: Vec<Ended>,
    /// A pause that the upstream asked for, from now on.
    pub pause: Option<Duration>,
    /// Of the replica's calls that are still in flight.
    pub beyond: Beyond,
}

/// An amount that was counted some time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// How long ago, at least.
    pub age: Duration,
    /// How much.
    pub amounts: Kinds<u64>,
}

/// A call that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningCall {
    /// Its number.
    pub seq: u64,
    /// What was counted at its start; part of what the replica says it spent.
    pub counted: Kinds<u64>,
    /// What is set aside for its end.
    pub held: Kinds<u64>,
    /// How long ago it started.
    pub age: Duration,
}

/// A replica that comes, or comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Who comes.
    pub replica: ReplicaId,
    /// Above every earlier number of this replica. A join with an old number only counts
    /// as a beat.
    pub seq: u64,
    /// The epoch it was in, if any.
    pub epoch: Option<u64>,
    /// What it spent without the ledger since it was lost; counted when the epoch is
    /// still the same.
    pub fresh: Vec<Spent>,
    /// All it spent within a window; counted when the epoch is another one.
    pub whole: Vec<Spent>,
    /// Every call that runs. The ledger frees all others of this replica as never sent.
    pub calls: Vec<RunningCall>,
}

/// What a ledger says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Names the ledger's memory; a ledger that lost it has another one.
    pub epoch: u64,
    /// Processes that live.
    pub replicas: u32,
    /// Processes that wait for a grant.
    pub waiting: u32,
    /// What counts now, the ages rounded down; what is held has the age zero.
    pub spent: Vec<Spent>,
}

/// Why the ledger did not answer. Every one is worth another attempt later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The connection failed.
    #[error("reach the quota ledger")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time; the operation may still have its effect.
    #[error("hear from the quota ledger within {0:?}")]
    TimedOut(Duration),
    /// It answered something else.
    #[error("understand the quota ledger's {0}")]
    Malformed(&'static str),
}

impl LedgerError {
    /// Whether the same may succeed later; always.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        true
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// A quota that several processes draw on: one upstream, one model, one key.
///
/// Invariant: whatever the replicas do, in no window of the terms' length is more counted
/// than a claim's limits when it was granted. Among replicas that wait in the highest band,
/// the one that got least for each of its conversations goes first, once the other is ahead
/// by a hundredth of the quota.
///
/// # Cancel safety
///
/// A dropped operation may or may not have its effect, as after a time-out.
#[async_trait]
pub trait QuotaLedger: Send + Sync + fmt::Debug {
    /// What its users agree on.
    fn terms(&self) -> LedgerTerms;

    /// Asks to start a call. A claim that is repeated with its number has one effect.
    async fn reserve(&self, claim: &Claim) -> Result<Verdict, LedgerError>;

    /// Ends calls and passes on a pause. Idempotent but for the pause.
    async fn tell(&self, note: &Note) -> Result<(), LedgerError>;

    /// Says that the replica lives; `None` when the ledger does not know it.
    async fn beat(&self, replica: ReplicaId) -> Result<Option<Standing>, LedgerError>;

    /// Makes the replica known and brings the ledger up to date.
    async fn join(&self, join: &Join) -> Result<Standing, LedgerError>;
}
