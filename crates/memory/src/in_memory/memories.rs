//! The memory port over plain maps.

use async_trait::async_trait;
use lyceum_core::Scope;

use super::{InMemory, Owner, State};
use crate::{
    AsOf, Beside, MemoryCursor, MemoryId, MemoryKind, MemoryRecord, MemoryStore, NewMemory,
    Recollection, StoreError, Superseded, Times, Timestamp,
    lexical::{Corpus, Document, Posting, query_terms},
};

/// The memories of one owner, in the order of their storing.
#[derive(Debug, Default)]
pub(super) struct Shelf(Vec<(MemoryRecord, Document)>);

impl Shelf {
    pub(super) fn records(&self) -> impl Iterator<Item = &MemoryRecord> {
        self.0.iter().map(|(record, _)| record)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&MemoryRecord) -> bool) {
        self.0.retain(|(record, _)| keep(record));
    }

    /// The episodes of the same session directly before and after this one.
    fn beside(&self, id: &MemoryId) -> impl Iterator<Item = &MemoryRecord> {
        let of = self.find(id);
        let of = of.filter(|one| one.session.is_some() && one.kind == MemoryKind::Episode);
        let session = of.and_then(|one| one.session.as_ref());
        let talk: Vec<&MemoryRecord> = self
            .records()
            .filter(|one| session.is_some() && one.kind == MemoryKind::Episode)
            .filter(|one| one.session.as_ref() == session)
            .collect();
        let place = talk.iter().position(|one| one.id == *id);
        let before = place.and_then(|place| talk.get(place.checked_sub(1)?).copied());
        let after = place.and_then(|place| talk.get(place + 1).copied());
        before.into_iter().chain(after)
    }

    pub(super) fn find(&self, id: &MemoryId) -> Option<&MemoryRecord> {
        self.records().find(|record| record.id == *id)
    }
}

impl State {
    pub(super) fn put(&mut self, scope: &Scope, memory: &NewMemory, now: Timestamp) -> bool {
        let shelf = self.memories.entry(Owner::from(scope)).or_default();
        if shelf.find(&memory.id).is_some() {
            return false;
        }
        let Times {
            created_at,
            recorded_at,
            valid_from,
        } = memory.times(now);
        let recorded = memory.recorded.as_ref();
        let record = MemoryRecord {
            id: memory.id.clone(),
            kind: memory.kind,
            topic: memory.topic.clone(),
            text: memory.text.clone(),
            context: memory.context.clone(),
            importance: memory.importance,
            session: scope.session.clone(),
            created_at,
            valid_from,
            valid_to: memory.valid_to,
            recorded_at,
            superseded: recorded.and_then(|recorded| recorded.superseded.clone()),
        };
        let mut changed = vec![scope.session.clone()];
        for (old, _) in &mut shelf.0 {
            if old.superseded.is_none() && memory.supersedes.contains(&old.id) {
                old.superseded = Some(Superseded {
                    by: memory.id.clone(),
                    at: recorded_at,
                    from: valid_from,
                });
                changed.push(old.session.clone());
            }
        }
        let document = Document::new(&memory.searched());
        shelf.0.push((record, document));
        for session in &changed {
            self.touch(&Owner::from(scope), session.as_ref());
        }
        true
    }

    /// Those of the owner's memories that fit the words and held then.
    fn search(&self, scope: &Scope, as_of: AsOf, query: &str, limit: usize) -> Vec<Recollection> {
        let Some(Shelf(shelf)) = self.memories.get(&scope.into()) else {
            return Vec::new();
        };
        let corpus = Corpus {
            documents: shelf.len() as u64,
            total_length: shelf.iter().map(|(_, d)| u64::from(d.length)).sum(),
        };
        let holding = || {
            let numbered = (0..).zip(shelf);
            numbered.filter(|(_, (record, _))| record.holds(as_of))
        };
        let terms = query_terms(query)
            .iter()
            .map(|term| {
                let holders = holding().filter_map(|(document, (_, of))| {
                    let &count = of.terms.get(term)?;
                    Some(Posting {
                        document,
                        count,
                        length: of.length,
                    })
                });
                holders.collect()
            })
            .collect();
        let scores = corpus.rank(terms, limit);
        let mut found: Vec<Recollection> = holding()
            .filter_map(|(document, (record, _))| {
                let score = scores.get(document)?;
                Some(recollection(record, score))
            })
            .collect();
        found.sort_by(Recollection::by_rank);
        found.truncate(limit);
        found
    }

    /// A page of those of the owner's memories that are wanted.
    fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
        is_wanted: impl Fn(&MemoryRecord) -> bool,
    ) -> Vec<MemoryRecord> {
        let place = |record: &MemoryRecord| (record.created_at, record.id.clone());
        let shelf = self.memories.get(&scope.into());
        let mut records: Vec<MemoryRecord> = shelf
            .into_iter()
            .flat_map(Shelf::records)
            .filter(|r| after.is_none_or(|at| place(r) < (at.created_at, at.id.clone())))
            .filter(|record| is_wanted(record))
            .cloned()
            .collect();
        records.sort_by_key(|record| std::cmp::Reverse(place(record)));
        records.truncate(limit);
        records
    }
}

#[async_trait]
impl MemoryStore for InMemory {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        let now = self.now();
        Ok(self.state().put(scope, memory, now))
    }

    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError> {
        let state = self.state();
        let shelf = state.memories.get(&scope.into());
        Ok(shelf.and_then(|shelf| shelf.find(id)).cloned())
    }

    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let state = self.state();
        let shelf = state.memories.get(&scope.into()).into_iter();
        let asked = shelf.flat_map(Shelf::records);
        let asked = asked.filter(|record| ids.contains(&record.id));
        Ok(asked.cloned().collect())
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        let now = AsOf::at(self.now());
        Ok(self.state().search(scope, now, query, limit))
    }

    async fn search_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        Ok(self.state().search(scope, as_of, query, limit))
    }

    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<Beside>, StoreError> {
        let now = AsOf::at(self.now());
        let state = self.state();
        let Some(shelf) = state.memories.get(&scope.into()) else {
            return Ok(Vec::new());
        };
        let of = |id: &MemoryId| {
            let holding = shelf.beside(id).filter(|record| record.holds(now));
            let beside = holding.map(|record| Beside {
                of: id.clone(),
                memory: recollection(record, 0.0),
            });
            beside.collect::<Vec<_>>()
        };
        Ok(ids.iter().flat_map(of).collect())
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        Ok(self.state().list(scope, after, limit, |_| true))
    }

    async fn list_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        let held = |record: &MemoryRecord| record.holds(as_of);
        Ok(self.state().list(scope, after, limit, held))
    }

    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        let (mut state, owner) = (self.state(), Owner::from(scope));
        let Some(Shelf(rows)) = state.memories.get_mut(&owner) else {
            return Ok(false);
        };
        let place = rows.iter().position(|(record, _)| record.id == *id);
        let Some(place) = place else { return Ok(false) };
        let (record, _) = rows.remove(place);
        state.touch(&owner, record.session.as_ref());
        let key = (owner, id.clone());
        for settled in state.vectors.values_mut() {
            settled.remove(&key);
        }
        Ok(true)
    }
}

fn recollection(record: &MemoryRecord, score: f64) -> Recollection {
    Recollection {
        id: record.id.clone(),
        topic: record.topic.clone(),
        text: record.text.clone(),
        score,
        importance: record.importance,
        created_at: record.created_at,
    }
}
