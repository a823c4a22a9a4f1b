//! Indexes of owners who have very many vectors: an HNSW graph of their own, as a partial index.
//!
//! Invariant: a search uses a graph only once it is whole, which its row in `vector_graph` says.
//! One process builds at a time. Only the largest owners have one, because whatever is asked of a
//! table opens and locks each of its indexes. Deliberately absent: a graph over several owners.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::statements::{GIVE_UP, LARGE};

/// Names the lock of building: "graph" in ASCII.
const LOCK: i64 = 0x67_7261_7068;

/// How often it is asked for that lock.
const PAUSE: Duration = Duration::from_millis(100);

/// How many owners of a space have a graph at most. Each transaction that reads vectors locks them
/// all, beside the table's two other indexes, and the server by default keeps room for 64 locks a
/// connection (`max_locks_per_transaction`).
pub(super) const MOST_OWNERS: i64 = 32;

/// The most dimensions that the extension indexes.
const DIMENSIONS: usize = 2_000;

/// How many neighbours a vector has, and how many are looked at to find them: as the extension's
/// own default of 16, and twice its default of 64, for recall.
const NEIGHBOURS: u32 = 16;
const LOOKED_AT: u32 = 128;

/// How many candidates a search keeps; the extension takes up to 1,000.
const LEAST: usize = 200;
const MOST: usize = 1_000;

/// What a transaction begins with that searches a graph for so many; `None` where it would look at
/// too few, so that all are compared.
pub(super) fn settings(limit: usize) -> Option<String> {
    let candidates = limit.saturating_mul(4).max(LEAST);
    (limit > 0 && candidates <= MOST).then(|| {
        format!(
            "BEGIN; SET LOCAL hnsw.ef_search = {candidates}; SET LOCAL enable_seqscan = off; \
             SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off"
        )
    })
}

/// Builds them.
#[derive(Debug)]
pub(crate) struct Graphs {
    config: Config,
    from: i64,
    running: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Graphs {
    /// For owners who have more than so many memories.
    pub(crate) fn new(config: Config, from: usize) -> Self {
        Self {
            config,
            from: i64::try_from(from).unwrap_or(i64::MAX),
            running: Mutex::default(),
        }
    }

    /// An owner who has more memories than this gets one.
    pub(super) fn from(&self) -> i64 {
        self.from
    }

    /// Builds in the background what is needed, unless that is under way.
    pub(super) fn start(&self, space: i64, dimensions: usize) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (config, from) = (self.config.clone(), self.from);
        *running = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let built = build(&config, from, (space, dimensions), Others::LeftAlone);
            if let Err(error) = built.await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "an index of vectors could not be built");
            }
        })));
    }

    /// Builds what is needed, when nobody else builds; says how many.
    pub(super) async fn build(&self, space: i64, dimensions: usize) -> Result<u64, Error> {
        let of = (space, dimensions);
        build(&self.config, self.from, of, Others::WaitedFor).await
    }
}

/// What becomes of a call while another process builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    LeftAlone,
    WaitedFor,
}

async fn build(
    config: &Config,
    from: i64,
    (space, dimensions): (i64, usize),
    others: Others,
) -> Result<u64, Error> {
    if dimensions > DIMENSIONS {
        return Ok(0);
    }
    let (client, connection) = config.connect(NoTls).await?;
    let work = async {
        // It takes minutes; the memory is what a graph of some 250,000 vectors of 384 needs.
        let prepare = "SET statement_timeout = 0; SET maintenance_work_mem = '512MB'; \
            SET lyceum.operator = 'on'";
        client.batch_execute(prepare).await?;
        let lock = "SELECT pg_try_advisory_lock($1)";
        if others == Others::WaitedFor {
            wait(&client).await?;
        } else if !client.query_one(lock, &[&LOCK]).await?.try_get(0)? {
            return Ok(0);
        }
        client
            .execute(GIVE_UP, &[&space, &from, &MOST_OWNERS])
            .await?;
        tidy(&client).await?;
        let mut built = 0;
        let large = client.query(LARGE, &[&space, &from, &MOST_OWNERS]).await?;
        for row in large {
            let owner: i64 = row.try_get(0)?;
            let create = format!(
                "CREATE INDEX CONCURRENTLY vector_graph_{space}_{owner} ON lyceum.embedding \
                 USING hnsw ((data::vector({dimensions})) vector_ip_ops) \
                 WITH (m = {NEIGHBOURS}, ef_construction = {LOOKED_AT}) \
                 WHERE space = {space} AND owner = {owner}"
            );
            client.batch_execute(&create).await?;
            let note = "INSERT INTO lyceum.vector_graph (space, owner) VALUES ($1, $2)";
            client.execute(note, &[&space, &owner]).await?;
            tracing::info!(owner, "an index of an owner's vectors was built");
            built += 1;
        }
        Ok(built)
    };
    tokio::select! {
        biased;
        built = work => built,
        ended = connection => ended.map(|()| 0),
    }
}

/// Takes the lock as soon as it is free. It asks again and again: a statement that waited would
/// keep its snapshot, for whose end the building of an index waits.
async fn wait(client: &Client) -> Result<(), Error> {
    let lock = "SELECT pg_try_advisory_lock($1)";
    while !client
        .query_one(lock, &[&LOCK])
        .await?
        .try_get::<_, bool>(0)?
    {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Removes the indexes that no row stands for: their owners are gone, or they were given up or cut
/// off. Nobody else builds one meanwhile.
async fn tidy(client: &Client) -> Result<(), Error> {
    let orphans = "SELECT c.relname::text FROM pg_class c \
        JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'lyceum' AND c.relkind = 'i' AND c.relname ~ '^vector_graph_[0-9]+_[0-9]+$' \
        AND NOT EXISTS (SELECT FROM lyceum.vector_graph g \
            WHERE c.relname::text = 'vector_graph_' || g.space || '_' || g.owner)";
    for row in client.query(orphans, &[]).await? {
        let name: String = row.try_get(0)?;
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS lyceum.{name}");
        client.batch_execute(&drop).await?;
    }
    Ok(())
}
