//! The memory port: rows, the index of their words, and the search over it.
//!
//! How words are found and weighed is `lyceum_memory::lexical`, the same for every store, instead
//! of the server's text search: that one counts words over all tenants, so one tenant's words
//! would cost another's search its time, and it knows no Chinese words. A search asks for the
//! newest memories of each word, up to a bound; words that more memories hold decide only where
//! a query has no others.

mod search;
mod statements;

use std::{borrow::Cow, collections::HashMap};

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};
use lyceum_memory::{
    AsOf, Beside, MemoryCursor, MemoryId, MemoryKind, MemoryRecord, MemoryStore, NewMemory,
    Recollection, StoreError, Superseded, Times, Timestamp, lexical::Document,
};
use lyceum_vault::{OpenedKeys, Texts};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    connection::{Begun, Param, Session},
    error::Failure,
    memory_row::{COLUMNS, Said, Stored},
    pool::Held,
    row::{id, limit_of, time},
    scope::{Home, Owner},
    sealing::{to_change, to_write},
    text::stored,
    words::{self, Words},
};

use search::{Query, search};
pub(crate) use statements::{BESIDE, GET_MANY, LIST, LIST_AFTER, holds};
use statements::{DELETE, GET, INSERT, LIST_AS_OF, SUPERSEDE};

/// Above every name, because names are ASCII.
const LAST_NAME: &str = "\u{7f}";

/// The columns of a memory's texts.
struct Kept<'a> {
    clear: [Cow<'a, str>; 3],
    sealed: Option<Vec<u8>>,
}

impl<'a> Kept<'a> {
    fn new(
        home: Home<'_>,
        origin: Option<&str>,
        memory: &'a NewMemory,
        times: Times,
    ) -> Result<Self, Failure> {
        let said = Said {
            name: memory.id.as_str(),
            kind: memory.kind.as_str(),
            importance: memory.importance,
            session: origin,
            times,
            valid_to: memory.valid_to,
        };
        let texts = [&*memory.topic, &memory.text, &memory.context];
        let sealed = said.at(home.owner, |at| home.texts.seal(at, &texts))?;
        let clear = match sealed {
            Some(_) => [const { Cow::Borrowed("") }; 3],
            None => texts.map(stored),
        };
        Ok(Self { clear, sealed })
    }
}

/// Stores the memories whose ids the owner does not have, and says how many those were; inside
/// a transaction.
pub(crate) async fn insert(
    session: &Session,
    home: Home<'_>,
    origin: Option<&str>,
    memories: &[NewMemory],
    now: i64,
) -> Result<usize, Failure> {
    if memories.is_empty() {
        return Ok(0);
    }
    let (tenant, owner) = (home.owner.tenant, home.id);
    let names: Vec<&str> = memories.iter().map(|memory| memory.id.as_str()).collect();
    let kinds: Vec<&str> = memories.iter().map(|memory| memory.kind.as_str()).collect();
    let importance: Vec<f32> = memories.iter().map(|memory| memory.importance).collect();
    let (mut topics, mut texts, mut contexts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut created, mut recorded) = (Vec::new(), Vec::new());
    let (mut from, mut seals) = (Vec::new(), Vec::new());
    for memory in memories {
        let times = memory.times(Timestamp(now));
        let Kept { clear, sealed } = Kept::new(home, origin, memory, times)?;
        let [topic, text, context] = clear;
        topics.push(topic);
        texts.push(text);
        contexts.push(context);
        created.push(times.created_at.0);
        recorded.push(times.recorded_at.0);
        from.push(times.valid_from.0);
        seals.push(sealed);
    }
    let to: Vec<Option<i64>> = memories
        .iter()
        .map(|memory| memory.valid_to.map(|at| at.0))
        .collect();
    let past = |one: &NewMemory| one.recorded.as_ref()?.superseded.clone();
    let past: Vec<Option<Superseded>> = memories.iter().map(past).collect();
    let past_by: Vec<Option<&str>> = past
        .iter()
        .map(|past| past.as_ref().map(|past| past.by.as_str()))
        .collect();
    let past_time = |of: fn(&Superseded) -> Timestamp| -> Vec<Option<i64>> {
        past.iter()
            .map(|past| past.as_ref().map(|past| of(past).0))
            .collect()
    };
    let (past_at, past_from) = (past_time(|past| past.at), past_time(|past| past.from));
    let params: [Param<'_>; 17] = [
        &tenant,
        &owner,
        &origin,
        &names,
        &kinds,
        &topics,
        &texts,
        &importance,
        &created,
        &contexts,
        &from,
        &to,
        &recorded,
        &past_by,
        &past_at,
        &past_from,
        &seals,
    ];
    let rows = session.query(INSERT, &params).await?;
    let mut first: HashMap<&str, &NewMemory> = HashMap::new();
    for memory in memories {
        first.entry(memory.id.as_str()).or_insert(memory);
    }
    let mut words = Words::default();
    for row in &rows {
        let (id, name): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(memory) = first.get(name) {
            words.add(id, Document::new(&memory.searched()));
            if !memory.supersedes.is_empty() {
                let old: Vec<&str> = memory.supersedes.iter().map(MemoryId::as_str).collect();
                session.execute(SUPERSEDE, &[&owner, &name, &old]).await?;
            }
        }
    }
    words.store(session, home.texts, owner).await?;
    Ok(rows.len())
}

/// Removes a memory and its words; says whether there was one.
async fn delete(
    session: &Session,
    keys: &OpenedKeys,
    owner: Owner<'_>,
    name: &str,
    begun: Begun,
) -> Result<bool, Failure> {
    let texts = to_change(keys, owner.tenant, begun)?;
    let Owner {
        tenant,
        user,
        agent,
    } = owner;
    let Some(row) = session
        .query_opt(DELETE, &[&tenant, &user, &agent, &name])
        .await?
    else {
        return Ok(false);
    };
    let (id, of): (i64, i64) = (row.try_get(COLUMNS)?, row.try_get(COLUMNS + 1)?);
    // The words are found again the way they were found first: an index by memory would cost
    // more on every write than this on a rare deletion. What does not open can still be got rid of.
    let opened = Stored::read(&row)?.open(owner, &texts).ok();
    let document = opened.map(|texts| Document::new(&texts.each_ref().map(String::as_str)));
    words::remove(session, &texts, of, id, document).await?;
    Ok(true)
}

/// A memory of a row as it is found.
fn recollection(
    row: &Row,
    owner: Owner<'_>,
    texts: &Texts,
    score: f64,
) -> Result<Recollection, Failure> {
    let mut stored = Stored::read(row)?;
    let [topic, text, _] = stored.open(owner, texts)?;
    Ok(Recollection {
        id: MemoryId::new(stored.name).map_err(Failure::corrupt)?,
        topic,
        text,
        score,
        created_at: stored.times.created_at,
        importance: stored.importance,
    })
}

fn record(row: &Row, owner: Owner<'_>, texts: &Texts) -> Result<MemoryRecord, Failure> {
    let mut stored = Stored::read(row)?;
    let [topic, text, context] = stored.open(owner, texts)?;
    let session = stored.session.map(SessionId::new).transpose();
    Ok(MemoryRecord {
        id: MemoryId::new(stored.name).map_err(Failure::corrupt)?,
        kind: stored
            .kind
            .parse::<MemoryKind>()
            .map_err(Failure::corrupt)?,
        topic,
        text,
        importance: stored.importance,
        session: session.map_err(Failure::corrupt)?,
        created_at: stored.times.created_at,
        context,
        valid_from: stored.times.valid_from,
        valid_to: stored.valid_to,
        recorded_at: stored.times.recorded_at,
        superseded: match row.try_get::<_, Option<i64>>(COLUMNS + 1)? {
            None => None,
            Some(at) => Some(Superseded {
                by: id(row, COLUMNS, MemoryId::new)?,
                at: Timestamp(at),
                from: time(row, COLUMNS + 2)?,
            }),
        },
    })
}

impl PostgresStore {
    /// The memories of rows that are of one owner.
    async fn records(
        &self,
        session: &Session,
        owner: Owner<'_>,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<MemoryRecord>, Failure> {
        let (texts, rows) = self.rows(session, owner.tenant, sql, params).await?;
        rows.iter().map(|row| record(row, owner, &texts)).collect()
    }
}

#[async_trait]
impl MemoryStore for PostgresStore {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        let owner = Owner::new(scope);
        let origin = scope.session.as_ref().map(SessionId::as_str);
        self.call("put_memory", |session: Held| async move {
            let work = async |begun: Begun| {
                let now = begun.now;
                let texts = to_write(self.keys(), owner.tenant, begun)?;
                let home = owner.ensure(&session, &texts).await?;
                let memories = std::slice::from_ref(memory);
                Ok(insert(&session, home, origin, memories, now).await? > 0)
            };
            session.write(owner.whose(), work).await
        })
        .await
    }

    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError> {
        let owner = Owner::new(scope);
        self.call("get_memory", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let params: [Param<'_>; 4] = [&tenant, &user, &agent, &id.as_str()];
            let found = self.records(&session, owner, GET, &params).await?;
            Ok(found.into_iter().next())
        })
        .await
    }

    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let owner = Owner::new(scope);
        let names: Vec<&str> = ids.iter().map(MemoryId::as_str).collect();
        let names = &names;
        self.call("get_memories", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let params: [Param<'_>; 4] = [&tenant, &user, &agent, names];
            self.records(&session, owner, GET_MANY, &params).await
        })
        .await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        let owner = Owner::new(scope);
        self.call("search", |session: Held| async move {
            let query = Query {
                owner,
                as_of: None,
                text: query,
                limit,
            };
            search(self, &session, query).await
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
        let owner = Owner::new(scope);
        self.call("search_as_of", |session: Held| async move {
            let query = Query {
                owner,
                as_of: Some(as_of),
                text: query,
                limit,
            };
            search(self, &session, query).await
        })
        .await
    }

    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<Beside>, StoreError> {
        let owner = Owner::new(scope);
        let names: Vec<&str> = ids.iter().map(MemoryId::as_str).collect();
        let names = &names;
        self.call("beside", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let params: [Param<'_>; 4] = [&tenant, &user, &agent, names];
            let (texts, rows) = self.rows(&session, tenant, BESIDE, &params).await?;
            let beside = |row: &Row| {
                Ok(Beside {
                    of: id(row, COLUMNS, MemoryId::new)?,
                    memory: recollection(row, owner, &texts, 0.0)?,
                })
            };
            rows.iter().map(beside).collect()
        })
        .await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let (owner, limit) = (Owner::new(scope), limit_of(limit));
        self.call("list_memories", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            match after {
                None => {
                    let params: [Param<'_>; 4] = [&tenant, &user, &agent, &limit];
                    self.records(&session, owner, LIST, &params).await
                }
                Some(MemoryCursor { created_at, id }) => {
                    let (age, name) = (created_at.0, id.as_str());
                    let params: [Param<'_>; 6] = [&tenant, &user, &agent, &limit, &age, &name];
                    self.records(&session, owner, LIST_AFTER, &params).await
                }
            }
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
        let (owner, limit) = (Owner::new(scope), limit_of(limit));
        let (age, name) = match after {
            Some(MemoryCursor { created_at, id }) => (created_at.0, id.as_str()),
            None => (i64::MAX, LAST_NAME),
        };
        self.call("list_memories_as_of", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let AsOf { valid, known } = as_of;
            let params: [Param<'_>; 8] = [
                &tenant, &user, &agent, &limit, &age, &name, &valid.0, &known.0,
            ];
            self.records(&session, owner, LIST_AS_OF, &params).await
        })
        .await
    }

    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        let owner = Owner::new(scope);
        self.call("delete_memory", |session: Held| async move {
            let work = |begun| delete(&session, self.keys(), owner, id.as_str(), begun);
            session.write(owner.whose(), work).await
        })
        .await
    }
}
