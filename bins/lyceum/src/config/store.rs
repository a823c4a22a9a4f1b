//! The configuration of the store and of what keeps vectors.

use std::time::Duration;

use lyceum_store_postgres::PostgresOptions;
use lyceum_store_qdrant::QdrantOptions;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::masked;

/// `[store]`: what keeps conversations and memories.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    /// `sqlite` (default): one file in the data directory, for one process; `json`: a file for
    /// each conversation in the folder `memory` of the data directory, for one process with few
    /// users, all of whose memories fit in its own; or `postgres`: a server that several
    /// processes share.
    pub kind: StoreKind,
    /// The server's address, `postgresql://user:password@host:5432/name`. Better kept in the
    /// variable `LYCEUM_STORE__URL`. Default: none.
    #[serde(serialize_with = "masked")]
    pub url: Option<SecretString>,
    /// The most connections to the server. Default 100; 1 to 10,000.
    pub max_connections: u32,
    /// How many connections stay open when idle. Default 10; 0 to `max_connections`.
    pub min_connections: u32,
    /// After how many seconds the others are closed when idle. Default 30; 1 to 86,400.
    pub idle_seconds: u64,
    /// How long a call waits for a connection, in seconds. Default 5; 1 to 600.
    pub wait_seconds: u64,
    /// How long one statement may take, in seconds. Default 10; 1 to 600.
    pub statement_seconds: u64,
    /// A call that takes longer is logged, in milliseconds. Default 100; 0 logs every call.
    pub slow_milliseconds: u64,
}

/// What keeps the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    /// A file.
    #[default]
    Sqlite,
    /// A folder of files that people can read.
    Json,
    /// A PostgreSQL server.
    Postgres,
}

impl Default for Store {
    fn default() -> Self {
        let default = PostgresOptions::default();
        Self {
            kind: StoreKind::default(),
            url: None,
            max_connections: default.max_connections,
            min_connections: default.min_connections,
            idle_seconds: default.idle_timeout.as_secs(),
            wait_seconds: default.acquire_timeout.as_secs(),
            statement_seconds: default.statement_timeout.as_secs(),
            slow_milliseconds: 100,
        }
    }
}

impl Store {
    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions {
            max_connections: self.max_connections,
            min_connections: self.min_connections,
            idle_timeout: Duration::from_secs(self.idle_seconds),
            acquire_timeout: Duration::from_secs(self.wait_seconds),
            statement_timeout: Duration::from_secs(self.statement_seconds),
            slow: Duration::from_millis(self.slow_milliseconds),
            ..PostgresOptions::default()
        }
    }
}

/// `[vectors]`: what keeps the vectors by which memories are found by meaning. It needs
/// `memory.encoder`, which makes them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Vectors {
    /// `store` (default): beside the memories; or `qdrant`: in a server too, which is searched
    /// and can be filled again at any time.
    pub kind: VectorsKind,
    /// The server's gRPC address, e.g. `http://127.0.0.1:6334`. Default: none.
    pub url: Option<String>,
    /// Its key. Better kept in the variable `LYCEUM_VECTORS__API_KEY`. Default: none.
    #[serde(serialize_with = "masked")]
    pub api_key: Option<SecretString>,
    /// What the names of its collections begin with. Default `lyceum`.
    pub prefix: String,
    /// Whether all vectors of a user are compared, or the server's index is asked, which is
    /// faster for users of more than some 100,000 and may miss some. Default true.
    pub exact: bool,
    /// How long a call may take, in milliseconds. Default 5000; 10 to 60,000.
    pub timeout_milliseconds: u64,
}

/// What keeps vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VectorsKind {
    /// The store of the memories.
    #[default]
    Store,
    /// A Qdrant server.
    Qdrant,
}

impl Default for Vectors {
    fn default() -> Self {
        let default = QdrantOptions::default();
        Self {
            kind: VectorsKind::default(),
            url: None,
            api_key: None,
            prefix: default.prefix,
            exact: default.exact,
            timeout_milliseconds: 5_000,
        }
    }
}

impl Vectors {
    pub(crate) fn options(&self) -> QdrantOptions {
        QdrantOptions {
            prefix: self.prefix.clone(),
            api_key: self.api_key.clone(),
            timeout: Duration::from_millis(self.timeout_milliseconds),
            exact: self.exact,
            ..QdrantOptions::default()
        }
    }
}
