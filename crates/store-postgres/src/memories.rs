//! The memory port: rows, the index of their words, and the search over it.
//!
//! How words are found and weighed is `lyceum_memory::lexical`, the same for every store, instead
//! of the server's text search: that one counts words over all tenants, so one tenant's words
//! would cost another's search its time, and it knows no Chinese words. A search asks for the
//! newest memories of each word, up to a bound; words that more memories hold decide only where
//! a query has no others.

use std::{borrow::Cow, collections::HashMap};

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};
use lyceum_memory::{
    MemoryCursor, MemoryId, MemoryKind, MemoryRecord, MemoryStore, NewMemory, Recollection,
    StoreError,
    lexical::{Corpus, Document, Posting, query_terms},
};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    error::Failure,
    pool::{Held, Param, Session},
    row::{id, limit_of, text, time, unsigned},
    scope::Owner,
    text::stored,
};

/// How many memories of equal score are looked at beyond the limit, to put the newest first.
const TIES: usize = 100;

/// A term is common when more memories of its owner hold it than this …
const COMMON: i64 = 1_024;
/// … and more than one in so many: BM25 then gives it at most a fifth of a rare term's weight.
const COMMON_SHARE: i64 = 8;

macro_rules! memory {
    ($which:literal) => {
        concat!(
            "SELECT name, kind, topic, text, importance, session, created_at FROM lyceum.memory \
            WHERE owner = (SELECT id FROM lyceum.owner \
                WHERE tenant = $1 AND user_id = $2 AND agent = $3) ",
            $which
        )
    };
}

const GET: &str = memory!("AND name = $4");

/// The newest memories; [`LIST_AFTER`] is the page after a cursor.
pub(crate) const LIST: &str = memory!("ORDER BY created_at DESC, name DESC LIMIT $4");

pub(crate) const LIST_AFTER: &str =
    memory!("AND (created_at, name) < ($5, $6) ORDER BY created_at DESC, name DESC LIMIT $4");

/// The first of several of one id is stored, and those that are there already stay.
const INSERT: &str = "\
    INSERT INTO lyceum.memory \
        (tenant, owner, name, kind, topic, text, importance, session, created_at) \
    SELECT $1, $2, m.name, m.kind, m.topic, m.text, m.importance, $3, \
        coalesce(m.created_at, clock.now) \
    FROM (SELECT lyceum.now_ms() AS now) clock, \
        unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::real[], $9::bigint[]) \
        AS m (name, kind, topic, text, importance, created_at) \
    ON CONFLICT (owner, name) DO NOTHING RETURNING id, name";

const INDEX: &str = "\
    INSERT INTO lyceum.posting (tenant, owner, term, memory, count, length) \
    SELECT $1, $2, p.term, p.memory, p.count, p.length \
    FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) \
        AS p (term, memory, count, length)";

const COUNT: &str = "\
    UPDATE lyceum.owner SET documents = documents + $2, total_length = total_length + $3 \
    WHERE id = $1";

const DELETE: &str = "\
    DELETE FROM lyceum.memory m USING lyceum.owner o \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 AND m.owner = o.id AND m.name = $4 \
    RETURNING m.id, m.owner, m.topic, m.text";

/// The words are found again the way they were found first: an index by memory would cost more
/// on every write than this on a rare deletion.
const UNINDEX: &str =
    "DELETE FROM lyceum.posting WHERE owner = $1 AND term = ANY ($2) AND memory = $3";

/// For each word the memories that hold it, the newest first, one more than the bound at most.
pub(crate) const POSTINGS: &str = "\
    SELECT o.documents, o.total_length, p.memories, p.counts, p.lengths \
    FROM lyceum.owner o CROSS JOIN unnest($4::text[]) AS asked (term) \
    CROSS JOIN LATERAL ( \
        SELECT array_agg(memory) AS memories, array_agg(count) AS counts, \
            array_agg(length) AS lengths \
        FROM (SELECT memory, count, length FROM lyceum.posting \
            WHERE owner = o.id AND term = asked.term ORDER BY memory DESC \
            LIMIT greatest($5, o.documents / $6) + 1) newest \
    ) p \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 AND p.memories IS NOT NULL";

const FOUND: &str = "\
    SELECT m.name, m.topic, m.text, f.score, m.created_at \
    FROM unnest($4::bigint[], $5::float8[]) AS f (id, score) \
    JOIN lyceum.memory m ON m.id = f.id JOIN lyceum.owner o ON o.id = m.owner \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 \
    ORDER BY f.score DESC, m.created_at DESC, m.name LIMIT $6";

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
    let params: [Param<'_>; 9] = [
        &tenant,
        &owner,
        &origin,
        &names,
        &kinds,
        &topics,
        &texts,
        &importance,
        &times,
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
            words.add(id, Document::new(&[&memory.topic, &memory.text]));
        }
    }
    words.store(session, tenant, owner).await?;
    Ok(rows.len())
}

/// The words of new memories, as columns.
#[derive(Default)]
struct Words {
    terms: Vec<String>,
    memories: Vec<i64>,
    counts: Vec<i64>,
    lengths: Vec<i64>,
    documents: i64,
    total_length: i64,
}

impl Words {
    fn add(&mut self, memory: i64, document: Document) {
        let length = i64::from(document.length);
        self.documents += 1;
        self.total_length += length;
        for (term, count) in document.terms {
            self.terms.push(term);
            self.memories.push(memory);
            self.counts.push(i64::from(count));
            self.lengths.push(length);
        }
    }

    async fn store(&self, session: &Session, tenant: &str, owner: i64) -> Result<(), Failure> {
        if !self.terms.is_empty() {
            let Self {
                terms,
                memories,
                counts,
                lengths,
                ..
            } = self;
            let params: [Param<'_>; 6] = [&tenant, &owner, terms, memories, counts, lengths];
            session.execute(INDEX, &params).await?;
        }
        if self.documents > 0 {
            let params: [Param<'_>; 3] = [&owner, &self.documents, &self.total_length];
            session.execute(COUNT, &params).await?;
        }
        Ok(())
    }
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
    let document = Document::new(&[&text(&row, 2)?, &text(&row, 3)?]);
    let terms: Vec<&String> = document.terms.keys().collect();
    session.execute(UNINDEX, &[&owner, &terms, &id]).await?;
    let length = -i64::from(document.length);
    session.execute(COUNT, &[&owner, &-1_i64, &length]).await?;
    Ok(true)
}

/// The postings of a word that the owner's memories hold, and whether they are all.
fn postings(row: &Row) -> Result<(Vec<Posting>, bool), Failure> {
    let documents: i64 = row.try_get(0)?;
    let memories: Vec<i64> = row.try_get(2)?;
    let counts: Vec<i64> = row.try_get(3)?;
    let lengths: Vec<i64> = row.try_get(4)?;
    let are_all = memories.len() as i64 <= COMMON.max(documents / COMMON_SHARE);
    let numbers = memories.into_iter().zip(counts).zip(lengths);
    let posting = |((document, count), length)| {
        Ok(Posting {
            document,
            count: u32::try_from(count).map_err(Failure::corrupt)?,
            length: u32::try_from(length).map_err(Failure::corrupt)?,
        })
    };
    Ok((
        numbers.map(posting).collect::<Result<_, Failure>>()?,
        are_all,
    ))
}

async fn search(
    session: &Session,
    owner: Owner<'_>,
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
    let params: [Param<'_>; 6] = [&tenant, &user, &agent, &terms, &COMMON, &COMMON_SHARE];
    let rows = session.ask(owner.whose(), POSTINGS, &params).await?;
    let Some(any) = rows.first() else {
        return Ok(Vec::new());
    };
    let corpus = Corpus {
        documents: unsigned(any.try_get(0)?),
        total_length: unsigned(any.try_get(1)?),
    };
    let (mut telling, mut common) = (Vec::new(), Vec::new());
    for row in &rows {
        match postings(row)? {
            (postings, true) => telling.push(postings),
            (postings, false) => common.push(postings),
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

    async fn search(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        let owner = Owner::new(scope);
        self.call("search", |session: Held| async move {
            search(&session, owner, query, limit).await
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
