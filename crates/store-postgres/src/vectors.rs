//! The vector port: vectors beside their memories, compared by the server.
//!
//! A trigger notes each new memory as waiting, in the transaction that stores it, so none is
//! overlooked whatever the order of commits (`waiting.rs`). An owner's vectors are compared one by
//! one, which is exact and reads nothing of another's. The largest owners get an index of their own
//! (HNSW): one graph over all tenants would have to be filtered after the search, and would then
//! find too few of a small owner's.
//!
//! Invariant: what is found is the scope's and holds now, whichever way it was found.
//! Deliberately absent: vectors of an encrypted database; the server could not compare them.

mod graphs;
mod numbers;
mod statements;
mod support;
mod waiting;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use lyceum_core::{AgentId, Scope, TenantId, UserId};
use lyceum_memory::{
    Checked, MemoryId, Near, NewVector, StoreError, Unembedded, VectorCount, VectorSpace,
    VectorStore, dense::normalized,
};
use lyceum_vault::Texts;
use tokio_postgres::Row;

pub(crate) use graphs::Graphs;
pub use support::VectorSupport;
pub(crate) use support::enable;

use crate::{
    PostgresStore,
    connection::{Param, Session, Whose},
    error::Failure,
    memory_row::{COLUMNS, Stored},
    pool::Held,
    row::{id, integer, limit_of, unsigned},
    scope::{Owner, OwnerRow},
};
use graphs::MOST_OWNERS;
use numbers::Numbers;
use statements::{BROKEN, COUNT, IS_DUE, LOOK, NEAREST, NEAREST_BY_GRAPH, SET, WAITING};

/// How long a space that was found is not looked for again.
const KNOWN: Duration = Duration::from_secs(600);

/// What the port remembers.
#[derive(Debug)]
pub(crate) struct Vectors {
    support: VectorSupport,
    graphs: Graphs,
    /// The spaces that were found lately.
    spaces: Mutex<HashMap<VectorSpace, (i64, Instant)>>,
}

impl Vectors {
    pub(crate) fn new(support: VectorSupport, graphs: Graphs) -> Self {
        Self {
            support,
            graphs,
            spaces: Mutex::default(),
        }
    }

    fn known(&self, space: &VectorSpace) -> Option<i64> {
        let spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, since) = spaces.get(space)?;
        (since.elapsed() < KNOWN).then_some(*id)
    }

    fn know(&self, space: &VectorSpace, id: i64) {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.insert(space.clone(), (id, Instant::now()));
    }
}

fn near(row: &Row, owner: Owner<'_>, texts: &Texts) -> Result<Near, Failure> {
    let mut stored = Stored::read(row)?;
    let [topic, text, _] = stored.open(owner, texts)?;
    Ok(Near {
        id: MemoryId::new(stored.name).map_err(Failure::corrupt)?,
        topic,
        text,
        importance: stored.importance,
        created_at: stored.times.created_at,
        similarity: row.try_get::<_, f64>(COLUMNS)? as f32,
    })
}

/// What is asked for by a vector.
struct Query<'a> {
    owner: Owner<'a>,
    space: &'a VectorSpace,
    numbers: &'a [f32],
    limit: usize,
    also: &'a [&'a str],
}

async fn nearest(
    store: &PostgresStore,
    session: &Session,
    query: &Query<'_>,
) -> Result<Vec<Near>, Failure> {
    let owner = query.owner;
    let dimensions = integer(query.space.dimensions as u64);
    let params: [Param<'_>; 5] = [
        &owner.tenant,
        &owner.user,
        &owner.agent,
        &query.space.model,
        &dimensions,
    ];
    let rows = session.ask(owner.whose(), LOOK, &params).await?;
    let Some(row) = rows.first() else {
        return Ok(Vec::new());
    };
    let (space, of): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let (numbers, limit) = (Numbers(query.numbers), limit_of(query.limit));
    let params: [Param<'_>; 5] = [&space, &of, &numbers, &limit, &query.also];
    let texts = store.keys().texts(owner.tenant, Vec::new())?;
    let read = |rows: Vec<Row>| {
        let near = rows.iter().map(|row| near(row, owner, &texts));
        near.collect::<Result<Vec<_>, Failure>>()
    };
    if row.try_get(2)?
        && let Some(settings) = graphs::settings(query.limit)
    {
        let sql = NEAREST_BY_GRAPH
            .replace("SPACE", &space.to_string())
            .replace("OWNER", &of.to_string())
            .replace("DIMENSIONS", &dimensions.to_string());
        let rows = session
            .ask_anew(&settings, owner.whose(), &sql, &params)
            .await?;
        // Where the index gives too few, because many hold no longer, all are looked at.
        if rows.len() >= query.limit {
            return read(rows);
        }
    }
    read(session.ask(owner.whose(), NEAREST, &params).await?)
}

impl PostgresStore {
    /// Whether vectors are kept in the database; without them its `VectorStore` refuses.
    #[must_use]
    pub fn vectors(&self) -> &VectorSupport {
        &self.kept_vectors().support
    }

    /// Builds the indexes of owners who have so many vectors in the space that these are not
    /// compared one by one any more; says how many were built. The store does so by itself when
    /// vectors are set; this waits for it, and for another process that builds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the server fails; what was built until then stays.
    ///
    /// # Cancel safety
    ///
    /// An index whose building is cut off is built anew by the next call.
    pub async fn build_indexes(&self, space: &VectorSpace) -> Result<u64, StoreError> {
        self.needs_vectors()?;
        if !self.vectors().has_graphs() {
            return Ok(0);
        }
        let id = self.space(space).await?;
        let built = self.kept_vectors().graphs.build(id, space.dimensions).await;
        built.map_err(|error| Failure::from(error).into())
    }

    fn needs_vectors(&self) -> Result<(), StoreError> {
        match self.vectors() {
            VectorSupport::Here { .. } => Ok(()),
            VectorSupport::Absent { why } => Err(StoreError::Internal {
                source: why.clone().into(),
            }),
        }
    }

    /// Vectors of a wrong shape, or of another owner than their memory's.
    pub(crate) async fn verify_vectors(&self, checked: &mut Checked) -> Result<(), StoreError> {
        if !self.vectors().is_here() {
            return Ok(());
        }
        let broken = self.operate("verify_vectors", |session: Held| async move {
            let rows = session.ask(Whose::Operator, BROKEN, &[]).await?;
            let counts = rows.iter().map(|row| {
                let counts: (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
                Ok((row.try_get::<_, String>(0)?, counts))
            });
            counts.collect::<Result<Vec<_>, Failure>>()
        });
        for (model, (shapes, others)) in broken.await? {
            for (count, what) in [(shapes, "have another shape"), (others, "are another's")] {
                if count > 0 {
                    checked.fault("vectors", format!("{model}: {count} {what}"));
                }
            }
        }
        Ok(())
    }
}

/// Vectors as the arrays that the statement takes.
#[derive(Default)]
struct Columns<'a> {
    owners: [Vec<&'a str>; 3],
    names: Vec<&'a str>,
    vectors: Vec<Option<Vec<f32>>>,
}

#[async_trait]
impl VectorStore for PostgresStore {
    async fn unembedded(
        &self,
        space: &VectorSpace,
        limit: usize,
    ) -> Result<Vec<Unembedded>, StoreError> {
        let (space, limit) = (self.space(space).await?, limit_of(limit));
        self.call("unembedded", |session: Held| async move {
            let rows = session
                .ask(Whose::Operator, WAITING, &[&space, &limit])
                .await?;
            let unembedded = |row: &Row| {
                let owner = OwnerRow::read(row, COLUMNS)?;
                let texts = self.keys().texts(&owner.tenant, Vec::new())?;
                let mut stored = Stored::read(row)?;
                let [topic, text, context] = stored.open(owner.owner(), &texts)?;
                Ok(Unembedded {
                    scope: Scope {
                        tenant: id(row, COLUMNS, TenantId::new)?,
                        user: id(row, COLUMNS + 1, UserId::new)?,
                        agent: id(row, COLUMNS + 2, AgentId::new)?,
                        session: None,
                    },
                    id: MemoryId::new(stored.name).map_err(Failure::corrupt)?,
                    topic,
                    text,
                    context,
                })
            };
            rows.iter().map(unembedded).collect()
        })
        .await
    }

    async fn set_vectors(
        &self,
        space: &VectorSpace,
        vectors: &[NewVector],
    ) -> Result<usize, StoreError> {
        for vector in vectors.iter().filter_map(|new| new.vector.as_ref()) {
            space.check(vector)?;
        }
        let id = self.space(space).await?;
        let mut columns = Columns::default();
        for new in vectors {
            let Owner {
                tenant,
                user,
                agent,
            } = Owner::new(&new.scope);
            let parts = columns.owners.iter_mut().zip([tenant, user, agent]);
            parts.for_each(|(column, part)| column.push(part));
            columns.names.push(new.id.as_str());
            columns
                .vectors
                .push(new.vector.as_deref().and_then(normalized));
        }
        let (columns, large) = (&columns, self.kept_vectors().graphs.from());
        let settled = self.call("set_vectors", |session: Held| async move {
            let numbers = columns.vectors.iter();
            let numbers: Vec<_> = numbers.map(|one| one.as_deref().map(Numbers)).collect();
            let [tenants, users, agents] = &columns.owners;
            let work = async {
                let params: [Param<'_>; 6] =
                    [&id, tenants, users, agents, &columns.names, &numbers];
                let settled = session.execute(SET, &params).await?;
                let params: [Param<'_>; 6] = [&id, &large, tenants, users, agents, &MOST_OWNERS];
                let row = session.query_opt(IS_DUE, &params).await?;
                Ok::<_, Failure>((settled, row.map_or(Ok(false), |row| row.try_get(0))?))
            };
            session.write(Whose::Operator, |_| work).await
        });
        let (settled, is_due) = settled.await?;
        if is_due && self.vectors().has_graphs() {
            self.kept_vectors().graphs.start(id, space.dimensions);
        }
        Ok(usize::try_from(settled).unwrap_or(usize::MAX))
    }

    async fn nearest(
        &self,
        scope: &Scope,
        space: &VectorSpace,
        query: &[f32],
        limit: usize,
        also: &[MemoryId],
    ) -> Result<Vec<Near>, StoreError> {
        space.check(query)?;
        self.needs_vectors()?;
        let Some(numbers) = normalized(query) else {
            return Ok(Vec::new());
        };
        let also: Vec<&str> = also.iter().map(MemoryId::as_str).collect();
        let query = &Query {
            owner: Owner::new(scope),
            space,
            numbers: &numbers,
            limit,
            also: &also,
        };
        self.call("nearest", |session: Held| async move {
            nearest(self, &session, query).await
        })
        .await
    }

    async fn count_vectors(&self, space: &VectorSpace) -> Result<VectorCount, StoreError> {
        let id = self.space(space).await?;
        self.operate("count_vectors", |session: Held| async move {
            let rows = session.ask(Whose::Operator, COUNT, &[&id]).await?;
            let row = rows.first().ok_or(Failure::corrupt("no row of counts"))?;
            let count = |place| Ok::<_, Failure>(unsigned(row.try_get(place)?));
            Ok(VectorCount {
                memories: count(0)?,
                settled: count(1)?,
                vectors: count(2)?,
                missed: count(3)?,
            })
        })
        .await
    }

    async fn forget_vectors(&self, space: &VectorSpace) -> Result<u64, StoreError> {
        let id = self.space(space).await?;
        self.forget(id).await
    }
}
