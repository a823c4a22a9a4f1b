//! Opens the store that the configuration names.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result};
use lyceum_core::{Embedder, RecordStore};
use lyceum_gateway::langgraph::{Platform, Served};
use lyceum_graph::Saver;
use lyceum_memory::{
    Languages, Meaning, Memory, MemoryConfig, MemoryStore, VectorSpace, VectorStore,
};
use lyceum_store_postgres::PostgresStore;
use lyceum_store_qdrant::{QdrantMemories, QdrantVectors};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};
use secrecy::ExposeSecret as _;

use crate::config::{Resolved, StoreKind, Vectors, VectorsKind};

/// The store's file inside the data directory.
const DATABASE: &str = "lyceum.db";

/// What keeps the data.
#[derive(Debug)]
pub(crate) enum Store {
    Sqlite(Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
}

impl Store {
    /// Opens the store, and says where it is, without secrets.
    ///
    /// # Errors
    ///
    /// What stands in the way, in words for the person who started the program.
    pub(crate) async fn open(resolved: &Resolved) -> Result<(Self, String)> {
        let config = &resolved.config.store;
        // What is spent is kept there in either case.
        make(&resolved.data_dir)?;
        match (config.kind, &config.url) {
            (StoreKind::Postgres, Some(url)) => {
                let store = PostgresStore::open(url.expose_secret(), config.options()).await?;
                let place = format!("PostgreSQL at {}", store.host());
                Ok((Self::Postgres(Arc::new(store)), place))
            }
            // Without an address the configuration would have been refused.
            (StoreKind::Postgres, None) | (StoreKind::Sqlite, _) => {
                let file = resolved.data_dir.join(DATABASE);
                let store = SqliteStore::open(&file, SqliteOptions::default())?;
                Ok((Self::Sqlite(Arc::new(store)), file.display().to_string()))
            }
        }
    }

    /// The memory over the store; with an encoder it finds memories by their meaning too, where
    /// the store keeps vectors.
    pub(crate) fn memory(
        &self,
        config: MemoryConfig,
        encoder: Option<Arc<dyn Embedder>>,
        vectors: &Vectors,
    ) -> Result<Memory> {
        let store = match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => {
                let memory = Memory::new(store.clone(), store.clone(), store.clone(), config);
                return Ok(memory);
            }
        };
        let Some(encoder) = encoder else {
            let memory = Memory::new(store.clone(), store.clone(), store, config);
            return Ok(memory);
        };
        let (memories, arm): (Arc<dyn MemoryStore>, Arc<dyn VectorStore>) =
            match (vectors.kind, &vectors.url) {
                (VectorsKind::Qdrant, Some(url)) => {
                    let (address, options) = (url.as_str().into(), vectors.options());
                    let rows = (store.clone(), store.clone());
                    let arm = QdrantVectors::new(&address, options, rows.0, rows.1)
                        .context("[vectors]")?;
                    let arm = Arc::new(arm);
                    check(Arc::clone(&arm), VectorSpace::of(&encoder));
                    (
                        Arc::new(QdrantMemories::new(store.clone(), arm.clone())),
                        arm,
                    )
                }
                // Without an address the configuration would have been refused.
                _ => (store.clone(), store.clone()),
            };
        let memory = Memory::new(store.clone(), memories, store, config);
        Ok(memory.with_meaning(Meaning::new(arm, encoder, Languages::Spaced)))
    }

    /// What keeps the threads of graphs.
    pub(crate) fn saver(&self) -> Arc<dyn Saver> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// What offers graphs to clients; only over a file yet.
    pub(crate) fn platform(&self, graphs: Vec<Served>) -> Option<Platform> {
        match self {
            Self::Sqlite(store) => Some(Platform::new(graphs, store.clone(), store.clone())),
            Self::Postgres(_) => None,
        }
    }

    /// What keeps answers that clients go on from; only over a file yet.
    pub(crate) fn records(&self) -> Option<Arc<dyn RecordStore>> {
        match self {
            Self::Sqlite(store) => Some(store.clone()),
            Self::Postgres(_) => None,
        }
    }

    /// Ends what the store does by itself. A server needs no farewell.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(_) => {}
        }
    }
}

/// Compares Qdrant with the rows in the background, once.
fn check(vectors: Arc<QdrantVectors>, space: VectorSpace) {
    tokio::spawn(async move {
        match vectors.reconcile(&space).await {
            Ok(found) => tracing::info!(?found, "Qdrant was compared with the memories"),
            Err(error) => {
                let label = error.label();
                tracing::warn!(label, %error, "Qdrant cannot be compared with the memories now");
            }
        }
    });
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| {
        format!(
            "cannot use {} as the data directory: choose another with --data-dir",
            dir.display()
        )
    })
}
