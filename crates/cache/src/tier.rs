//! The ports of the tier that several processes share.
//!
//! A tier may lose anything at any time; it must not give back what was deleted, what is
//! older than its time, or what belongs to another key.

use std::{fmt, pin::Pin, time::Duration};

use async_trait::async_trait;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::{Key, Selection};

/// Why a shared tier did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// It cannot be reached, or said that it cannot serve now.
    #[error("reach the shared cache")]
    Unavailable {
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("get an answer from the shared cache within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
}

impl TierError {
    /// Whether the same call may succeed later. All calls are idempotent.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
        }
    }
}

/// What a tier holds under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The bytes that were set.
    pub value: Vec<u8>,
    /// How long they will still be kept; above zero.
    pub left: Duration,
}

/// What a tier says of itself. Zero where it does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierStats {
    /// What it holds in memory, in bytes; of the whole server where several things share it.
    pub size_bytes: u64,
    /// What it may hold, in bytes; zero without a limit.
    pub max_bytes: u64,
    /// Entries dropped for space since it was started.
    pub evictions: u64,
}

/// Keeps bytes under keys for a time.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened. All of them can be repeated.
#[async_trait]
pub trait CacheTier: Send + Sync + fmt::Debug {
    /// What is kept under the key.
    async fn get(&self, key: &Key) -> Result<Option<Stored>, TierError>;

    /// Keeps a value under the key for `ttl` (at least a millisecond), in place of an earlier
    /// one.
    async fn set(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<(), TierError>;

    /// Forgets the key; says whether it was there.
    async fn delete(&self, key: &Key) -> Result<bool, TierError>;

    /// Forgets all keys of the selection, and says how many there were. What is set while it
    /// runs may stay. It may take as long as reading all keys does.
    async fn delete_pattern(&self, selection: &Selection) -> Result<u64, TierError>;

    /// What the tier says of itself.
    async fn stats(&self) -> Result<TierStats, TierError>;
}

/// A process, in an announcement. Chosen at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(pub u64);

/// Says that entries are no longer true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalidation {
    /// Who says so, and therefore needs not to hear it.
    pub origin: Origin,
    /// Which entries.
    pub selection: Selection,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Somebody's announcement, one's own included.
    Invalidation(Invalidation),
    /// Announcements may have been missed from here back to the last thing heard; also the
    /// first thing heard, once listening began.
    Gap,
}

/// What is heard, until it is dropped. It ends only with its announcer.
pub type Announcements = Pin<Box<dyn Stream<Item = Heard> + Send>>;

/// Tells all processes that entries are no longer true.
#[async_trait]
pub trait Announcer: Send + Sync + fmt::Debug {
    /// Tells all that listen now.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have happened. It can be repeated.
    async fn announce(&self, invalidation: &Invalidation) -> Result<(), TierError>;

    /// Listens. The stream makes its connection again by itself, and says so with
    /// [`Heard::Gap`].
    fn listen(&self) -> Announcements;
}
