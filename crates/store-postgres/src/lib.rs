#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! [`PostgresStore`] implements `SessionStore`, `MemoryStore`, `JobStore`, `SessionArchive`, the
//! graphs' `Saver`, and core's `RecordStore` and `Hints`, `StoreKeys`, and `VectorStore` where the
//! server has the extension `vector`. A call takes a connection of a bounded pool, and is one
//! statement, and so one round trip and one transaction, wherever that can be.
//!
//! Invariant: what was acknowledged is on the server's disk; leases are judged by the server's
//! clock at the moment their row is locked. No statement touches a row except through its tenant, user
//! and agent, and the server's row-level security holds where that were forgotten.
//! Deliberately absent: a lock wider than a thread's or a session's row; a cache in the process.

mod archive;
mod check;
mod checkpoints;
mod connection;
mod error;
mod hints;
mod items;
mod jobs;
mod memories;
mod memory_row;
mod migrate;
mod options;
mod pool;
mod records;
mod resealing;
mod rotate;
mod row;
mod saver;
mod scope;
mod sealing;
mod sessions;
mod store;
#[cfg(feature = "test-server")]
pub mod test_server;
#[cfg(test)]
mod tests;
mod text;
mod vectors;
mod words;

pub use error::OpenError;
pub use lyceum_vault::{Encryption, Unsealed};
pub use options::PostgresOptions;
pub use store::PostgresStore;
pub use vectors::VectorSupport;
