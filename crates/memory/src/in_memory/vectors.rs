//! The vector port over plain maps.

use std::collections::HashMap;

use async_trait::async_trait;
use lyceum_core::Scope;

use super::{InMemory, Owner};
use crate::{
    AsOf, MemoryId, MemoryRecord, Near, NewVector, StoreError, Unembedded, VectorCount,
    VectorSpace, VectorStore,
    dense::{dot, normalized},
};

/// The settled memories of one space; those without a vector hold `None`.
pub(super) type Vectors = HashMap<(Owner, MemoryId), Option<Vec<f32>>>;

impl Owner {
    pub(super) fn scope(&self) -> Scope {
        Scope {
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            session: None,
        }
    }
}

fn near(record: &MemoryRecord, similarity: f32) -> Near {
    Near {
        id: record.id.clone(),
        topic: record.topic.clone(),
        text: record.text.clone(),
        importance: record.importance,
        created_at: record.created_at,
        similarity,
    }
}

#[async_trait]
impl VectorStore for InMemory {
    async fn unembedded(
        &self,
        space: &VectorSpace,
        limit: usize,
    ) -> Result<Vec<Unembedded>, StoreError> {
        let state = self.state();
        let settled = state.vectors.get(space);
        let mut waiting: Vec<Unembedded> = Vec::new();
        for (owner, shelf) in &state.memories {
            for record in shelf.records() {
                let key = (owner.clone(), record.id.clone());
                if settled.is_none_or(|settled| !settled.contains_key(&key)) {
                    waiting.push(Unembedded {
                        scope: owner.scope(),
                        id: record.id.clone(),
                        topic: record.topic.clone(),
                        text: record.text.clone(),
                        context: record.context.clone(),
                    });
                }
            }
        }
        waiting.truncate(limit);
        Ok(waiting)
    }

    async fn set_vectors(
        &self,
        space: &VectorSpace,
        vectors: &[NewVector],
    ) -> Result<usize, StoreError> {
        for vector in vectors.iter().filter_map(|new| new.vector.as_ref()) {
            space.check(vector)?;
        }
        let mut state = self.state();
        let mut settled = 0;
        for new in vectors {
            let owner = Owner::from(&new.scope);
            let shelf = state.memories.get(&owner);
            if shelf.is_some_and(|shelf| shelf.find(&new.id).is_some()) {
                let vector = new.vector.as_deref().and_then(normalized);
                let space = state.vectors.entry(space.clone()).or_default();
                space.insert((owner, new.id.clone()), vector);
                settled += 1;
            }
        }
        Ok(settled)
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
        let Some(query) = normalized(query) else {
            return Ok(Vec::new());
        };
        let now = AsOf::at(self.now());
        let (state, owner) = (self.state(), Owner::from(scope));
        let (Some(shelf), Some(vectors)) = (state.memories.get(&owner), state.vectors.get(space))
        else {
            return Ok(Vec::new());
        };
        let mut all: Vec<Near> = shelf
            .records()
            .filter(|record| record.holds(now))
            .filter_map(|record| {
                let vector = vectors.get(&(owner.clone(), record.id.clone()))?.as_ref()?;
                Some(near(record, dot(&query, vector)))
            })
            .collect();
        all.sort_by(|a, b| {
            let similarity = b.similarity.total_cmp(&a.similarity);
            similarity.then_with(|| a.id.cmp(&b.id))
        });
        let rest = all.split_off(limit.min(all.len()));
        all.extend(rest.into_iter().filter(|near| also.contains(&near.id)));
        Ok(all)
    }

    async fn count_vectors(&self, space: &VectorSpace) -> Result<VectorCount, StoreError> {
        let state = self.state();
        let memories = state.memories.values().map(|shelf| shelf.records().count());
        let settled = state.vectors.get(space);
        let vectors = settled.map_or(0, |all| all.values().flatten().count());
        Ok(VectorCount {
            memories: memories.sum::<usize>() as u64,
            settled: settled.map_or(0, HashMap::len) as u64,
            vectors: vectors as u64,
            missed: 0,
        })
    }

    async fn forget_vectors(&self, space: &VectorSpace) -> Result<u64, StoreError> {
        let gone = self.state().vectors.remove(space);
        Ok(gone.map_or(0, |all| all.values().flatten().count() as u64))
    }
}
