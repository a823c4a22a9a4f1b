//! The vector port: vectors beside their memories, searched by an exact scan.
//!
//! The table of memories is itself the outbox: one thread writes, so ids rise in the order of
//! commits, and what stands above a space's `upto` waits. Nothing is added to a turn's write.
//!
//! An owner's vectors are read once and kept (see [`Matrices`]); later reads add what is new.
//! Invariant: an answer holds only vectors that are in the file, whatever is kept.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use lyceum_core::{AgentId, Scope, TenantId, UserId};
use lyceum_memory::{
    MemoryId, Near, NewVector, StoreError, Timestamp, Unembedded, VectorCount, VectorSpace,
    VectorStore,
    dense::{Matrix, dot, normalized},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    error::Failure,
    memory_row::{Stored, columns, holds},
    row::{id_at, integer, limit_of, unsigned},
    scope::{Home, Owner},
    sealed::{At, Db, sealed_row},
};

/// What all kept matrices may occupy: two owners of 80,000 memories in 384 dimensions.
const KEPT_BYTES: usize = 256 * 1024 * 1024;

/// Rows looked at beyond the limit, for those whose memory is gone.
const SLACK: usize = 16;

pub(crate) const NEW_ROWS: &str = "\
    SELECT id, data, memory FROM vector WHERE space = ?1 AND owner = ?2 AND id > ?3 ORDER BY id";

pub(crate) const WAITING: &str = "\
    SELECT o.tenant, o.user, o.agent, m.name, m.kind, m.topic, m.text, m.importance, m.session, \
        m.created_at, m.context, m.valid_from, m.valid_to, m.recorded_at, m.sealed, m.id \
    FROM memory AS m JOIN owner AS o ON o.id = m.owner WHERE m.id > ?2 \
    AND NOT EXISTS (SELECT 1 FROM vector WHERE memory = m.id AND space = ?1) \
    ORDER BY m.id LIMIT ?3";

macro_rules! near {
    ($now:literal, $from:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", v.data, v.memory, v.space, ",
            holds!($now, $now),
            " FROM ",
            $from
        )
    };
}

const BY_ROW: &str = near!(
    "?2",
    "vector AS v JOIN memory AS m ON m.id = v.memory WHERE v.id = ?1"
);

const BY_NAME: &str = near!(
    "?4",
    "memory AS m JOIN vector AS v ON v.memory = m.id AND v.space = ?1 \
     WHERE m.owner = ?2 AND m.name = ?3"
);

/// Where a vector stands.
pub(crate) fn vector_at<T>(space: i64, memory: i64, then: impl FnOnce(At<'_>) -> T) -> T {
    then(At {
        table: "vector",
        column: "data",
        row: &[&memory.to_string(), &space.to_string()],
        rest: &[],
    })
}

/// The matrices of the owners that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Matrices(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_owner: HashMap<(i64, i64), Entry>,
    uses: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    matrix: Matrix,
    upto: i64,
    used: u64,
}

impl Matrices {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner's vectors in the space as the connection's transaction sees them; more rows
    /// where another read already saw more.
    fn of(
        &self,
        connection: &Connection,
        (space, home): (i64, &Home),
        dimensions: usize,
    ) -> rusqlite::Result<Matrix> {
        let owner = home.id;
        let known = self.kept().by_owner.get(&(space, owner)).cloned();
        let mut entry = known.unwrap_or_else(|| Entry {
            matrix: Matrix::new(dimensions),
            upto: 0,
            used: 0,
        });
        let mut all = connection.prepare_cached(NEW_ROWS)?;
        let mut rows = all.query(params![space, owner, entry.upto])?;
        while let Some(row) = rows.next()? {
            entry.upto = row.get(0)?;
            if let Some(data) = row.get_ref(1)?.as_bytes_or_null()? {
                let data = vector_at(space, row.get(2)?, |at| {
                    home.texts.open_bytes(at, data, 4 * dimensions)
                })?;
                entry.matrix.push(entry.upto, numbers(&data));
            }
        }
        drop(rows);
        let matrix = entry.matrix.clone();
        self.kept().keep((space, owner), entry);
        Ok(matrix)
    }

    fn forget(&self, key: (i64, i64)) {
        self.kept().by_owner.remove(&key);
    }

    pub(crate) fn forget_all(&self) {
        self.kept().by_owner.clear();
    }

    fn forget_space(&self, space: i64) {
        self.kept().by_owner.retain(|key, _| key.0 != space);
    }
}

impl Kept {
    fn keep(&mut self, key: (i64, i64), entry: Entry) {
        self.uses += 1;
        let used = self.uses;
        // Two reads may have added at once; who saw more knows all that the other does.
        match self.by_owner.get_mut(&key) {
            Some(known) if known.upto > entry.upto => known.used = used,
            _ => drop(self.by_owner.insert(key, Entry { used, ..entry })),
        }
        let mut bytes: usize = self.by_owner.values().map(|e| e.matrix.bytes()).sum();
        while bytes > KEPT_BYTES {
            let oldest = self.by_owner.iter().min_by_key(|(_, entry)| entry.used);
            let Some(key) = oldest.map(|(&key, _)| key) else {
                break;
            };
            let gone = self.by_owner.remove(&key);
            bytes -= gone.map_or(0, |entry| entry.matrix.bytes());
        }
    }
}

fn numbers(data: &[u8]) -> impl ExactSizeIterator<Item = f32> + '_ {
    data.as_chunks::<4>()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
}

/// The space's row and how far it is, where anything was ever settled in it.
fn find(connection: &Connection, space: &VectorSpace) -> rusqlite::Result<Option<(i64, i64)>> {
    connection
        .prepare_cached("SELECT id, upto FROM vector_space WHERE model = ?1 AND dimensions = ?2")?
        .query_row(
            params![space.model, integer(space.dimensions as u64)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
}

fn ensure(connection: &Connection, space: &VectorSpace) -> rusqlite::Result<(i64, i64)> {
    if let Some(found) = find(connection, space)? {
        return Ok(found);
    }
    connection
        .prepare_cached("INSERT INTO vector_space (model, dimensions) VALUES (?1, ?2)")?
        .execute(params![space.model, integer(space.dimensions as u64)])?;
    Ok((connection.last_insert_rowid(), 0))
}

/// Moves all spaces back behind the newest memory, whose id may be given again.
pub(crate) fn after_deletion(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE vector_space SET upto = coalesce((SELECT max(id) FROM memory), 0) \
             WHERE upto > coalesce((SELECT max(id) FROM memory), 0)",
        )?
        .execute([])?;
    Ok(())
}

fn set(connection: &Db<'_>, space: &VectorSpace, vectors: &[NewVector]) -> Result<usize, Failure> {
    let (space, upto) = ensure(connection, space)?;
    let mut memory =
        connection.prepare_cached("SELECT id FROM memory WHERE owner = ?1 AND name = ?2")?;
    let mut replace = connection.prepare_cached(
        "REPLACE INTO vector (space, owner, memory, data) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut settled = 0;
    for new in vectors {
        let Some(home) = Owner::new(&new.scope).home(connection)? else {
            continue;
        };
        let owner = home.id;
        let id: Option<i64> = memory
            .query_row(params![owner, new.id.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            let vector = new.vector.as_deref().and_then(normalized);
            let data: Option<Vec<u8>> =
                vector.map(|all| all.into_iter().flat_map(f32::to_le_bytes).collect());
            let seal = |data| vector_at(space, id, |at| home.texts.seal_bytes(at, data));
            let data = data.map(seal).transpose()?;
            replace.execute(params![space, owner, id, data])?;
            settled += 1;
        }
    }
    // Up to here everything is settled; the next question starts there.
    let next: Option<i64> = connection
        .prepare_cached(WAITING)?
        .query_row(params![space, upto, 1], |row| row.get(15))
        .optional()?;
    let upto = match next {
        Some(first) => first - 1,
        None => connection
            .prepare_cached("SELECT coalesce(max(id), 0) FROM memory")?
            .query_row([], |row| row.get(0))?,
    };
    connection
        .prepare_cached("UPDATE vector_space SET upto = ?2 WHERE id = ?1")?
        .execute([space, upto])?;
    Ok(settled)
}

/// The memory of a row beside the query; `None` where it has no vector or does not hold now.
fn near(row: &Row<'_>, home: &Home, query: &[f32]) -> rusqlite::Result<Option<Near>> {
    let data = row.get_ref(12)?.as_bytes_or_null()?;
    let (Some(data), true) = (data, row.get(15)?) else {
        return Ok(None);
    };
    let data = vector_at(row.get(14)?, row.get(13)?, |at| {
        home.texts.open_bytes(at, data, 4 * query.len())
    })?;
    let vector: Vec<f32> = numbers(&data).collect();
    let mut stored = Stored::read(row, 0)?;
    let [topic, text, _] = stored.open(&home.owner, &home.texts)?;
    Ok(Some(Near {
        id: id_at(row, 0, MemoryId::new)?,
        topic,
        text,
        importance: stored.importance,
        created_at: stored.created_at(),
        similarity: dot(query, &vector),
    }))
}

fn nearest(
    connection: &Db<'_>,
    matrices: &Matrices,
    (owner, space, now): (&Owner, &VectorSpace, Timestamp),
    query: &[f32],
    (limit, also): (usize, &[MemoryId]),
) -> Result<Vec<Near>, Failure> {
    let (Some(home), Some((id, _))) = (owner.home(connection)?, find(connection, space)?) else {
        return Ok(Vec::new());
    };
    let mut by_row = connection.prepare_cached(BY_ROW)?;
    let mut found: Vec<Near> = Vec::new();
    let (mut asked, mut is_fresh) = (limit.saturating_add(SLACK), false);
    loop {
        let matrix = matrices.of(connection, (id, &home), space.dimensions)?;
        let rows = matrix.nearest(query, asked);
        let (looked_at, mut gone) = (rows.len(), 0);
        found.clear();
        for (row, _) in rows {
            let memory = by_row.query_row(params![row, now.0], |row| near(row, &home, query));
            match memory.optional()? {
                Some(memory) => found.extend(memory),
                None => gone += 1,
            }
        }
        if gone > 0 && !is_fresh {
            // A second time, from the file alone, where too much of what was kept is gone from it.
            matrices.forget((id, home.id));
            is_fresh = true;
            if found.len() < limit {
                continue;
            }
        }
        // Those that hold no longer take places of others: more are looked at.
        if found.len() >= limit || looked_at < asked {
            break;
        }
        asked = asked.saturating_mul(4);
    }
    let order = |a: &Near, b: &Near| {
        let similarity = b.similarity.total_cmp(&a.similarity);
        similarity.then_with(|| a.id.cmp(&b.id))
    };
    found.sort_by(order);
    found.truncate(limit);
    let mut by_name = connection.prepare_cached(BY_NAME)?;
    for name in also {
        if found.iter().all(|near| near.id != *name) {
            let params = params![id, home.id, name.as_str(), now.0];
            let row = by_name.query_row(params, |row| near(row, &home, query));
            found.extend(row.optional()?.flatten());
        }
    }
    found.sort_by(order);
    Ok(found)
}

#[async_trait]
impl VectorStore for SqliteStore {
    async fn unembedded(
        &self,
        space: &VectorSpace,
        limit: usize,
    ) -> Result<Vec<Unembedded>, StoreError> {
        let space = space.clone();
        self.read("unembedded", move |connection| {
            let (space, upto) = find(connection, &space)?.unwrap_or((0, 0));
            let mut waiting = connection.prepare_cached(WAITING)?;
            let mut rows = waiting.query(params![space, upto, limit_of(limit)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let owner = Owner {
                    tenant: row.get(0)?,
                    user: row.get(1)?,
                    agent: row.get(2)?,
                };
                let texts = connection.texts(&owner.tenant)?;
                let [topic, text, context] = match Stored::read(row, 3)?.open(&owner, &texts) {
                    Ok(texts) => texts,
                    // It waits until somebody looks after it, and keeps no other waiting.
                    Err(error) if sealed_row(&error).is_some() => {
                        tracing::error!(%error, "a memory gets no vector: it does not open");
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                found.push(Unembedded {
                    scope: Scope {
                        tenant: id_at(row, 0, TenantId::new)?,
                        user: id_at(row, 1, UserId::new)?,
                        agent: id_at(row, 2, AgentId::new)?,
                        session: None,
                    },
                    id: id_at(row, 3, MemoryId::new)?,
                    topic,
                    text,
                    context,
                });
            }
            Ok(found)
        })
        .await
    }

    async fn set_vectors(
        &self,
        space: &VectorSpace,
        vectors: &[NewVector],
    ) -> Result<usize, StoreError> {
        for vector in vectors.iter().filter_map(|new| new.vector.as_ref()) {
            space.check(vector)?;
        }
        let (space, vectors) = (space.clone(), vectors.to_vec());
        self.write("set_vectors", move |connection, _| {
            set(connection, &space, &vectors)
        })
        .await
    }

    async fn nearest(
        &self,
        scope: &Scope,
        space: &VectorSpace,
        query: &[f32],
        limit: usize,
        also: &[MemoryId],
    ) -> Result<Vec<Near>, StoreError> {
        space.check(query)?;
        let Some(query) = normalized(query) else {
            return Ok(Vec::new());
        };
        let (owner, space, also) = (Owner::new(scope), space.clone(), also.to_vec());
        let (matrices, now) = (self.matrices(), self.now());
        self.read("nearest", move |connection| {
            nearest(
                connection,
                &matrices,
                (&owner, &space, now),
                &query,
                (limit, &also),
            )
        })
        .await
    }

    async fn count_vectors(&self, space: &VectorSpace) -> Result<VectorCount, StoreError> {
        let space = space.clone();
        self.read("count_vectors", move |connection| {
            let (space, upto) = find(connection, &space)?.unwrap_or((0, 0));
            let count = |sql: &str| -> rusqlite::Result<u64> {
                let mut count = connection.prepare_cached(sql)?;
                count.query_row([space, upto], |row| Ok(unsigned(row.get(0)?)))
            };
            Ok(VectorCount {
                memories: count("SELECT count(*) FROM memory WHERE ?1 <= ?1 AND ?2 <= ?2")?,
                settled: count("SELECT count(*) FROM vector WHERE space = ?1 AND ?2 <= ?2")?,
                vectors: count(
                    "SELECT count(*) FROM vector WHERE space = ?1 AND ?2 <= ?2 AND data NOT NULL",
                )?,
                missed: count(
                    "SELECT count(*) FROM memory AS m WHERE m.id <= ?2 AND NOT EXISTS \
                     (SELECT 1 FROM vector WHERE memory = m.id AND space = ?1)",
                )?,
            })
        })
        .await
    }

    async fn forget_vectors(&self, space: &VectorSpace) -> Result<u64, StoreError> {
        let (space, matrices) = (space.clone(), self.matrices());
        self.write("forget_vectors", move |connection, _| {
            let Some((id, _)) = find(connection, &space)? else {
                return Ok(0);
            };
            let vectors = connection
                .prepare_cached("SELECT count(data) FROM vector WHERE space = ?1")?
                .query_row([id], |row| row.get(0))?;
            connection.execute("DELETE FROM vector WHERE space = ?1", [id])?;
            connection.execute("UPDATE vector_space SET upto = 0 WHERE id = ?1", [id])?;
            matrices.forget_space(id);
            Ok(unsigned(vectors))
        })
        .await
    }
}
