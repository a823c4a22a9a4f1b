#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! [`SqliteStore`] implements `SessionStore`, `MemoryStore`, `VectorStore`, `JobStore`, `RecordStore` and the graphs' `Saver`, `Threads` and `Store`. All writes go
//! through one thread that commits them in groups, reads through a few others.
//!
//! Invariant: what was acknowledged is on the disk (`synchronous=FULL`), leases aside, which
//! end with the process; and no statement
//! touches a row except through its tenant, user and agent. With keys no text of a session, a
//! memory, a job or a record is in the file in the clear.
//! Deliberately absent: several processes on one file; scaling out is another store's work.

mod archive;
mod check;
mod checkpoints;
mod error;
mod file;
mod inbox;
mod items;
mod jobs;
mod memories;
mod memory_row;
mod postings;
mod readers;
mod records;
mod resealing;
mod rotate;
mod row;
mod saver;
mod scope;
mod sealed;
mod search;
mod sessions;
mod store;
#[cfg(test)]
mod tests;
mod vectors;
mod writer;

pub use error::OpenError;
pub use lyceum_vault::{Encryption, Unsealed};
pub use store::{SqliteOptions, SqliteStore};
