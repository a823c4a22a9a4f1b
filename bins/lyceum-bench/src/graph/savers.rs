//! The savers that runs are measured with.

use std::{
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Result, anyhow};
use lyceum_graph::{Durability, MemorySaver, Saver};
use lyceum_store_postgres::{
    PostgresOptions, PostgresStore,
    test_server::{ServerError, TestServer},
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use super::cases::Kept;
use crate::report::say;

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

/// A saver, and when a run is stored in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) kind: Kind,
    pub(super) durability: Durability,
}

impl Way {
    /// All that this machine has.
    pub(super) fn all() -> Vec<Self> {
        let way = |kind, durability| Self { kind, durability };
        let mut all = vec![
            way(Kind::Nothing, Durability::Sync),
            way(Kind::Memory, Durability::Sync),
        ];
        let mut kinds = vec![Kind::Sqlite];
        match &*SERVER {
            Ok(_) => kinds.push(Kind::Postgres),
            Err(error) => say(&format!("no PostgreSQL: {error}")),
        }
        let each = [Durability::Sync, Durability::Async, Durability::Exit];
        all.extend(
            kinds
                .into_iter()
                .flat_map(|kind| each.map(|at| way(kind, at))),
        );
        all
    }

    /// Its name in the figures.
    pub(super) fn name(self) -> &'static str {
        match (self.kind, self.durability) {
            (Kind::Nothing, _) => "none",
            (Kind::Memory, _) => "memory",
            (Kind::Sqlite, Durability::Sync) => "sqlite-sync",
            (Kind::Sqlite, Durability::Async) => "sqlite-async",
            (Kind::Sqlite, Durability::Exit) => "sqlite-exit",
            (Kind::Postgres, Durability::Sync) => "postgres-sync",
            (Kind::Postgres, Durability::Async) => "postgres-async",
            (Kind::Postgres, Durability::Exit) => "postgres-exit",
        }
    }

    /// A run on an opened saver.
    pub(super) fn kept(self, opened: &Opened) -> Kept {
        Kept {
            saver: opened.saver(),
            durability: self.durability,
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
                let store = SqliteStore::open(&path, SqliteOptions::default())?;
                let store = Arc::new(store);
                Self::Sqlite { store, path }
            }
            Kind::Postgres => {
                let server = SERVER.as_ref().map_err(|error| anyhow!("{error}"))?;
                let address = server.database()?;
                let store = PostgresStore::open(&address, PostgresOptions::default()).await?;
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
