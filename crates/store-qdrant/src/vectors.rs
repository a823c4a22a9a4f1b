//! The vector port over a Qdrant server beside a store that holds the truth.
//!
//! Invariant: what a memory says, and whether it waits for a vector, is decided by the store of
//! rows alone. A memory waits until Qdrant has acknowledged its vector, and what Qdrant finds is
//! given only if the row is there and says what it said. So a server that is lost, restored from
//! an old copy or out of reach costs answers by meaning, never a wrong one. Deliberately absent:
//! words in Qdrant.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_memory::{
    AsOf, Clock as _, MemoryId, MemoryRecord, MemoryStore, Near, NewVector, StoreError,
    SystemClock, Unembedded, VectorCount, VectorSpace, VectorStore, Whose,
};
use qdrant_client::{
    Qdrant, QdrantError,
    qdrant::{
        Condition, CountPointsBuilder, DeletePointsBuilder, Filter, PointId, PointStruct,
        PointsIdsList, QueryPointsBuilder, ScoredPoint, ScrollPointsBuilder, SearchParamsBuilder,
        UpsertPointsBuilder,
    },
};
use secrecy::SecretString;

use crate::{
    AddressError, QdrantOptions, collection,
    failure::{Malformed, failure, is_missing},
    point::{self, Beside},
};

/// Points of one page of a check.
const PAGE: u32 = 256;
/// How often a search is repeated because of points without a row.
const ROUNDS: usize = 3;
/// The most points that a search asks for, where many memories hold no longer.
const MOST_ASKED: usize = 4_096;

/// A [`VectorStore`] in Qdrant. Needs a tokio runtime with time.
pub struct QdrantVectors {
    client: Qdrant,
    options: QdrantOptions,
    truth: Arc<dyn VectorStore>,
    memories: Arc<dyn MemoryStore>,
    clock: SystemClock,
    /// Collections known to be there.
    known: Mutex<HashSet<String>>,
}

/// Rows of memories, by whose they are.
struct Rows(HashMap<(Scope, MemoryId), MemoryRecord>);

impl Rows {
    /// The row that a point speaks of, if it still says what it said.
    fn of(&self, beside: &Beside) -> Option<&MemoryRecord> {
        let row = self.0.get(&(beside.scope.clone(), beside.memory.clone()))?;
        (point::content(row) == beside.content).then_some(row)
    }
}

/// What a check of one space found and mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Points looked at.
    pub points: u64,
    /// Points without a row, or of another content; they are gone now.
    pub orphans: u64,
    /// Whether vectors were missing; then all memories of the space wait again.
    pub rebuilding: bool,
}

impl QdrantVectors {
    /// Vectors at an address such as `http://127.0.0.1:6334`, to which nothing is sent yet.
    /// `truth` and `memories` are the store of the rows.
    ///
    /// # Errors
    ///
    /// [`AddressError`] when the address or the prefix has another form.
    pub fn new(
        address: &SecretString,
        options: QdrantOptions,
        truth: Arc<dyn VectorStore>,
        memories: Arc<dyn MemoryStore>,
    ) -> Result<Self, AddressError> {
        Ok(Self {
            client: options.client(address)?,
            options,
            truth,
            memories,
            clock: SystemClock::default(),
            known: Mutex::default(),
        })
    }

    /// Compares the space with the rows: points that have none are deleted, and where vectors
    /// are missing all memories wait for theirs again. Reads every point once, in pages.
    ///
    /// # Errors
    ///
    /// The failure of either store; what was mended until then stays mended.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any time and called again.
    pub async fn reconcile(&self, space: &VectorSpace) -> Result<Reconciled, StoreError> {
        let name = self.collection(space).await?;
        let mut found = Reconciled::default();
        let mut offset: Option<PointId> = None;
        loop {
            let mut scroll = ScrollPointsBuilder::new(&name)
                .limit(PAGE)
                .with_payload(true);
            if let Some(offset) = offset {
                scroll = scroll.offset(offset);
            }
            let page = self.client.scroll(scroll).await;
            let page = page.map_err(|error| self.failed(&name, error))?;
            found.points += page.result.len() as u64;
            let points = page.result.into_iter();
            let points: Vec<(Option<PointId>, Option<Beside>)> = points
                .map(|point| (point.id, Beside::read(&point.payload).ok()))
                .collect();
            let named = points.iter().filter_map(|(_, beside)| beside.as_ref());
            let rows = self.rows(named).await?;
            let orphans = points.into_iter().filter_map(|(id, beside)| {
                let is_known = beside.is_some_and(|beside| rows.of(&beside).is_some());
                id.filter(|_| !is_known)
            });
            let orphans: Vec<PointId> = orphans.collect();
            found.orphans += orphans.len() as u64;
            self.remove(&name, orphans).await?;
            offset = page.next_page_offset;
            if offset.is_none() {
                break;
            }
        }
        let count = self.truth.count_vectors(space).await?;
        if self.points(&name).await? < count.vectors {
            self.truth.forget_vectors(space).await?;
            found.rebuilding = true;
        }
        Ok(found)
    }

    /// Deletes the vectors of a tenant, or of one of its users, in all spaces; says how many they
    /// were.
    ///
    /// # Errors
    ///
    /// The server's failure; what was deleted until then is gone.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any time and called again.
    pub async fn erase(&self, whose: &Whose) -> Result<u64, StoreError> {
        let mut erased = 0;
        for name in self.collections().await? {
            let chosen = point::of(whose);
            let count = CountPointsBuilder::new(&name)
                .filter(chosen.clone())
                .exact(true);
            let counted = match self.client.count(count).await {
                Err(error) if is_missing(&error) => continue,
                counted => counted.map_err(failure)?,
            };
            erased += counted.result.map_or(0, |counted| counted.count);
            self.delete(name, chosen).await?;
        }
        Ok(erased)
    }

    /// Forgets a memory's vectors in all spaces.
    pub(crate) async fn forget(&self, scope: &Scope, id: &MemoryId) -> Result<(), StoreError> {
        for name in self.collections().await? {
            self.delete(name, point::of_memory(scope, id)).await?;
        }
        Ok(())
    }

    /// The names of the collections of all spaces.
    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        let all = self.client.list_collections().await.map_err(failure)?;
        let start = format!("{}_", self.options.prefix);
        let names = all.collections.into_iter().map(|one| one.name);
        Ok(names.filter(|name| name.starts_with(&start)).collect())
    }

    /// Deletes the points that a filter leaves. A collection that is gone has none.
    async fn delete(&self, name: String, chosen: Filter) -> Result<(), StoreError> {
        let delete = DeletePointsBuilder::new(name).points(chosen).wait(true);
        match self.client.delete_points(delete).await {
            Err(error) if !is_missing(&error) => Err(failure(error)),
            _ => Ok(()),
        }
    }

    /// The name of the space's collection, which is there then.
    async fn collection(&self, space: &VectorSpace) -> Result<String, StoreError> {
        let name = collection::name(&self.options.prefix, space);
        if self.known().contains(&name) {
            return Ok(name);
        }
        let made = collection::ensure(&self.client, &name, space).await?;
        if made && self.truth.count_vectors(space).await?.settled > 0 {
            tracing::warn!(
                collection = name,
                "Qdrant had no vectors: all memories wait for theirs"
            );
            self.truth.forget_vectors(space).await?;
        }
        self.known().insert(name.clone());
        Ok(name)
    }

    /// What a call on a collection failed with. One that is gone is made again by the next
    /// call, which is why this one may be repeated.
    fn failed(&self, name: &str, error: QdrantError) -> StoreError {
        if !is_missing(&error) {
            return failure(error);
        }
        self.known().remove(name);
        StoreError::Unavailable {
            source: Box::new(error),
        }
    }

    /// The rows that points speak of: one call for each owner.
    async fn rows(&self, points: impl Iterator<Item = &Beside>) -> Result<Rows, StoreError> {
        let named = points.map(|beside| (beside.scope.clone(), beside.memory.clone()));
        self.rows_of(named).await
    }

    async fn rows_of(
        &self,
        memories: impl Iterator<Item = (Scope, MemoryId)>,
    ) -> Result<Rows, StoreError> {
        let mut asked: HashMap<Scope, Vec<MemoryId>> = HashMap::new();
        for (scope, id) in memories {
            asked.entry(scope).or_default().push(id);
        }
        let mut rows = HashMap::new();
        for (scope, ids) in asked {
            for row in self.memories.get_many(&scope, &ids).await? {
                rows.insert((scope.clone(), row.id.clone()), row);
            }
        }
        Ok(Rows(rows))
    }

    async fn remove(&self, name: &str, points: Vec<PointId>) -> Result<(), StoreError> {
        if points.is_empty() {
            return Ok(());
        }
        let points = PointsIdsList { ids: points };
        let delete = DeletePointsBuilder::new(name).points(points).wait(true);
        let deleted = self.client.delete_points(delete).await;
        deleted.map_err(|error| self.failed(name, error))?;
        Ok(())
    }

    async fn points(&self, name: &str) -> Result<u64, StoreError> {
        let count = CountPointsBuilder::new(name).exact(true);
        let counted = self.client.count(count).await;
        let counted = counted.map_err(|error| self.failed(name, error))?;
        Ok(counted.result.ok_or(Malformed("a count"))?.count)
    }

    /// The nearest points that a filter leaves, and what they belong to.
    async fn search(
        &self,
        name: &str,
        query: &[f32],
        filter: Filter,
        limit: usize,
    ) -> Result<Vec<ScoredPoint>, StoreError> {
        let params = SearchParamsBuilder::default().exact(self.options.exact);
        let search = QueryPointsBuilder::new(name)
            .query(query.to_vec())
            .filter(filter)
            .limit(limit as u64)
            .params(params)
            .with_payload(true);
        let found = self.client.query(search).await;
        Ok(found.map_err(|error| self.failed(name, error))?.result)
    }

    /// The rows of the points; those without one are collected apart.
    async fn read(
        &self,
        scope: &Scope,
        points: Vec<ScoredPoint>,
        into: &mut HashMap<MemoryId, Near>,
    ) -> Result<(Vec<PointId>, usize), StoreError> {
        let mut named = Vec::with_capacity(points.len());
        for point in points {
            let beside = Beside::read(&point.payload)?;
            // The filter said so; a server that does not keep to it is not believed.
            if !beside.is_of(scope) {
                return Err(Malformed("a point of the owner asked for").into());
            }
            named.push((point, beside));
        }
        let rows = self.rows(named.iter().map(|(_, beside)| beside)).await?;
        let (mut orphans, mut past) = (Vec::new(), 0);
        let now = AsOf::at(self.clock.now());
        for (point, beside) in named {
            match rows.of(&beside) {
                Some(row) if !row.holds(now) => past += 1,
                Some(row) => {
                    let near = Near {
                        id: row.id.clone(),
                        topic: row.topic.clone(),
                        text: row.text.clone(),
                        importance: row.importance,
                        created_at: row.created_at,
                        similarity: point.score.clamp(-1.0, 1.0),
                    };
                    into.insert(row.id.clone(), near);
                }
                None => orphans.extend(point.id),
            }
        }
        Ok((orphans, past))
    }

    /// Poison is ignored: every change is complete.
    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_something(vector: &[f32]) -> bool {
    vector.iter().any(|number| *number != 0.0) && vector.iter().all(|number| number.is_finite())
}

#[async_trait]
impl VectorStore for QdrantVectors {
    async fn unembedded(
        &self,
        space: &VectorSpace,
        limit: usize,
    ) -> Result<Vec<Unembedded>, StoreError> {
        // A server that lost the collection makes all memories wait before they are counted.
        self.collection(space).await?;
        self.truth.unembedded(space, limit).await
    }

    async fn set_vectors(
        &self,
        space: &VectorSpace,
        vectors: &[NewVector],
    ) -> Result<usize, StoreError> {
        for vector in vectors.iter().filter_map(|new| new.vector.as_ref()) {
            space.check(vector)?;
        }
        let (mut points, mut without) = (Vec::new(), Vec::new());
        let named = vectors
            .iter()
            .map(|new| (new.scope.clone(), new.id.clone()));
        let rows = self.rows_of(named).await?;
        for new in vectors {
            let Some(row) = rows.0.get(&(new.scope.clone(), new.id.clone())) else {
                continue;
            };
            let id = point::id(&new.scope, &new.id, space);
            match new.vector.as_deref().filter(|vector| is_something(vector)) {
                Some(vector) => {
                    let payload = point::payload(&new.scope, row);
                    points.push(PointStruct::new(id, vector.to_vec(), payload));
                }
                None => without.push(id),
            }
        }
        let name = self.collection(space).await?;
        if !points.is_empty() {
            let upsert = UpsertPointsBuilder::new(&name, points).wait(true);
            let written = self.client.upsert_points(upsert).await;
            written.map_err(|error| self.failed(&name, error))?;
        }
        self.remove(&name, without).await?;
        // Settled last: what fails before waits on.
        self.truth.set_vectors(space, vectors).await
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
        if !is_something(query) {
            return Ok(Vec::new());
        }
        let name = self.collection(space).await?;
        let mut found = HashMap::new();
        // Those that hold no longer take places of others, too.
        let mut asked = limit;
        for _ in 0..ROUNDS {
            let mut points = match limit {
                0 => Vec::new(),
                _ => {
                    let own = point::owned_by(scope);
                    self.search(&name, query, own, asked).await?
                }
            };
            if !also.is_empty() {
                let ids: Vec<PointId> = also.iter().map(|id| point::id(scope, id, space)).collect();
                let mut these = point::owned_by(scope);
                these.must.push(Condition::has_id(ids));
                points.extend(self.search(&name, query, these, also.len()).await?);
            }
            found.clear();
            let got = points.len();
            let (orphans, past) = self.read(scope, points, &mut found).await?;
            let is_all = past == 0 || got < asked || found.len() >= limit;
            if orphans.is_empty() && is_all {
                break;
            }
            asked = asked.saturating_add(past).saturating_mul(2).min(MOST_ASKED);
            // They took the places of others.
            self.remove(&name, orphans).await?;
        }
        let mut all: Vec<Near> = found.into_values().collect();
        all.sort_by(|a, b| {
            let similarity = b.similarity.total_cmp(&a.similarity);
            similarity.then_with(|| a.id.cmp(&b.id))
        });
        let rest = all.split_off(limit.min(all.len()));
        all.extend(rest.into_iter().filter(|near| also.contains(&near.id)));
        Ok(all)
    }

    async fn count_vectors(&self, space: &VectorSpace) -> Result<VectorCount, StoreError> {
        let name = self.collection(space).await?;
        let points = self.points(&name).await?;
        let truth = self.truth.count_vectors(space).await?;
        Ok(VectorCount {
            vectors: points.min(truth.vectors),
            missed: truth.missed + truth.vectors.saturating_sub(points),
            ..truth
        })
    }

    async fn forget_vectors(&self, space: &VectorSpace) -> Result<u64, StoreError> {
        let name = collection::name(&self.options.prefix, space);
        // The truth first: points that stay are written over when their turn comes.
        let forgotten = self.truth.forget_vectors(space).await?;
        self.known().remove(&name);
        match self.client.delete_collection(name).await {
            Err(error) if !is_missing(&error) => Err(failure(error)),
            _ => Ok(forgotten),
        }
    }
}

impl fmt::Debug for QdrantVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QdrantVectors")
            .field("options", &self.options)
            .field("truth", &self.truth)
            .finish_non_exhaustive()
    }
}
