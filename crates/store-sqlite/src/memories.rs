//! The memory port: rows and the index of their words; `search` has what is found.
//!
//! The index of words (`postings`) is one per owner instead of FTS5's one per file. FTS5 counts
//! words over the whole file, so a search would cost time in proportion to all tenants' memories
//! and one tenant's words would move another's ranking; and it knows no Chinese words. How words
//! are found and weighed is `lyceum_memory::lexical`, the same for every store; here words that
//! many of an owner's memories hold decide only where a query has no others.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};
use lyceum_memory::{
    AsOf, Beside, MemoryCursor, MemoryId, MemoryKind, MemoryRecord, MemoryStore, NewMemory,
    Recollection, StoreError, Superseded, Timestamp,
};
use rusqlite::{Connection, Error, OptionalExtension, Row, params, types::Type};

use crate::{
    SqliteStore,
    error::Failure,
    memory_row::{Said, Stored, columns, holds},
    postings,
    row::{LAST_NAME, id_at, limit_of},
    scope::{Home, Owner},
    sealed::{Db, Texts, Words, sealed_row},
    search::{ABSENT, PAST, beside, search},
    vectors,
};

macro_rules! record {
    ($which:expr) => {
        concat!(
            "SELECT ", columns!(), ", superseded_by, superseded_at, superseded_from FROM memory \
            WHERE owner = (SELECT id FROM owner WHERE tenant = ?1 AND user = ?2 AND agent = ?3) ",
            $which
        )
    };
}

pub(crate) const LIST: &str =
    record!("AND (created_at, name) < (?4, ?5) ORDER BY created_at DESC, name DESC LIMIT ?6");

pub(crate) const LIST_AS_OF: &str = record!(concat!(
    "AND (created_at, name) < (?4, ?5) AND ",
    holds!("?7", "?8"),
    " ORDER BY created_at DESC, name DESC LIMIT ?6"
));

const GET: &str = record!("AND name = ?4");

/// Stores a memory where the owner has none of its id; says whether it did.
pub(crate) fn insert(
    db: &Db<'_>,
    home: &Home,
    session: Option<&str>,
    memory: &NewMemory,
    now: Timestamp,
) -> Result<bool, Failure> {
    let times = memory.times(now);
    let said = Said {
        name: memory.id.as_str(),
        kind: memory.kind.as_str(),
        importance: memory.importance,
        session,
        times,
        valid_to: memory.valid_to,
    };
    let texts = [&*memory.topic, &memory.text, &memory.context];
    let sealed = said.at(&home.owner, |at| home.texts.seal(at, &texts))?;
    let [topic, text, context] = if sealed.is_some() { [""; 3] } else { texts };
    let recorded = memory.recorded.as_ref();
    let past = recorded.and_then(|recorded| recorded.superseded.as_ref());
    let bounded =
        memory.valid_to.is_some() || past.is_some() || times.valid_from > times.recorded_at;
    let new = db
        .prepare_cached(
            "INSERT INTO memory \
             (owner, name, kind, topic, text, importance, session, created_at, context, \
             valid_from, valid_to, recorded_at, superseded_by, superseded_at, superseded_from, \
             bounded, sealed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
             ON CONFLICT (owner, name) DO NOTHING",
        )?
        .execute(params![
            home.id,
            memory.id.as_str(),
            memory.kind.as_str(),
            topic,
            text,
            memory.importance,
            session,
            times.created_at.0,
            context,
            times.valid_from.0,
            memory.valid_to.map(|end| end.0),
            times.recorded_at.0,
            past.map(|past| past.by.as_str()),
            past.map(|past| past.at.0),
            past.map(|past| past.from.0),
            bounded,
            sealed
        ])?;
    if new > 0 {
        let id = db.last_insert_rowid();
        index(db, home.id, id, &home.words(db)?, &memory.searched())?;
        let mut supersede = db.prepare_cached(
            "UPDATE memory SET superseded_by = ?3, superseded_at = ?4, superseded_from = ?5, \
             bounded = 1 WHERE owner = ?1 AND name = ?2 AND superseded_at IS NULL AND id <> ?6",
        )?;
        for old in &memory.supersedes {
            supersede.execute(params![
                home.id,
                old.as_str(),
                memory.id.as_str(),
                times.recorded_at.0,
                times.valid_from.0,
                id
            ])?;
        }
    }
    Ok(new > 0)
}

fn index(
    connection: &Connection,
    owner: i64,
    memory: i64,
    words: &Words,
    texts: &[&str; 3],
) -> rusqlite::Result<()> {
    let document = words.document(texts);
    postings::add(connection, owner, memory, &document)?;
    count(connection, owner, 1, i64::from(document.length))
}

/// Removes a memory and its words; says whether there was one.
fn delete(db: &Db<'_>, home: &Home, name: &str) -> Result<bool, Failure> {
    let row = db
        .prepare_cached(concat!(
            "SELECT ",
            columns!(),
            ", id FROM memory WHERE owner = ?1 AND name = ?2"
        ))?
        .query_row(params![home.id, name], |row| {
            Ok((Stored::read(row, 0)?, row.get::<_, i64>(12)?))
        })
        .optional()?;
    let Some((mut stored, id)) = row else {
        return Ok(false);
    };
    // The words are found again the way they were found first: an index by memory would cost
    // more on every write than this on a rare deletion.
    let length = match stored.open(&home.owner, &home.texts) {
        Ok(texts) => {
            let document = home
                .words(db)?
                .document(&texts.each_ref().map(String::as_str));
            postings::remove(db, home.id, id, &document)?;
            document.length
        }
        // What does not open can still be got rid of.
        Err(error) if sealed_row(&error).is_some() => postings::purge(db, home.id, id)?,
        Err(error) => return Err(error.into()),
    };
    db.prepare_cached("DELETE FROM memory WHERE id = ?1")?
        .execute([id])?;
    count(db, home.id, -1, -i64::from(length))?;
    vectors::after_deletion(db)?;
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
pub(crate) fn rebuild(db: &Db<'_>) -> Result<(), Failure> {
    db.execute_batch("DELETE FROM posting")?;
    let mut owners = db.prepare("SELECT id, tenant, user, agent FROM owner")?;
    let mut rows = owners.query([])?;
    while let Some(row) = rows.next()? {
        let owner = Owner {
            tenant: row.get(1)?,
            user: row.get(2)?,
            agent: row.get(3)?,
        };
        let texts = db.texts(&owner.tenant)?;
        let id = row.get(0)?;
        rebuild_owner(db, &Home { id, owner, texts })?;
    }
    Ok(())
}

/// Makes the index of an owner's words anew. A memory that does not open is left out of it.
pub(crate) fn rebuild_owner(db: &Db<'_>, home: &Home) -> Result<(), Failure> {
    db.execute("DELETE FROM posting WHERE owner = ?1", [home.id])?;
    db.execute(
        "UPDATE owner SET documents = 0, total_length = 0 WHERE id = ?1",
        [home.id],
    )?;
    let words = home.words(db)?;
    each(db, home, |id, opened| {
        match opened {
            Ok(texts) => {
                let texts = texts.each_ref().map(String::as_str);
                index(db, home.id, id, &words, &texts)?;
            }
            Err(error) if sealed_row(&error).is_some() => {
                tracing::error!(%error, "a memory is left out of the index: it does not open");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    })
}

/// Reads the texts of all memories of an owner, in the order of their storing.
pub(crate) fn each(
    db: &Db<'_>,
    home: &Home,
    mut then: impl FnMut(i64, rusqlite::Result<[String; 3]>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut all = db.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        ", id FROM memory WHERE owner = ?1 ORDER BY id"
    ))?;
    let mut rows = all.query([home.id])?;
    while let Some(row) = rows.next()? {
        let mut stored = Stored::read(row, 0)?;
        let opened = stored.open(&home.owner, &home.texts);
        then(row.get(12)?, opened)?;
    }
    Ok(())
}

fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, error.into())
}

fn record(row: &Row<'_>, owner: &Owner, texts: &Texts) -> rusqlite::Result<MemoryRecord> {
    let mut stored = Stored::read(row, 0)?;
    let [topic, text, context] = stored.open(owner, texts)?;
    let superseded = match row.get::<_, Option<i64>>(13)? {
        Some(at) => Some(Superseded {
            by: id_at(row, 12, MemoryId::new)?,
            at: Timestamp(at),
            from: Timestamp(row.get(14)?),
        }),
        None => None,
    };
    Ok(MemoryRecord {
        id: MemoryId::new(stored.name).map_err(damaged)?,
        kind: stored.kind.parse::<MemoryKind>().map_err(damaged)?,
        topic,
        text,
        context,
        importance: stored.importance,
        session: stored
            .session
            .map(SessionId::new)
            .transpose()
            .map_err(damaged)?,
        created_at: stored.times.created_at,
        valid_from: stored.times.valid_from,
        valid_to: stored.valid_to,
        recorded_at: stored.times.recorded_at,
        superseded,
    })
}

/// A page of the owner's memories, of those that held at a point where one is given.
fn list(
    db: &Db<'_>,
    owner: &Owner,
    as_of: Option<AsOf>,
    (age, name): (i64, &str),
    limit: i64,
) -> Result<Vec<MemoryRecord>, Failure> {
    let texts = db.texts(&owner.tenant)?;
    let Owner {
        tenant,
        user,
        agent,
    } = owner;
    let read = |row: &Row<'_>| record(row, owner, &texts);
    let records = match as_of {
        None => db
            .prepare_cached(LIST)?
            .query_map(params![tenant, user, agent, age, name, limit], read)?
            .collect::<rusqlite::Result<_>>(),
        Some(AsOf { valid, known }) => db
            .prepare_cached(LIST_AS_OF)?
            .query_map(
                params![tenant, user, agent, age, name, limit, valid.0, known.0],
                read,
            )?
            .collect(),
    };
    Ok(records?)
}

fn cursor(after: Option<&MemoryCursor>) -> (i64, String) {
    match after {
        Some(cursor) => (cursor.created_at.0, cursor.id.to_string()),
        None => (i64::MAX, LAST_NAME.to_owned()),
    }
}

#[async_trait]
impl MemoryStore for SqliteStore {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        let (owner, memory) = (Owner::new(scope), memory.clone());
        let session = scope.session.clone();
        self.write("put_memory", move |db, now| {
            let home = owner.ensure(db)?;
            let session = session.as_ref().map(SessionId::as_str);
            insert(db, &home, session, &memory, now)
        })
        .await
    }

    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError> {
        let all = self.get_many(scope, std::slice::from_ref(id)).await?;
        Ok(all.into_iter().next())
    }

    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let (owner, ids) = (Owner::new(scope), ids.to_vec());
        self.read("get_memories", move |db| {
            let texts = db.texts(&owner.tenant)?;
            let Owner {
                tenant,
                user,
                agent,
            } = &owner;
            let ids: BTreeSet<&str> = ids.iter().map(MemoryId::as_str).collect();
            let mut get = db.prepare_cached(GET)?;
            let mut found = Vec::new();
            for id in ids {
                let row = get.query_row(params![tenant, user, agent, id], |row| {
                    record(row, &owner, &texts)
                });
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
        let now = AsOf::at(self.now());
        self.read("search", move |db| {
            search(db, &owner, (PAST, now), &query, limit)
        })
        .await
    }

    async fn search_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        let (owner, query) = (Owner::new(scope), query.to_owned());
        self.read("search_as_of", move |db| {
            search(db, &owner, (ABSENT, as_of), &query, limit)
        })
        .await
    }

    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<Beside>, StoreError> {
        let (owner, ids, now) = (Owner::new(scope), ids.to_vec(), self.now());
        self.read("beside", move |db| beside(db, &owner, &ids, now))
            .await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let (owner, (age, name)) = (Owner::new(scope), cursor(after));
        self.read("list_memories", move |db| {
            list(db, &owner, None, (age, &name), limit_of(limit))
        })
        .await
    }

    async fn list_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let (owner, (age, name)) = (Owner::new(scope), cursor(after));
        self.read("list_memories_as_of", move |db| {
            list(db, &owner, Some(as_of), (age, &name), limit_of(limit))
        })
        .await
    }

    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        let (owner, id) = (Owner::new(scope), id.clone());
        self.write("delete_memory", move |db, _| match owner.home(db)? {
            Some(home) => delete(db, &home, id.as_str()),
            None => Ok(false),
        })
        .await
    }
}
