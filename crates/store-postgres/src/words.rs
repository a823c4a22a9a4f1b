//! The index of words: for each owner and term the memories that hold it.
//!
//! Invariant: a memory's words are those that this version of the rules finds; an index that other
//! rules made is made anew before the store is used.

use std::collections::HashMap;

use lyceum_memory::lexical::{self, Document, Posting};
use lyceum_vault::{OpenedKeys, Texts};
use tokio_postgres::Row;

use crate::{
    connection::{Param, Session, Whose},
    error::Failure,
    memories::holds,
    memory_row::{COLUMNS, Stored, columns},
    scope::{Home, OwnerRow},
    sealing::{blinded, texts_of},
};

const INDEX: &str = "\
    INSERT INTO lyceum.posting (tenant, owner, term, memory, count, length) \
    SELECT $1, $2, p.term, p.memory, p.count, p.length \
    FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) \
        AS p (term, memory, count, length)";

const COUNT: &str = "\
    UPDATE lyceum.owner SET documents = documents + $2, total_length = total_length + $3 \
    WHERE id = $1 RETURNING words_key";

const UNINDEX: &str =
    "DELETE FROM lyceum.posting WHERE owner = $1 AND term = ANY ($2) AND memory = $3";

/// Goes through all of the owner's words.
const PURGE: &str = "DELETE FROM lyceum.posting WHERE owner = $1 AND memory = $2 RETURNING length";

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

/// Changes an owner's statistics and so locks its row; gives the version of the key that its words
/// are written with.
async fn count(
    session: &Session,
    owner: i64,
    (documents, length): (i64, i64),
) -> Result<i64, Failure> {
    let counted = session
        .query_opt(COUNT, &[&owner, &documents, &length])
        .await?;
    let counted = counted.ok_or_else(|| Failure::corrupt("an owner's row is gone"))?;
    Ok(counted.try_get(0)?)
}

/// The words of new memories.
#[derive(Default)]
pub(crate) struct Words {
    documents: Vec<(i64, Document)>,
}

impl Words {
    pub(crate) fn add(&mut self, memory: i64, document: Document) {
        self.documents.push((memory, document));
    }

    /// Adds them to the index, inside a transaction. Where the words of the owner are sealed, its row
    /// is locked first, which says with which key; else last of all, and only shortly.
    pub(crate) async fn store(
        self,
        session: &Session,
        texts: &Texts,
        owner: i64,
    ) -> Result<(), Failure> {
        if self.documents.is_empty() {
            return Ok(());
        }
        let lengths = self.documents.iter();
        let lengths = lengths.map(|(_, document)| i64::from(document.length));
        let counts = (self.documents.len() as i64, lengths.sum());
        if texts.keys().is_none() {
            self.index(session, texts, (owner, 0)).await?;
            return count(session, owner, counts).await.map(drop);
        }
        let version = count(session, owner, counts).await?;
        self.index(session, texts, (owner, version)).await
    }

    async fn index(
        self,
        session: &Session,
        texts: &Texts,
        (owner, version): (i64, i64),
    ) -> Result<(), Failure> {
        let (mut terms, mut memories) = (Vec::new(), Vec::new());
        let (mut counts, mut lengths) = (Vec::new(), Vec::new());
        for (memory, document) in self.documents {
            let document = blinded(texts, (owner, version), document)?;
            for (term, count) in document.terms {
                terms.push(term);
                memories.push(memory);
                counts.push(i64::from(count));
                lengths.push(i64::from(document.length));
            }
        }
        if terms.is_empty() {
            return Ok(());
        }
        let tenant = texts.tenant();
        let params: [Param<'_>; 6] = [&tenant, &owner, &terms, &memories, &counts, &lengths];
        session.execute(INDEX, &params).await?;
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

/// Removes the words of a memory that is gone, inside a transaction. Of one whose texts do not open
/// they are looked for among all of the owner's.
pub(crate) async fn remove(
    session: &Session,
    texts: &Texts,
    owner: i64,
    memory: i64,
    document: Option<Document>,
) -> Result<(), Failure> {
    let Some(document) = document else {
        let rows = session.query(PURGE, &[&owner, &memory]).await?;
        let length = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
        return count(session, owner, (-1, -length)).await.map(drop);
    };
    let length = -i64::from(document.length);
    let version = match texts.keys() {
        None => 0,
        Some(_) => count(session, owner, (-1, length)).await?,
    };
    let document = blinded(texts, (owner, version), document)?;
    let terms: Vec<&String> = document.terms.keys().collect();
    session.execute(UNINDEX, &[&owner, &terms, &memory]).await?;
    match texts.keys() {
        None => count(session, owner, (-1, length)).await.map(drop),
        Some(_) => Ok(()),
    }
}

const LOCK: &str = "SELECT id FROM lyceum.owner WHERE id = $1 FOR UPDATE";

/// Statements that take an owner's statistics and words away, before they are made again.
const CLEAR: &str = "DELETE FROM lyceum.posting WHERE owner = $1";
const RESET: &str = "\
    UPDATE lyceum.owner SET documents = 0, total_length = 0, words_key = $2 WHERE id = $1";

const PAGE_OF_OWNER: &str = concat!(
    "SELECT ",
    columns!("m."),
    ", m.id FROM lyceum.memory m WHERE m.owner = $1 AND m.id > $2 ORDER BY m.id LIMIT $3"
);

/// Makes one owner's index anew, written with the newest key; inside a transaction.
pub(crate) async fn rebuild(session: &Session, home: Home<'_>) -> Result<(), Failure> {
    let newest = home.texts.keys().map_or(0, |keys| i64::from(keys.newest()));
    session.query(LOCK, &[&home.id]).await?;
    session.execute(CLEAR, &[&home.id]).await?;
    session.execute(RESET, &[&home.id, &newest]).await?;
    let mut after = 0_i64;
    loop {
        let params: [Param<'_>; 3] = [&home.id, &after, &PAGE];
        let rows = session.query(PAGE_OF_OWNER, &params).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.try_get(COLUMNS)?;
        add(session, home, &rows).await?;
    }
}

/// Adds the words of memories of one owner, whose ids stand behind their columns.
async fn add(session: &Session, home: Home<'_>, rows: &[Row]) -> Result<(), Failure> {
    let mut words = Words::default();
    for row in rows {
        match Stored::read(row)?.open(home.owner, home.texts) {
            Ok(texts) => {
                let texts = texts.each_ref().map(String::as_str);
                words.add(row.try_get(COLUMNS)?, Document::new(&texts));
            }
            // The others are found all the same.
            Err(error) => {
                tracing::error!(%error, "a memory is found by no word: it does not open");
            }
        }
    }
    words.store(session, home.texts, home.id).await
}

const VERSION: &str = "SELECT value FROM lyceum.setting WHERE key = 'lexical'";

/// Nobody stores a memory meanwhile; searches wait, as half an index would mislead them.
const EMPTY: &str = "\
    LOCK TABLE lyceum.memory IN SHARE MODE; TRUNCATE lyceum.posting; \
    UPDATE lyceum.owner SET documents = 0, total_length = 0;";

/// How many memories are read at a time, in the order of their owners.
const PAGE: i64 = 1_000;

const ALL: &str = concat!(
    "SELECT ",
    columns!("m."),
    ", m.id, m.owner, o.tenant, o.user_id, o.agent \
    FROM lyceum.memory m JOIN lyceum.owner o ON o.id = m.owner \
    WHERE (m.owner, m.id) > ($1, $2) ORDER BY m.owner, m.id LIMIT $3"
);

const UPDATE: &str = "\
    INSERT INTO lyceum.setting (key, value) VALUES ('lexical', $1) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// Makes the index anew where other rules made it, in one transaction.
pub(crate) async fn refresh(session: &Session, keys: &OpenedKeys) -> Result<(), Failure> {
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
        all(session, keys).await?;
        session.execute(UPDATE, &[&wanted]).await?;
        Ok(())
    };
    match session.write(Whose::Operator, |_| work).await {
        Ok(()) => {
            tracing::info!(version = wanted, "the index of words was made anew");
            Ok(())
        }
        Err(Done::Already) => Ok(()),
        Err(Done::Failed(failure)) => Err(failure),
    }
}

/// Adds the words of all memories to an empty index.
async fn all(session: &Session, keys: &OpenedKeys) -> Result<(), Failure> {
    let (mut after, mut known) = ((0_i64, 0_i64), HashMap::new());
    loop {
        let rows = session.query(ALL, &[&after.0, &after.1, &PAGE]).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = (last.try_get(COLUMNS + 1)?, last.try_get(COLUMNS)?);
        let same = |a: &Row, b: &Row| a.get::<_, i64>(COLUMNS + 1) == b.get::<_, i64>(COLUMNS + 1);
        for rows in rows.chunk_by(same) {
            let owner = OwnerRow::read(&rows[0], COLUMNS + 2)?;
            if !known.contains_key(&owner.tenant) {
                let texts = texts_of(session, keys, &owner.tenant).await?;
                known.insert(owner.tenant.clone(), texts);
            }
            let Some(texts) = known.get(&owner.tenant) else {
                continue;
            };
            let id = rows[0].try_get(COLUMNS + 1)?;
            let owner = owner.owner();
            add(session, Home { id, owner, texts }, rows).await?;
        }
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
