//! Which memories wait for a vector: the spaces, and what was stored before a space was used.
//!
//! A trigger notes each new memory for every space that was used within the week. What is older is
//! noted in portions, in the order of the memories' ids. Where the next portion begins stands in
//! `lyceum.setting` until all are noted, so that a call which is cut off goes on later.
//!
//! Invariant: a memory that a space has no vector of waits, or a portion is still to note it.
//! Nobody who stores memories waits for a portion.

use lyceum_memory::{StoreError, VectorSpace};

use super::statements::{
    BEGIN, DONE, FORGET, LOCK, MEND, NEXT, PORTION_END, PROGRESS, SPACE, TOUCH, USE, WAIT,
};
use crate::{
    PostgresStore,
    connection::{Param, Session, Whose},
    error::Failure,
    pool::Held,
    row::{integer, unsigned},
};

/// How many memories one transaction notes.
const PORTION: i64 = 4_000;

/// The space's row, made where it is absent; new memories wait from then on. The flag says whether
/// older ones are still to be noted.
async fn ensure(session: &Session, space: &VectorSpace) -> Result<(i64, bool), Failure> {
    let dimensions = integer(space.dimensions as u64);
    let params: [Param<'_>; 2] = [&space.model, &dimensions];
    if let Some(row) = session.query_opt(SPACE, &params).await? {
        let id: i64 = row.try_get(0)?;
        let (is_fresh, is_noted): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
        if is_noted {
            if !is_fresh {
                session.execute(TOUCH, &[&id]).await?;
            }
            return Ok((id, row.try_get(3)?));
        }
    }
    let work = async {
        // Whoever stored a memory without knowing the space has ended when this is granted, and
        // the lock ends with this short transaction.
        session.batch(LOCK).await?;
        let row = session.query_opt(USE, &params).await?;
        let row = row.ok_or_else(|| Failure::corrupt("a space can neither be made nor found"))?;
        let id: i64 = row.try_get(0)?;
        session.execute(BEGIN, &[&id]).await?;
        Ok((id, true))
    };
    session.write(Whose::Operator, |_| work).await
}

/// The last id of the portion after this one, where there is any.
async fn portion_end(session: &Session, after: i64) -> Result<Option<i64>, Failure> {
    let row = session.query_opt(PORTION_END, &[&after, &PORTION]).await?;
    Ok(row.map_or(Ok(None), |row| row.try_get(0))?)
}

/// Notes the next portion of a space, inside a transaction; says whether there may be more.
/// Processes that do so at once take turns.
async fn note(session: &Session, space: i64) -> Result<bool, Failure> {
    let Some(row) = session.query_opt(PROGRESS, &[&space]).await? else {
        return Ok(false);
    };
    let after: i64 = row.try_get(0)?;
    let Some(end) = portion_end(session, after).await? else {
        session.execute(DONE, &[&space]).await?;
        return Ok(false);
    };
    session.execute(WAIT, &[&space, &after, &end]).await?;
    session.execute(NEXT, &[&space, &end]).await?;
    Ok(true)
}

impl PostgresStore {
    /// The space's number. The first call for a space notes all memories, and so takes longer.
    pub(super) async fn space(&self, space: &VectorSpace) -> Result<i64, StoreError> {
        self.needs_vectors()?;
        if let Some(known) = self.kept_vectors().known(space) {
            return Ok(known);
        }
        let found = self.call("vector_space", |session: Held| async move {
            ensure(&session, space).await
        });
        let (id, mut is_behind) = found.await?;
        while is_behind {
            let noted = self.call("await_vectors", |session: Held| async move {
                let work = note(&session, id);
                session.write(Whose::Operator, |_| work).await
            });
            is_behind = noted.await?;
        }
        self.kept_vectors().know(space, id);
        Ok(id)
    }

    /// Forgets a space's vectors and lets their memories wait; says how many there were.
    pub(super) async fn forget(&self, space: i64) -> Result<u64, StoreError> {
        let (mut after, mut forgotten) = (0_i64, 0);
        loop {
            let portion = self.call("forget_vectors", |session: Held| async move {
                let work = async {
                    let Some(end) = portion_end(&session, after).await? else {
                        return Ok(None);
                    };
                    let params: [Param<'_>; 3] = [&space, &after, &end];
                    let row = session.query_opt(FORGET, &params).await?;
                    session.execute(WAIT, &params).await?;
                    let count: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
                    Ok::<_, Failure>(Some((end, unsigned(count))))
                };
                session.write(Whose::Operator, |_| work).await
            });
            let Some((end, count)) = portion.await? else {
                return Ok(forgotten);
            };
            after = end;
            forgotten += count;
        }
    }

    /// Forgets vectors that [`verify_vectors`](Self::verify_vectors) finds, and lets wait what
    /// was overlooked.
    pub(crate) async fn mend_vectors(&self) -> Result<(), StoreError> {
        if !self.vectors().is_here() {
            return Ok(());
        }
        let mut after = 0_i64;
        loop {
            let portion = self.operate("mend_vectors", |session: Held| async move {
                let work = async {
                    let Some(end) = portion_end(&session, after).await? else {
                        return Ok(None);
                    };
                    session.execute(MEND, &[&after, &end]).await?;
                    let spaces = "SELECT id FROM lyceum.vector_space";
                    for row in session.query(spaces, &[]).await? {
                        let space: i64 = row.try_get(0)?;
                        session.execute(WAIT, &[&space, &after, &end]).await?;
                    }
                    Ok::<_, Failure>(Some(end))
                };
                session.write(Whose::Operator, |_| work).await
            });
            let Some(end) = portion.await? else {
                return Ok(());
            };
            after = end;
        }
    }
}
