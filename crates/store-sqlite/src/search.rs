//! The search over the index of words, and what was said beside a hit.
//!
//! Invariant: a memory that does not hold at the point asked for takes no other's place.

use std::{cmp::Reverse, collections::BTreeSet};

use lyceum_memory::{
    AsOf, Beside, MemoryId, Recollection, Timestamp,
    lexical::{Corpus, query_terms},
};
use rusqlite::{OptionalExtension, params};

use crate::{
    error::Failure,
    memory_row::{Stored, columns, holds},
    postings::{self, Held},
    row::{id_of, unsigned},
    scope::{Home, Owner},
    sealed::Db,
};

/// How many memories of equal score are looked at beyond the limit, to put the newest first.
const TIES: usize = 100;

/// The memories of an owner that do not hold now; few, as a rule.
pub(crate) const PAST: &str = concat!(
    "SELECT id FROM memory WHERE owner = ?1 AND bounded = 1 AND NOT ",
    holds!("?2", "?3")
);

/// Those that did not hold at another point, which may be nearly all.
pub(crate) const ABSENT: &str = concat!(
    "SELECT id FROM memory WHERE owner = ?1 AND NOT ",
    holds!("?2", "?3")
);

const PLACE: &str = "\
    SELECT id, session FROM memory \
    WHERE owner = ?1 AND name = ?2 AND kind = 'episode' AND session IS NOT NULL";

macro_rules! beside {
    ($which:literal) => {
        concat!(
            "SELECT ", columns!(), ", ", holds!("?4", "?4"), " FROM memory \
            WHERE owner = ?1 AND session = ?2 AND kind = 'episode' AND session IS NOT NULL AND ",
            $which
        )
    };
}

pub(crate) const BEFORE: &str = beside!("id < ?3 ORDER BY id DESC LIMIT 1");
pub(crate) const AFTER: &str = beside!("id > ?3 ORDER BY id LIMIT 1");

/// The memories of an owner that a search passes over.
fn absent(db: &Db<'_>, owner: i64, sql: &str, as_of: AsOf) -> rusqlite::Result<BTreeSet<i64>> {
    let mut ids = db.prepare_cached(sql)?;
    let params = params![owner, as_of.valid.0, as_of.known.0];
    let ids = ids.query_map(params, |row| row.get(0))?;
    ids.collect()
}

pub(crate) fn search(
    db: &Db<'_>,
    owner: &Owner,
    (passed, as_of): (&str, AsOf),
    query: &str,
    limit: usize,
) -> Result<Vec<Recollection>, Failure> {
    let Some(home) = owner.home(db)? else {
        return Ok(Vec::new());
    };
    let owner = home.id;
    let (corpus, version) = db
        .prepare_cached("SELECT documents, total_length, words_key FROM owner WHERE id = ?1")?
        .query_row([owner], |row| {
            let corpus = Corpus {
                documents: unsigned(row.get(0)?),
                total_length: unsigned(row.get(1)?),
            };
            Ok((corpus, row.get(2)?))
        })?;
    let words = home.texts.words(owner, version)?;
    let absent = absent(db, owner, passed, as_of)?;
    let (mut telling, mut common) = (Vec::new(), Vec::new());
    for term in query_terms(query) {
        let held = postings::of_term(db, owner, &words.term(term), corpus.documents)?;
        let (list, mut postings) = match held {
            Held::By(postings) => (&mut telling, postings),
            Held::ByMany(newest) => (&mut common, newest),
        };
        if !absent.is_empty() {
            postings.retain(|posting| !absent.contains(&posting.document));
        }
        if !postings.is_empty() {
            list.push(postings);
        }
    }
    // Words that many memories hold tell little; they decide only where there are no others.
    let scores = corpus.rank(if telling.is_empty() { common } else { telling }, limit);
    let best = chosen(db, scores.best(limit, TIES), limit)?;
    let mut texts =
        db.prepare_cached(concat!("SELECT ", columns!(), " FROM memory WHERE id = ?1"))?;
    let mut found = Vec::with_capacity(best.len());
    for (id, score) in best {
        let stored = texts.query_row([id], |row| Stored::read(row, 0))?;
        found.push(recollection(stored, &home, score)?);
    }
    found.sort_by(Recollection::by_rank);
    Ok(found)
}

/// The best `limit`: of those that are as good as the last one the newest, by
/// [`Recollection::by_rank`].
fn chosen(
    db: &Db<'_>,
    mut best: Vec<(i64, f64)>,
    limit: usize,
) -> rusqlite::Result<Vec<(i64, f64)>> {
    if best.len() <= limit {
        return Ok(best);
    }
    let last = best.last().map_or(0.0, |&(_, score)| score);
    let certain = best.partition_point(|&(_, score)| score > last);
    let mut known = db.prepare_cached("SELECT created_at, name FROM memory WHERE id = ?1")?;
    let mut equals = Vec::with_capacity(best.len() - certain);
    for (id, score) in best.drain(certain..) {
        let (at, name): (i64, String) =
            known.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        equals.push(((Reverse(at), name), (id, score)));
    }
    equals.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    best.extend(equals.into_iter().map(|(_, row)| row));
    best.truncate(limit);
    Ok(best)
}

fn recollection(mut stored: Stored, home: &Home, score: f64) -> rusqlite::Result<Recollection> {
    let [topic, text, _] = stored.open(&home.owner, &home.texts)?;
    let created_at = stored.created_at();
    Ok(Recollection {
        id: id_of(0, stored.name, MemoryId::new)?,
        topic,
        text,
        score,
        importance: stored.importance,
        created_at,
    })
}

pub(crate) fn beside(
    db: &Db<'_>,
    owner: &Owner,
    ids: &[MemoryId],
    now: Timestamp,
) -> Result<Vec<Beside>, Failure> {
    let Some(home) = owner.home(db)? else {
        return Ok(Vec::new());
    };
    let mut place = db.prepare_cached(PLACE)?;
    let mut sides = [db.prepare_cached(BEFORE)?, db.prepare_cached(AFTER)?];
    let mut found = Vec::new();
    for of in ids {
        let place: Option<(i64, String)> = place
            .query_row(params![home.id, of.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((id, session)) = place else { continue };
        for side in &mut sides {
            let memory = side
                .query_row(params![home.id, session, id, now.0], |row| {
                    Ok((Stored::read(row, 0)?, row.get::<_, bool>(12)?))
                })
                .optional()?;
            if let Some((stored, true)) = memory {
                let (of, memory) = (of.clone(), recollection(stored, &home, 0.0)?);
                found.push(Beside { of, memory });
            }
        }
    }
    Ok(found)
}
