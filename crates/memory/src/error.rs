//! Why a store or the memory could not do what was asked.
//!
//! Invariant: no error says whether something exists in another scope; there it is
//! simply not found.

use std::{error::Error, time::Duration};

use lyceum_core::EmbedError;

use crate::{JobId, Timestamp, TurnId};

type Source = Box<dyn Error + Send + Sync>;

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The call belongs to a conversation, and its scope names none.
    #[error("find the session: the scope names none")]
    SessionRequired,
    /// The turn id was used before for other content.
    #[error("append turn {turn}: the id was used for other content")]
    TurnConflict {
        /// The id.
        turn: TurnId,
    },
    /// The lease on a job ended and somebody else may work on it: stop, and write nothing.
    #[error("keep job {job}: the lease was lost")]
    LeaseLost {
        /// The job.
        job: JobId,
    },
    /// The store is busy or unreachable for now.
    #[error("reach the store")]
    Unavailable {
        /// What failed.
        #[source]
        source: Source,
    },
    /// The store has more waiting work than it accepts.
    #[error("queue the write: {waiting} writes already wait")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
    /// A vector has another shape than those it would be compared with.
    #[error("compare a vector of {found} numbers with vectors of {expected}")]
    Dimensions {
        /// The vector's length.
        found: usize,
        /// The length of the others.
        expected: usize,
    },
    /// The disk is full, or a quota is.
    #[error("write to the store: no space is left on its disk")]
    NoSpace,
    /// What is stored cannot be read.
    #[error("read the store: its content is damaged")]
    Corrupt {
        /// What failed.
        #[source]
        source: Source,
    },
    /// A row's sealed content does not open: it was changed, put there from another row, or its
    /// key is gone. No other row is concerned.
    #[error("open {table} {row}")]
    Sealed {
        /// The table.
        table: &'static str,
        /// The row, by the names its owner knows.
        row: String,
        /// What is known of it.
        #[source]
        source: Source,
    },
    /// The store was shut down.
    #[error("use the store: it is closed")]
    Closed,
    /// The store refused the call for a reason that repeating will not mend.
    #[error("run the operation in the store")]
    Internal {
        /// What failed.
        #[source]
        source: Source,
    },
}

impl StoreError {
    /// Whether the same call may succeed later. All writes are idempotent, so it may be repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Overloaded { .. } | Self::NoSpace
        )
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::SessionRequired => "session_required",
            Self::TurnConflict { .. } => "turn_conflict",
            Self::LeaseLost { .. } => "lease_lost",
            Self::Unavailable { .. } => "unavailable",
            Self::Overloaded { .. } => "overloaded",
            Self::Dimensions { .. } => "dimensions",
            Self::NoSpace => "no_space",
            Self::Corrupt { .. } => "corrupt",
            Self::Sealed { .. } => "sealed",
            Self::Closed => "closed",
            Self::Internal { .. } => "internal",
        }
    }
}

/// Why the memory refused or failed a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model that makes vectors failed.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// A turn has no messages.
    #[error("save a turn without messages")]
    EmptyTurn,
    /// There are more items than a call may carry.
    #[error("accept {count} {what}: at most {max} are allowed")]
    TooMany {
        /// What was counted, e.g. `messages in a turn`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A text is longer than allowed.
    #[error("accept a {what} of {bytes} bytes: at most {max} are allowed")]
    TooLong {
        /// Which text, e.g. `message`.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A text that must say something is empty.
    #[error("accept an empty {what}")]
    Empty {
        /// Which text.
        what: &'static str,
    },
    /// An importance is not a number from 0 to 1.
    #[error("accept the importance {value}: it goes from 0 to 1")]
    Importance {
        /// What was given.
        value: f32,
    },
    /// A memory is over before it begins.
    #[error("accept a memory that holds from {} to {} ms: it ends before it begins", from.0, to.0)]
    Validity {
        /// When it would begin.
        from: Timestamp,
        /// When it would end.
        to: Timestamp,
    },
    /// The store did not answer in time.
    #[error("get an answer from the store within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
}

impl MemoryError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Embed(error) => error.is_retryable(),
            Self::Timeout { .. } => true,
            _ => false,
        }
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Store(error) => error.label(),
            Self::Embed(error) => error.label(),
            Self::EmptyTurn => "empty_turn",
            Self::TooMany { .. } => "too_many",
            Self::TooLong { .. } => "too_long",
            Self::Empty { .. } => "empty",
            Self::Importance { .. } => "importance",
            Self::Validity { .. } => "validity",
            Self::Timeout { .. } => "timeout",
        }
    }
}
