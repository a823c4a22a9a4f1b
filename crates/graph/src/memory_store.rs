//! The reference store: everything in one map, gone with the process.
//!
//! Invariant: the lock is held for map operations only. Deliberately absent: bounds.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    outlet::now_ms,
    store::{Item, NewItem, Search, Shelf, Store, StoreError},
};

/// Keeps items in memory: for tests, and for what need not survive a restart.
#[derive(Debug, Default)]
pub struct MemoryStore {
    items: Mutex<BTreeMap<(Shelf, String), Kept>>,
}

#[derive(Debug)]
struct Kept {
    value: Value,
    vector: Option<Vec<f32>>,
    until: Option<Instant>,
    updated_at_ms: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The items that have not expired.
    fn items(&self) -> MutexGuard<'_, BTreeMap<(Shelf, String), Kept>> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        items.retain(|_, kept| kept.until.is_none_or(|until| until > now));
        items
    }
}

fn shown((shelf, key): &(Shelf, String), kept: &Kept) -> Item {
    Item {
        shelf: shelf.clone(),
        key: key.clone(),
        value: kept.value.clone(),
        updated_at_ms: kept.updated_at_ms,
        score: 1.0,
    }
}

impl Store for MemoryStore {
    fn put(&self, item: NewItem) -> BoxFuture<'_, Result<(), StoreError>> {
        let kept = Kept {
            value: item.value,
            vector: item.vector,
            until: item.ttl.map(|ttl| Instant::now() + ttl),
            updated_at_ms: now_ms(),
        };
        self.items().insert((item.shelf, item.key), kept);
        ready(Ok(())).boxed()
    }

    fn get<'a>(
        &'a self,
        shelf: &'a Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Item>, StoreError>> {
        let name = (shelf.clone(), key.to_owned());
        let found = self.items().get(&name).map(|kept| shown(&name, kept));
        ready(Ok(found)).boxed()
    }

    fn delete<'a>(
        &'a self,
        shelf: &'a Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let name = (shelf.clone(), key.to_owned());
        ready(Ok(self.items().remove(&name).is_some())).boxed()
    }

    fn search(&self, search: Search) -> BoxFuture<'_, Result<Vec<Item>, StoreError>> {
        let items = self.items();
        let below = items
            .iter()
            .filter(|((shelf, _), _)| shelf.starts_with(&search.prefix));
        let found = search.choose(below.map(|(name, kept)| {
            let vector = kept.vector.clone();
            (shown(name, kept), vector)
        }));
        ready(Ok(found)).boxed()
    }

    fn shelves<'a>(
        &'a self,
        prefix: &'a Shelf,
        after: Option<&'a Shelf>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Shelf>, StoreError>> {
        let items = self.items();
        let mut shelves: Vec<Shelf> = items
            .keys()
            .map(|(shelf, _)| shelf)
            .filter(|shelf| shelf.starts_with(prefix))
            .filter(|shelf| after.is_none_or(|after| *shelf > after))
            .cloned()
            .collect();
        shelves.dedup();
        shelves.truncate(limit);
        ready(Ok(shelves)).boxed()
    }
}
