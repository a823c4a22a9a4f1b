#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! [`Memory`] is what agents use. Below it are the ports, [`SessionStore`], [`MemoryStore`]
//! and [`JobStore`], and for a second arm [`VectorStore`], with [`InMemory`] as their reference; [`lexical`] is how all stores find
//! memories by their words. The feature `conformance` holds the suite a store must pass.
//!
//! Invariant: every call carries a scope, by-id calls included, and sees nothing outside it.
//! Deliberately absent: SQL, HTTP, model calls, and tasks of its own.

mod assemble;
mod check;
mod clock;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod dense;
mod error;
mod find;
mod fusion;
mod ids;
mod in_memory;
mod job;
mod keys;
pub mod lexical;
mod memory;
mod record;
mod said;
mod session;
pub mod transfer;
mod validity;
mod vectors;
mod waiting;
mod worker;

pub use assemble::{
    Assembled, Budget, CountTokens, Decision, Item, Parts, Verdict, assemble, estimate_tokens,
};
pub use check::{Checked, DESCRIBED, Erased, Fault, StoreCheck, Whose};
pub use clock::{Clock, Day, ManualClock, SystemClock, Timestamp};
pub use config::{Limits, MemoryConfig};
pub use error::{MemoryError, StoreError};
pub use find::{Found, Languages, Meaning};
pub use fusion::Fusion;
pub use ids::{JobId, MemoryId, TurnId};
pub use in_memory::{Change, Document, InMemory};
pub use job::{
    Claim, ClaimRequest, ClaimedJob, DeadJob, FailedJob, JobResults, JobStore, Lease, NewJob,
    VANISHED,
};
pub use keys::{KeyState, Progress, StoreKeys};
pub use memory::{Context, ContextLimits, Memory};
pub use record::{
    Beside, MemoryCursor, MemoryKind, MemoryRecord, MemoryStore, NewMemory, Recollection,
    UnknownKind,
};
pub use said::{said_id, surroundings};
pub use session::{
    NewMessage, NewTurn, Saved, Session, SessionArchive, SessionCursor, SessionStore,
    StoredMessage, Summary,
};
pub use validity::{AsOf, Recorded, Superseded, Times};
pub use vectors::{Near, NewVector, Unembedded, VectorCount, VectorSpace, VectorStore};
