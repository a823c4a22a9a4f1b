//! The memory port: rows, the index of their words, and the search over it.
//!
//! How words are found and weighed is `lyceum_memory::lexical`, the same for every store, instead
//! of the server's text search: that one counts words over all tenants, so one tenant's words
//! would cost another's search its time, and it knows no Chinese words. A search asks for the
//! newest memories of each word, up to a bound; words that more memories hold decide only where
//! a query has no others.

mod statements;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};
use lyceum_memory::{
    AsOf, Beside, MemoryCursor, MemoryId, MemoryKind, MemoryRecord, MemoryStore, NewMemory,
    Recollection, StoreError, Superseded, Timestamp,
    lexical::{Corpus, Document, query_terms},
};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    error::Failure,
    pool::{Held, Param, Session},
    row::{id, limit_of, text, time, unsigned},
    scope::Owner,
    text::stored,
    words::{self, COMMON, COMMON_SHARE, POSTINGS, POSTINGS_AS_OF, Words, postings},
};

pub(crate) use statements::{BESIDE, GET_MANY, LIST, LIST_AFTER, holds};
use statements::{DELETE, FOUND, GET, INSERT, LIST_AS_OF, SUPERSEDE};

/// How many memories of equal score are looked at beyond the limit, to put the newest first.
const TIES: usize = 100;

/// Above every name, because names are ASCII.
const LAST_NAME: &str = "\u{7f}";

/// Stores the memories whose ids the owner does not have, and says how many those were; inside
/// a transaction. The owner's row is locked last of all, and only shortly.
pub(crate) async fn insert(
    session: &Session,
    tenant: &str,
    owner: i64,
    origin: Option<&str>,
    memories: &[NewMemory],
) -> Result<usize, Failure> {
    if memories.is_empty() {
        return Ok(0);
    }
    let names: Vec<&str> = memories.iter().map(|memory| memory.id.as_str()).collect();
    let kinds: Vec<&str> = memories.iter().map(|memory| memory.kind.as_str()).collect();
    let topics: Vec<Cow<'_, str>> = memories
        .iter()
        .map(|memory| stored(&memory.topic))
        .collect();
    let texts: Vec<Cow<'_, str>> = memories.iter().map(|memory| stored(&memory.text)).collect();
    let importance: Vec<f32> = memories.iter().map(|memory| memory.importance).collect();
    let times: Vec<Option<i64>> = memories
        .iter()
        .map(|memory| memory.created_at.map(|at| at.0))
        .collect();
    let contexts: Vec<Cow<'_, str>> = memories
        .iter()
        .map(|memory| stored(&memory.context))
        .collect();
    let time = |of: fn(&NewMemory) -> Option<Timestamp>| -> Vec<Option<i64>> {
        memories.iter().map(|one| of(one).map(|at| at.0)).collect()
    };
    let past = |one: &NewMemory| one.recorded.as_ref()?.superseded.clone();
    let (from, to) = (time(|one| one.valid_from), time(|one| one.valid_to));
    let recorded = time(|one| one.recorded.as_ref().map(|recorded| recorded.at));
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
    let params: [Param<'_>; 16] = [
        &tenant,
        &owner,
        &origin,
        &names,
        &kinds,
        &topics,
        &texts,
        &importance,
        &times,
        &contexts,
        &from,
        &to,
        &recorded,
        &past_by,
        &past_at,
        &past_from,
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
    words.store(session, tenant, owner).await?;
    Ok(rows.len())
}

/// Removes a memory and its words; says whether there was one.
async fn delete(session: &Session, owner: Owner<'_>, name: &str) -> Result<bool, Failure> {
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
    let (id, owner): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let document = Document::new(&[&text(&row, 2)?, &text(&row, 3)?, &text(&row, 4)?]);
    // The words are found again the way they were found first: an index by memory would cost
    // more on every write than this on a rare deletion.
    words::remove(session, owner, id, &document).await?;
    Ok(true)
}

async fn search(
    session: &Session,
    owner: Owner<'_>,
    as_of: Option<AsOf>,
    query: &str,
    limit: usize,
) -> Result<Vec<Recollection>, Failure> {
    let Owner {
        tenant,
        user,
        agent,
    } = owner;
    let terms = query_terms(query);
    if terms.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    let mut params: Vec<Param<'_>> = vec![&tenant, &user, &agent, &terms, &COMMON, &COMMON_SHARE];
    let sql = match &as_of {
        None => POSTINGS,
        Some(AsOf { valid, known }) => {
            params.extend([&valid.0 as Param<'_>, &known.0]);
            POSTINGS_AS_OF
        }
    };
    let rows = session.ask(owner.whose(), sql, &params).await?;
    let Some(any) = rows.first() else {
        return Ok(Vec::new());
    };
    let corpus = Corpus {
        documents: unsigned(any.try_get(0)?),
        total_length: unsigned(any.try_get(1)?),
    };
    let (mut telling, mut common) = (Vec::new(), Vec::new());
    // The first row says which do not hold.
    let absent: Option<Vec<i64>> = any.try_get(5)?;
    let absent: HashSet<i64> = absent.into_iter().flatten().collect();
    for row in &rows {
        let (mut postings, are_all) = postings(row)?;
        if !absent.is_empty() {
            postings.retain(|posting| !absent.contains(&posting.document));
        }
        let list = if are_all { &mut telling } else { &mut common };
        if !postings.is_empty() {
            list.push(postings);
        }
    }
    // Words that many memories hold tell little; they decide only where there are no others.
    let scores = corpus.rank(if telling.is_empty() { common } else { telling }, limit);
    let (ids, scores): (Vec<i64>, Vec<f64>) = scores.best(limit, TIES).into_iter().unzip();
    let limit = limit_of(limit);
    let params: [Param<'_>; 6] = [&tenant, &user, &agent, &ids, &scores, &limit];
    let rows = session.ask(owner.whose(), FOUND, &params).await?;
    let recollection = |row: &Row| {
        Ok(Recollection {
            id: id(row, 0, MemoryId::new)?,
            topic: text(row, 1)?,
            text: text(row, 2)?,
            score: row.try_get(3)?,
            created_at: time(row, 4)?,
            importance: row.try_get(5)?,
        })
    };
    rows.iter().map(recollection).collect()
}

fn record(row: &Row) -> Result<MemoryRecord, Failure> {
    let kind: &str = row.try_get(1)?;
    let session: Option<String> = row.try_get(5)?;
    Ok(MemoryRecord {
        id: id(row, 0, MemoryId::new)?,
        kind: kind.parse::<MemoryKind>().map_err(Failure::corrupt)?,
        topic: text(row, 2)?,
        text: text(row, 3)?,
        importance: row.try_get(4)?,
        session: session
            .map(SessionId::new)
            .transpose()
            .map_err(Failure::corrupt)?,
        created_at: time(row, 6)?,
        context: text(row, 7)?,
        valid_from: time(row, 8)?,
        valid_to: row.try_get::<_, Option<i64>>(9)?.map(Timestamp),
        recorded_at: time(row, 10)?,
        superseded: match row.try_get::<_, Option<i64>>(12)? {
            None => None,
            Some(at) => Some(Superseded {
                by: id(row, 11, MemoryId::new)?,
                at: Timestamp(at),
                from: time(row, 13)?,
            }),
        },
    })
}

#[async_trait]
impl MemoryStore for PostgresStore {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        let owner = Owner::new(scope);
        let origin = scope.session.as_ref().map(SessionId::as_str);
        self.call("put_memory", |session: Held| async move {
            let work = async {
                let row = owner.ensure(&session).await?;
                let memories = std::slice::from_ref(memory);
                let new = insert(&session, owner.tenant, row, origin, memories).await?;
                Ok(new > 0)
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
            let rows = session.ask(owner.whose(), GET, &params).await?;
            rows.first().map(record).transpose()
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
            let rows = session.ask(owner.whose(), GET_MANY, &params).await?;
            rows.iter().map(record).collect()
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
            search(&session, owner, None, query, limit).await
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
            search(&session, owner, Some(as_of), query, limit).await
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
            let rows = session.ask(owner.whose(), BESIDE, &params).await?;
            let beside = |row: &Row| {
                Ok(Beside {
                    of: id(row, 5, MemoryId::new)?,
                    memory: Recollection {
                        id: id(row, 0, MemoryId::new)?,
                        topic: text(row, 1)?,
                        text: text(row, 2)?,
                        score: 0.0,
                        importance: row.try_get(3)?,
                        created_at: time(row, 4)?,
                    },
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
            let rows = match after {
                None => {
                    session
                        .ask(owner.whose(), LIST, &[&tenant, &user, &agent, &limit])
                        .await?
                }
                Some(MemoryCursor { created_at, id }) => {
                    let (age, name) = (created_at.0, id.as_str());
                    let params: [Param<'_>; 6] = [&tenant, &user, &agent, &limit, &age, &name];
                    session.ask(owner.whose(), LIST_AFTER, &params).await?
                }
            };
            rows.iter().map(record).collect()
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
            let rows = session.ask(owner.whose(), LIST_AS_OF, &params).await?;
            rows.iter().map(record).collect()
        })
        .await
    }

    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        let owner = Owner::new(scope);
        self.call("delete_memory", |session: Held| async move {
            session
                .write(owner.whose(), delete(&session, owner, id.as_str()))
                .await
        })
        .await
    }
}
