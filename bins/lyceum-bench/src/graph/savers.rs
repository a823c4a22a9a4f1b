//! The savers that runs are measured with.

use std::{
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow};
use lyceum_graph::{MemorySaver, Saver};
use lyceum_store_postgres::{
    PostgresOptions, PostgresStore,
    test_server::{ServerError, TestServer},
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use crate::report::say;

/// Calls that may wait for SQLite: more than the runs of the largest crowd.
const WAITING: usize = 1 << 15;

/// Which saver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// None: a run leaves nothing behind.
    Nothing,
    /// In memory.
    Memory,
    /// In a file of its own, `synchronous=FULL`.
    Sqlite,
    /// In a database of a private server on this machine, with its settings for durability as
    /// they are by default. Its files are where the system keeps temporary ones.
    Postgres,
}

/// Started when it is first wanted; it ends with this process.
static SERVER: LazyLock<Result<TestServer, ServerError>> = LazyLock::new(TestServer::start);

impl Kind {
    /// All that this machine has.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Nothing, Self::Memory, Self::Sqlite];
        match &*SERVER {
            Ok(_) => all.push(Self::Postgres),
            Err(error) => say(&format!("no PostgreSQL: {error}")),
        }
        all
    }

    /// Its name in the figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A saver ready for use, new and empty.
#[derive(Debug)]
pub(super) enum Opened {
    Nothing,
    Memory(Arc<MemorySaver>),
    Sqlite {
        store: Arc<SqliteStore>,
        path: PathBuf,
    },
    Postgres(Arc<PostgresStore>),
}

impl Opened {
    pub(super) async fn open(kind: Kind, home: &TempDir) -> Result<Self> {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        Ok(match kind {
            Kind::Nothing => Self::Nothing,
            Kind::Memory => Self::Memory(Arc::new(MemorySaver::new())),
            Kind::Sqlite => {
                let number = FILES.fetch_add(1, Ordering::Relaxed);
                let path = home.path().join(format!("{number}.db"));
                let options = SqliteOptions {
                    waiting: WAITING,
                    ..SqliteOptions::default()
                };
                let store = Arc::new(SqliteStore::open(&path, options)?);
                Self::Sqlite { store, path }
            }
            Kind::Postgres => {
                let server = SERVER.as_ref().map_err(|error| anyhow!("{error}"))?;
                let options = PostgresOptions {
                    acquire_timeout: Duration::from_secs(300),
                    ..PostgresOptions::default()
                };
                let store = PostgresStore::open(&server.database()?, options).await?;
                Self::Postgres(Arc::new(store))
            }
        })
    }

    pub(super) fn saver(&self) -> Option<Arc<dyn Saver>> {
        match self {
            Self::Nothing => None,
            Self::Memory(saver) => Some(saver.clone()),
            Self::Sqlite { store, .. } => Some(store.clone()),
            Self::Postgres(store) => Some(store.clone()),
        }
    }

    /// Waits until everything is in its file, and gives the file's size in bytes.
    pub(super) async fn close(self) -> u64 {
        let Self::Sqlite { store, path } = self else {
            return 0;
        };
        store.close().await;
        std::fs::metadata(path).map_or(0, |meta| meta.len())
    }
}
