//! Opens the store that the configuration names.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result};
use lyceum_agents::Savers;
use lyceum_core::{Embedder, Hints, RecordStore};
use lyceum_gateway::langgraph::{Platform, Served};
use lyceum_graph::{Saver, Threads};
use lyceum_memory::{
    JobStore, Languages, Meaning, Memory, MemoryConfig, MemoryStore, SessionArchive, SessionStore,
    StoreCheck, StoreKeys, VectorSpace, VectorStore,
};
use lyceum_store_json::JsonStore;
use lyceum_store_postgres::{PostgresOptions, PostgresStore, VectorSupport};
use lyceum_store_qdrant::{QdrantMemories, QdrantVectors};
use lyceum_store_sqlite::{Encryption, SqliteOptions, SqliteStore, Unsealed};
use secrecy::ExposeSecret as _;

use crate::{
    config::{Resolved, StoreKind, Vectors, VectorsKind},
    privacy,
};

/// The store's file inside the data directory.
const DATABASE: &str = "lyceum.db";
/// The folder of JSON files inside the data directory.
const FOLDER: &str = "memory";

/// What keeps the data.
#[derive(Debug)]
pub(crate) enum Store {
    Sqlite(Arc<SqliteStore>),
    /// Conversations and memories in a folder; graphs' threads and records in the file.
    Json(Arc<JsonStore>, Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
}

/// The ports of one store.
pub(crate) struct Ports {
    pub(crate) sessions: Arc<dyn SessionStore>,
    pub(crate) memories: Arc<dyn MemoryStore>,
    jobs: Arc<dyn JobStore>,
    vectors: Option<Arc<dyn VectorStore>>,
}

impl Ports {
    fn of<S: SessionStore + MemoryStore + JobStore + 'static>(store: &Arc<S>) -> Self {
        Self {
            sessions: store.clone(),
            memories: store.clone(),
            jobs: store.clone(),
            vectors: None,
        }
    }

    fn with_vectors(self, vectors: Arc<dyn VectorStore>) -> Self {
        Self {
            vectors: Some(vectors),
            ..self
        }
    }
}

impl Store {
    /// Opens the store, and says where it is, without secrets.
    ///
    /// # Errors
    ///
    /// What stands in the way, in words for the person who started the program.
    pub(crate) async fn open(resolved: &Resolved) -> Result<(Self, String)> {
        Self::open_as(resolved, Unsealed::Refuse).await
    }

    /// The same of a store that is not encrypted wholly, to encrypt it.
    pub(crate) async fn open_as(resolved: &Resolved, unsealed: Unsealed) -> Result<(Self, String)> {
        let config = &resolved.config.store;
        // What is spent is kept there in either case.
        make(&resolved.data_dir)?;
        match (config.kind, &config.url) {
            (StoreKind::Postgres, Some(url)) => {
                let masters = privacy::masters(resolved)?;
                let options = PostgresOptions {
                    encryption: masters.map(|masters| Encryption { masters, unsealed }),
                    ..config.options()
                };
                let store = PostgresStore::open(url.expose_secret(), options).await?;
                let mut place = format!("PostgreSQL at {}", store.host());
                if resolved.config.memory.encoder != "off" {
                    place += &meaning(store.vectors());
                }
                Ok((Self::Postgres(Arc::new(store)), place))
            }
            (StoreKind::Json, _) => {
                let folder = resolved.data_dir.join(FOLDER);
                let file = open(resolved, unsealed)?.0;
                let store = JsonStore::open(&folder)?;
                let place = folder.display().to_string();
                Ok((Self::Json(Arc::new(store), file), place))
            }
            // Without an address the configuration would have been refused.
            (StoreKind::Postgres, None) | (StoreKind::Sqlite, _) => {
                let (store, place) = open(resolved, unsealed)?;
                Ok((Self::Sqlite(store), place))
            }
        }
    }

    /// What its callers see of it.
    pub(crate) fn ports(&self) -> Ports {
        match self {
            Self::Sqlite(store) => Ports::of(store).with_vectors(store.clone()),
            Self::Json(store, _) => Ports::of(store).with_vectors(store.clone()),
            Self::Postgres(store) => match store.vectors().is_here() {
                true => Ports::of(store).with_vectors(store.clone()),
                false => Ports::of(store),
            },
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
        let ports = self.ports();
        let Some((encoder, beside)) = encoder.zip(ports.vectors) else {
            return Ok(Memory::new(
                ports.sessions,
                ports.memories,
                ports.jobs,
                config,
            ));
        };
        let (memories, arm): (Arc<dyn MemoryStore>, Arc<dyn VectorStore>) =
            match qdrant(vectors, &beside, &ports.memories)? {
                Some(arm) => {
                    let arm = Arc::new(arm);
                    check(Arc::clone(&arm), VectorSpace::of(&encoder));
                    (
                        Arc::new(QdrantMemories::new(ports.memories, arm.clone())),
                        arm,
                    )
                }
                None => (ports.memories, beside),
            };
        let memory = Memory::new(ports.sessions, memories, ports.jobs, config);
        Ok(memory.with_meaning(Meaning::new(arm, encoder, Languages::Spaced)))
    }

    /// What checks, mends and erases; the memories' first.
    pub(crate) fn checks(&self) -> Vec<Arc<dyn StoreCheck>> {
        match self {
            Self::Sqlite(store) => vec![store.clone()],
            Self::Json(store, file) => vec![store.clone(), file.clone()],
            Self::Postgres(store) => vec![store.clone()],
        }
    }

    /// What takes conversations from elsewhere.
    pub(crate) fn archive(&self) -> Arc<dyn SessionArchive> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Json(store, _) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// What keeps the threads of each tenant's knowledge.
    pub(crate) fn savers(&self) -> Savers {
        match self {
            Self::Sqlite(store) | Self::Json(_, store) => {
                let store = store.clone();
                Savers::by_tenant(move |tenant| store.saver_of(tenant))
            }
            Self::Postgres(store) => {
                let store = store.clone();
                Savers::by_tenant(move |tenant| store.saver_of(tenant))
            }
        }
    }

    /// What lists the threads of graphs.
    pub(crate) fn threads(&self) -> Arc<dyn Threads> {
        match self {
            Self::Sqlite(store) | Self::Json(_, store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// Whether what is stored is encrypted.
    pub(crate) fn is_encrypting(&self) -> bool {
        match self {
            Self::Sqlite(store) | Self::Json(_, store) => store.is_encrypting(),
            Self::Postgres(store) => store.is_encrypting(),
        }
    }

    /// What changes the keys that the store encrypts with, where it does.
    pub(crate) fn keys(&self) -> Option<Arc<dyn StoreKeys>> {
        match self {
            Self::Sqlite(store) => Some(store.clone()),
            Self::Postgres(store) => Some(store.clone()),
            Self::Json(..) => None,
        }
    }

    /// The vectors beside the store, where a server keeps them.
    pub(crate) fn qdrant(&self, vectors: &Vectors) -> Result<Option<QdrantVectors>> {
        let ports = self.ports();
        match ports.vectors {
            Some(beside) => qdrant(vectors, &beside, &ports.memories),
            None => Ok(None),
        }
    }

    /// What offers graphs to clients.
    pub(crate) fn platform(&self, graphs: Vec<Served>) -> Platform {
        let saver: Arc<dyn Saver> = match self {
            Self::Sqlite(store) | Self::Json(_, store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        };
        let platform = Platform::new(graphs, self.records(), saver);
        match self.hints() {
            Some(hints) => platform.shared(hints),
            None => platform,
        }
    }

    /// What keeps the server's own documents: responses, answers, streams, runs.
    pub(crate) fn records(&self) -> Arc<dyn RecordStore> {
        match self {
            Self::Sqlite(store) | Self::Json(_, store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// What tells other servers of news, where they may share the records.
    pub(crate) fn hints(&self) -> Option<Arc<dyn Hints>> {
        match self {
            Self::Sqlite(_) | Self::Json(..) => None,
            Self::Postgres(store) => Some(store.clone()),
        }
    }

    /// Ends what the store does by itself. A server needs no farewell.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(store) | Self::Json(_, store) => store.close().await,
            Self::Postgres(_) => {}
        }
    }
}

/// By what memories are found there, as the start says it.
fn meaning(vectors: &VectorSupport) -> String {
    match vectors {
        VectorSupport::Here { .. } => format!("; memories are found by meaning too ({vectors})"),
        why => {
            tracing::warn!(%why, "memories are found by their words alone");
            format!("; memories are found by their words alone: {why}")
        }
    }
}

fn open(resolved: &Resolved, unsealed: Unsealed) -> Result<(Arc<SqliteStore>, String)> {
    let file = resolved.data_dir.join(DATABASE);
    let masters = privacy::masters(resolved)?;
    let options = SqliteOptions {
        encryption: masters.map(|masters| Encryption { masters, unsealed }),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&file, options)?;
    Ok((Arc::new(store), file.display().to_string()))
}

/// Without an address the configuration would have been refused.
fn qdrant(
    vectors: &Vectors,
    beside: &Arc<dyn VectorStore>,
    rows: &Arc<dyn MemoryStore>,
) -> Result<Option<QdrantVectors>> {
    let (VectorsKind::Qdrant, Some(url)) = (vectors.kind, &vectors.url) else {
        return Ok(None);
    };
    let (address, options) = (url.as_str().into(), vectors.options());
    let made = QdrantVectors::new(&address, options, beside.clone(), rows.clone());
    made.map(Some).context("[vectors]")
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
