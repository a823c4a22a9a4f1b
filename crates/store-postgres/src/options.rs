//! How a server is reached and how much of it a process may use.
//!
//! Invariant: every wait of a call that serves somebody has a bound. Deliberately absent: where the values come from, which is
//! the binary's to know.

use std::time::Duration;

use lyceum_vault::Encryption;

/// How a server is used. The address is given apart, because it holds a password.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The most connections, at least 1. Default 100. All processes together must stay below
    /// the server's `max_connections`.
    pub max_connections: u32,
    /// How many connections are kept open when there is nothing to do; more than
    /// `max_connections` means as many. Default 10.
    pub min_connections: u32,
    /// An idle connection beyond `min_connections` is closed after this time. Default 30 s.
    pub idle_timeout: Duration,
    /// How long a call waits for a connection, a new one included, before it fails as
    /// overloaded or unavailable; and for how long no call of any graph's run may end before
    /// those that wait behind them fail so. Default 5 s; at least 1 ms.
    pub acquire_timeout: Duration,
    /// How long a single statement may run on the server, and a call may wait for its answer. The
    /// operator's calls, those of `StoreCheck` and `StoreKeys`, take as long as they need.
    /// Default 10 s; at least 1 ms.
    pub statement_timeout: Duration,
    /// For how long a call whose connection was lost, or which lost a deadlock, is tried again;
    /// every call of the store may be repeated. Zero never repeats. Default 10 s.
    pub retry_for: Duration,
    /// A call that takes longer is logged. Default 100 ms.
    pub slow: Duration,
    /// How the connections are named in the server's `pg_stat_activity`. Default `lyceum`.
    pub application_name: String,
    /// An owner with more memories than this, and one of the 32 largest, gets an index of vectors of
    /// their own, which may miss
    /// a few in a hundred of the nearest and finds them several times faster; up to it all vectors
    /// are compared. Default 20,000, which are compared in some 40 ms on a busy machine of two cores.
    pub index_vectors_from: usize,
    /// With what texts are sealed. Default none: they are kept in the clear.
    pub encryption: Option<Encryption>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            max_connections: 100,
            min_connections: 10,
            idle_timeout: Duration::from_secs(30),
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            retry_for: Duration::from_secs(10),
            slow: Duration::from_millis(100),
            application_name: "lyceum".to_owned(),
            index_vectors_from: 20_000,
            encryption: None,
        }
    }
}
