//! The memory port: rows, the index of their words, and the search over it.
//!
//! The index of words (`postings`) is one per owner instead of FTS5's one per file. FTS5 counts words over
//! the whole file, so a search would cost time in proportion to all tenants' memories and one
//! tenant's words would move another's ranking; and it knows no Chinese words. How words are
//! found and weighed is `lyceum_memory::lexical`, the same for every store; here words that
//! many of an owner's memories hold decide only where a query has no others.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};
use lyceum_memory::{
    Beside, MemoryCursor, MemoryId, MemoryKind, MemoryRecord, MemoryStore, NewMemory, Recollection,
    StoreError, Timestamp,
    lexical::{Corpus, Document, query_terms},
};
use rusqlite::{Connection, Error, OptionalExtension, Row, params, types::Type};

use crate::{
    SqliteStore,
    error::Failure,
    postings::{self, Held},
    row::{LAST_NAME, id_at, limit_of, unsigned},
    scope::Owner,
    vectors,
};

/// How many memories of equal score are looked at beyond the limit, to put the newest first.
const TIES: usize = 100;

pub(crate) const LIST: &str = "\
    SELECT name, kind, topic, text, importance, session, created_at, context FROM memory \
    WHERE owner = (SELECT id FROM owner WHERE tenant = ?1 AND user = ?2 AND agent = ?3) \
    AND (created_at, name) < (?4, ?5) ORDER BY created_at DESC, name DESC LIMIT ?6";

const GET: &str = "\
    SELECT name, kind, topic, text, importance, session, created_at, context FROM memory \
    WHERE owner = (SELECT id FROM owner WHERE tenant = ?1 AND user = ?2 AND agent = ?3) \
    AND name = ?4";

const PLACE: &str = "\
    SELECT id, session FROM memory \
    WHERE owner = ?1 AND name = ?2 AND kind = 'episode' AND session IS NOT NULL";

macro_rules! beside {
    ($which:literal) => {
        concat!(
            "SELECT name, topic, text, importance, created_at FROM memory \
            WHERE owner = ?1 AND session = ?2 AND kind = 'episode' AND session IS NOT NULL AND ",
            $which
        )
    };
}

pub(crate) const BEFORE: &str = beside!("id < ?3 ORDER BY id DESC LIMIT 1");
pub(crate) const AFTER: &str = beside!("id > ?3 ORDER BY id LIMIT 1");

/// Stores a memory where the owner has none of its id; says whether it did.
pub(crate) fn insert(
    connection: &Connection,
    owner: i64,
    session: Option<&str>,
    memory: &NewMemory,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let created_at = memory.created_at.unwrap_or(now).0;
    let new = connection
        .prepare_cached(
            "INSERT INTO memory \
             (owner, name, kind, topic, text, importance, session, created_at, context) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (owner, name) DO NOTHING",
        )?
        .execute(params![
            owner,
            memory.id.as_str(),
            memory.kind.as_str(),
            memory.topic,
            memory.text,
            memory.importance,
            session,
            created_at,
            memory.context
        ])?;
    if new > 0 {
        let id = connection.last_insert_rowid();
        index(connection, owner, id, &Document::new(&memory.searched()))?;
    }
    Ok(new > 0)
}

fn index(
    connection: &Connection,
    owner: i64,
    memory: i64,
    document: &Document,
) -> rusqlite::Result<()> {
    postings::add(connection, owner, memory, document)?;
    count(connection, owner, 1, i64::from(document.length))
}

/// Removes a memory and its words; says whether there was one.
fn delete(connection: &Connection, owner: i64, name: &str) -> rusqlite::Result<bool> {
    let row: Option<(i64, [String; 3])> = connection
        .prepare_cached(
            "SELECT id, topic, text, context FROM memory WHERE owner = ?1 AND name = ?2",
        )?
        .query_row(params![owner, name], |row| {
            Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?]))
        })
        .optional()?;
    let Some((id, texts)) = row else {
        return Ok(false);
    };
    // The words are found again the way they were found first: an index by memory would cost
    // more on every write than this on a rare deletion.
    let document = Document::new(&texts.each_ref().map(String::as_str));
    postings::remove(connection, owner, id, &document)?;
    connection
        .prepare_cached("DELETE FROM memory WHERE id = ?1")?
        .execute([id])?;
    count(connection, owner, -1, -i64::from(document.length))?;
    vectors::after_deletion(connection)?;
    Ok(true)
}

fn count(connection: &Connection, owner: i64, documents: i64, length: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE owner SET documents = documents + ?2, total_length = total_length + ?3 \
             WHERE id = ?1",
        )?
        .execute(params![owner, documents, length])?;
    Ok(())
}

/// Makes the index of all words anew, after the rules of finding them changed.
pub(crate) fn rebuild(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute_batch("DELETE FROM posting; UPDATE owner SET documents = 0, total_length = 0;")?;
    let mut all =
        connection.prepare("SELECT owner, id, topic, text, context FROM memory ORDER BY id")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let texts: [String; 3] = [row.get(2)?, row.get(3)?, row.get(4)?];
        index(
            connection,
            row.get(0)?,
            row.get(1)?,
            &Document::new(&texts.each_ref().map(String::as_str)),
        )?;
    }
    Ok(())
}

fn search(
    connection: &Connection,
    owner: &Owner,
    query: &str,
    limit: usize,
) -> Result<Vec<Recollection>, Failure> {
    let Some(owner) = owner.find(connection)? else {
        return Ok(Vec::new());
    };
    let corpus = connection
        .prepare_cached("SELECT documents, total_length FROM owner WHERE id = ?1")?
        .query_row([owner], |row| {
            Ok(Corpus {
                documents: unsigned(row.get(0)?),
                total_length: unsigned(row.get(1)?),
            })
        })?;
    let (mut telling, mut common) = (Vec::new(), Vec::new());
    for term in query_terms(query) {
        match postings::of_term(connection, owner, &term, corpus.documents)? {
            Held::By(postings) if postings.is_empty() => {}
            Held::By(postings) => telling.push(postings),
            Held::ByMany(newest) => common.push(newest),
        }
    }
    // Words that many memories hold tell little; they decide only where there are no others.
    let scores = corpus.rank(if telling.is_empty() { common } else { telling }, limit);
    let mut known = connection
        .prepare_cached("SELECT name, created_at, importance FROM memory WHERE id = ?1")?;
    let mut found = Vec::new();
    for (id, score) in scores.best(limit, TIES) {
        let recollection = known.query_row([id], |row| {
            Ok(Recollection {
                id: id_at(row, 0, MemoryId::new)?,
                topic: String::new(),
                text: String::new(),
                score,
                importance: row.get(2)?,
                created_at: Timestamp(row.get(1)?),
            })
        })?;
        found.push((id, recollection));
    }
    found.sort_by(|(_, one), (_, other)| one.by_rank(other));
    found.truncate(limit);
    // Only now, because many may have been equal and texts are long.
    let mut words = connection.prepare_cached("SELECT topic, text FROM memory WHERE id = ?1")?;
    let complete = |(id, recollection): (i64, Recollection)| {
        words.query_row([id], |row| {
            Ok(Recollection {
                topic: row.get(0)?,
                text: row.get(1)?,
                ..recollection
            })
        })
    };
    Ok(found
        .into_iter()
        .map(complete)
        .collect::<rusqlite::Result<_>>()?)
}

fn beside(
    connection: &Connection,
    owner: &Owner,
    ids: &[MemoryId],
) -> Result<Vec<Beside>, Failure> {
    let Some(owner) = owner.find(connection)? else {
        return Ok(Vec::new());
    };
    let mut place = connection.prepare_cached(PLACE)?;
    let mut sides = [
        connection.prepare_cached(BEFORE)?,
        connection.prepare_cached(AFTER)?,
    ];
    let mut found = Vec::new();
    for of in ids {
        let place: Option<(i64, String)> = place
            .query_row(params![owner, of.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((id, session)) = place else { continue };
        for side in &mut sides {
            let memory = side
                .query_row(params![owner, session, id], |row| {
                    Ok(Recollection {
                        id: id_at(row, 0, MemoryId::new)?,
                        topic: row.get(1)?,
                        text: row.get(2)?,
                        score: 0.0,
                        importance: row.get(3)?,
                        created_at: Timestamp(row.get(4)?),
                    })
                })
                .optional()?;
            found.extend(memory.map(|memory| Beside {
                of: of.clone(),
                memory,
            }));
        }
    }
    Ok(found)
}

fn record(row: &Row<'_>) -> rusqlite::Result<MemoryRecord> {
    let kind: String = row.get(1)?;
    let session: Option<String> = row.get(5)?;
    Ok(MemoryRecord {
        id: id_at(row, 0, MemoryId::new)?,
        kind: kind
            .parse::<MemoryKind>()
            .map_err(|error| Error::FromSqlConversionFailure(1, Type::Text, error.into()))?,
        topic: row.get(2)?,
        text: row.get(3)?,
        importance: row.get(4)?,
        session: match session {
            Some(_) => Some(id_at(row, 5, SessionId::new)?),
            None => None,
        },
        created_at: Timestamp(row.get(6)?),
        context: row.get(7)?,
    })
}

#[async_trait]
impl MemoryStore for SqliteStore {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        let (owner, memory) = (Owner::new(scope), memory.clone());
        let session = scope.session.clone();
        self.write("put_memory", move |connection, now| {
            let owner = owner.ensure(connection)?;
            let session = session.as_ref().map(SessionId::as_str);
            Ok(insert(connection, owner, session, &memory, now)?)
        })
        .await
    }

    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError> {
        let (owner, id) = (Owner::new(scope), id.clone());
        self.read("get_memory", move |connection| {
            let Owner {
                tenant,
                user,
                agent,
            } = &owner;
            Ok(connection
                .prepare_cached(GET)?
                .query_row(params![tenant, user, agent, id.as_str()], record)
                .optional()?)
        })
        .await
    }

    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let (owner, ids) = (Owner::new(scope), ids.to_vec());
        self.read("get_memories", move |connection| {
            let Owner {
                tenant,
                user,
                agent,
            } = &owner;
            let ids: BTreeSet<&str> = ids.iter().map(MemoryId::as_str).collect();
            let mut get = connection.prepare_cached(GET)?;
            let mut found = Vec::new();
            for id in ids {
                let row = get.query_row(params![tenant, user, agent, id], record);
                found.extend(row.optional()?);
            }
            Ok(found)
        })
        .await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        let (owner, query) = (Owner::new(scope), query.to_owned());
        self.read("search", move |connection| {
            search(connection, &owner, &query, limit)
        })
        .await
    }

    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<Beside>, StoreError> {
        let (owner, ids) = (Owner::new(scope), ids.to_vec());
        self.read("beside", move |connection| beside(connection, &owner, &ids))
            .await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let owner = Owner::new(scope);
        let (age, name) = match after {
            Some(cursor) => (cursor.created_at.0, cursor.id.to_string()),
            None => (i64::MAX, LAST_NAME.to_owned()),
        };
        self.read("list_memories", move |connection| {
            let Owner {
                tenant,
                user,
                agent,
            } = &owner;
            Ok(connection
                .prepare_cached(LIST)?
                .query_map(
                    params![tenant, user, agent, age, name, limit_of(limit)],
                    record,
                )?
                .collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        let (owner, id) = (Owner::new(scope), id.clone());
        self.write("delete_memory", move |connection, _| {
            let Some(owner) = owner.find(connection)? else {
                return Ok(false);
            };
            Ok(delete(connection, owner, id.as_str())?)
        })
        .await
    }
}
