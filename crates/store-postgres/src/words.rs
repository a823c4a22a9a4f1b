//! The index of words: for each owner and term the memories that hold it.
//!
//! Invariant: a memory's words are those that this version of the rules finds; an index that other
//! rules made is made anew before the store is used.

use lyceum_memory::lexical::{self, Document, Posting};
use tokio_postgres::Row;

use crate::{
    error::Failure,
    memories::holds,
    pool::{Param, Session, Whose},
    row::text,
};

const INDEX: &str = "\
    INSERT INTO lyceum.posting (tenant, owner, term, memory, count, length) \
    SELECT $1, $2, p.term, p.memory, p.count, p.length \
    FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) \
        AS p (term, memory, count, length)";

const COUNT: &str = "\
    UPDATE lyceum.owner SET documents = documents + $2, total_length = total_length + $3 \
    WHERE id = $1";

const UNINDEX: &str =
    "DELETE FROM lyceum.posting WHERE owner = $1 AND term = ANY ($2) AND memory = $3";

/// For each word the memories that hold it, the newest first, one more than the bound at most;
/// and in the first row those of the owner's memories that do not hold at a point.
macro_rules! postings {
    ($absent:expr) => {
        concat!(
            "SELECT o.documents, o.total_length, p.memories, p.counts, p.lengths, \
                CASE WHEN row_number() OVER () = 1 THEN (SELECT array_agg(m.id) \
                    FROM lyceum.memory m WHERE m.owner = o.id AND ",
            $absent,
            ") END \
            FROM lyceum.owner o CROSS JOIN unnest($4::text[]) AS asked (term) \
            CROSS JOIN LATERAL ( \
                SELECT array_agg(memory) AS memories, array_agg(count) AS counts, \
                    array_agg(length) AS lengths \
                FROM (SELECT memory, count, length FROM lyceum.posting \
                    WHERE owner = o.id AND term = asked.term ORDER BY memory DESC \
                    LIMIT greatest($5, o.documents / $6) + 1) newest \
            ) p \
            WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 AND p.memories IS NOT NULL"
        )
    };
}

pub(crate) const POSTINGS: &str = postings!(concat!(
    "m.bounded AND NOT ",
    holds!("m.", "(SELECT lyceum.now_ms())", "(SELECT lyceum.now_ms())")
));

/// The same at another point than the present.
pub(crate) const POSTINGS_AS_OF: &str =
    postings!(concat!("NOT ", holds!("m.", "$7::bigint", "$8::bigint")));

/// A term is common when more memories of its owner hold it than this …
pub(crate) const COMMON: i64 = 1_024;
/// … and more than one in so many: BM25 then gives it at most a fifth of a rare term's weight.
pub(crate) const COMMON_SHARE: i64 = 8;

/// The words of new memories, as columns.
#[derive(Default)]
pub(crate) struct Words {
    terms: Vec<String>,
    memories: Vec<i64>,
    counts: Vec<i64>,
    lengths: Vec<i64>,
    documents: i64,
    total_length: i64,
}

impl Words {
    pub(crate) fn add(&mut self, memory: i64, document: Document) {
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

    pub(crate) async fn store(
        &self,
        session: &Session,
        tenant: &str,
        owner: i64,
    ) -> Result<(), Failure> {
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

/// The postings of a word that the owner's memories hold, and whether they are all.
pub(crate) fn postings(row: &Row) -> Result<(Vec<Posting>, bool), Failure> {
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

/// Removes a memory's words.
pub(crate) async fn remove(
    session: &Session,
    owner: i64,
    memory: i64,
    document: &Document,
) -> Result<(), Failure> {
    let terms: Vec<&String> = document.terms.keys().collect();
    session.execute(UNINDEX, &[&owner, &terms, &memory]).await?;
    let length = -i64::from(document.length);
    session.execute(COUNT, &[&owner, &-1_i64, &length]).await?;
    Ok(())
}

const VERSION: &str = "SELECT value FROM lyceum.setting WHERE key = 'lexical'";

/// Nobody stores a memory meanwhile; searches wait, as half an index would mislead them.
const EMPTY: &str = "\
    LOCK TABLE lyceum.memory IN SHARE MODE; TRUNCATE lyceum.posting; \
    UPDATE lyceum.owner SET documents = 0, total_length = 0;";

/// How many memories are read at a time, in the order of their owners.
const PAGE: i64 = 1_000;

const ALL: &str = "\
    SELECT id, owner, tenant, topic, text, context FROM lyceum.memory \
    WHERE (owner, id) > ($1, $2) ORDER BY owner, id LIMIT $3";

const UPDATE: &str = "\
    INSERT INTO lyceum.setting (key, value) VALUES ('lexical', $1) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// Makes the index anew where other rules made it, in one transaction.
pub(crate) async fn refresh(session: &Session) -> Result<(), Failure> {
    let wanted = lexical::VERSION.to_string();
    if version(session).await?.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let work = async {
        session.batch(EMPTY).await?;
        // Another process may have done it while this one waited for the lock.
        if version(session).await?.as_ref() == Some(&wanted) {
            return Err(Done::Already);
        }
        let mut after = (0_i64, 0_i64);
        loop {
            let rows = session.query(ALL, &[&after.0, &after.1, &PAGE]).await?;
            let Some(last) = rows.last() else { break };
            after = (last.try_get(1)?, last.try_get(0)?);
            for rows in rows.chunk_by(|a, b| a.get::<_, i64>(1) == b.get::<_, i64>(1)) {
                let mut words = Words::default();
                for row in rows {
                    let document = Document::new(&[&text(row, 3)?, &text(row, 4)?, &text(row, 5)?]);
                    words.add(row.try_get(0)?, document);
                }
                let owner: i64 = rows[0].try_get(1)?;
                words.store(session, rows[0].try_get(2)?, owner).await?;
            }
        }
        session.execute(UPDATE, &[&wanted]).await?;
        Ok(())
    };
    match session.write(Whose::Operator, work).await {
        Ok(()) => {
            tracing::info!(version = wanted, "the index of words was made anew");
            Ok(())
        }
        Err(Done::Already) => Ok(()),
        Err(Done::Failed(failure)) => Err(failure),
    }
}

/// Why a rebuild ended early; either way it is undone.
enum Done {
    Already,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Done {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn version(session: &Session) -> Result<Option<String>, Failure> {
    let row = session.query_opt(VERSION, &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
