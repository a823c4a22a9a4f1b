#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! [`PostgresStore`] implements the graphs' `Saver`. A call takes a connection of a bounded pool,
//! and is one statement, and so one round trip and one transaction, wherever that can be.
//!
//! Invariant: what was acknowledged is on the server's disk; leases are judged by the server's
//! clock at the moment their row is locked.
//! Deliberately absent: a lock wider than a thread's row; a cache in the process.

mod checkpoints;
mod error;
mod migrate;
mod options;
mod pool;
mod row;
mod store;
#[cfg(feature = "test-server")]
pub mod test_server;

pub use error::OpenError;
pub use options::PostgresOptions;
pub use store::PostgresStore;
