//! The search for memories by their words.

use std::collections::HashSet;

use lyceum_memory::{
    AsOf, Recollection,
    lexical::{Corpus, query_terms},
};
use tokio_postgres::Row;

use super::{recollection, statements::FOUND};
use crate::{
    PostgresStore,
    connection::{Param, Session},
    error::Failure,
    memory_row::COLUMNS,
    row::{limit_of, unsigned},
    scope::{FIND, Owner},
    sealing,
    words::{COMMON, COMMON_SHARE, POSTINGS, POSTINGS_AS_OF, postings},
};

/// How many memories of equal score are looked at beyond the limit, to put the newest first.
const TIES: usize = 100;

/// What is asked for by words.
pub(super) struct Query<'a> {
    pub(super) owner: Owner<'a>,
    pub(super) as_of: Option<AsOf>,
    pub(super) text: &'a str,
    pub(super) limit: usize,
}

/// The memories that hold the words, the best first.
pub(super) async fn search(
    store: &PostgresStore,
    session: &Session,
    query: Query<'_>,
) -> Result<Vec<Recollection>, Failure> {
    let (owner, limit) = (query.owner, query.limit);
    let Owner {
        tenant,
        user,
        agent,
    } = owner;
    let mut terms = query_terms(query.text);
    if terms.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    if store.is_encrypting() {
        let params: [Param<'_>; 3] = [&tenant, &user, &agent];
        let (texts, rows) = store.rows(session, tenant, FIND, &params).await?;
        let Some(row) = rows.first() else {
            return Ok(Vec::new());
        };
        terms = sealing::terms(&texts, row.try_get(0)?, terms)?;
    }
    let mut params: Vec<Param<'_>> = vec![&tenant, &user, &agent, &terms, &COMMON, &COMMON_SHARE];
    let sql = match &query.as_of {
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
    let (texts, rows) = store.rows(session, tenant, FOUND, &params).await?;
    let found = |row: &Row| recollection(row, owner, &texts, row.try_get(COLUMNS)?);
    rows.iter().map(found).collect()
}
