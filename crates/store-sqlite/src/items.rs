//! The store port of graphs: items by shelf and key.
//!
//! Invariant: what has expired is neither given nor counted; each put removes what has expired.
//! Deliberately absent: an index over words or vectors; a search reads what lies below its path.

use futures_util::future::BoxFuture;
use lyceum_graph::{Item, NewItem, Search, Shelf, Store, StoreError};
use rusqlite::{OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    checkpoints::millis,
    error::Failure,
    row::{limit_of, unsigned},
};

/// Expired items that one put removes at most, so that no put waits for many.
const SWEPT: i64 = 64;

fn item_at(row: &Row<'_>) -> rusqlite::Result<(Item, Option<Vec<f32>>)> {
    let (shelf, value): (String, String) = (row.get(0)?, row.get(2)?);
    let value = serde_json::from_str(&value).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into())
    })?;
    let item = Item {
        shelf: Shelf::from_text(&shelf),
        key: row.get(1)?,
        value,
        updated_at_ms: unsigned(row.get(3)?),
        score: 1.0,
    };
    let vector: Option<Vec<u8>> = row.get(4)?;
    Ok((item, vector.map(|bytes| numbers(&bytes))))
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _rest) = bytes.as_chunks();
    numbers.iter().copied().map(f32::from_le_bytes).collect()
}

impl Store for SqliteStore {
    fn put(&self, item: NewItem) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let put = self.write_in_turn("put_item", move |connection, now| {
                let mut sweep = connection.prepare_cached(
                    "DELETE FROM item WHERE (shelf, key) IN ( \
                         SELECT shelf, key FROM item WHERE expires_at <= ?1 LIMIT ?2)",
                )?;
                sweep.execute(params![now.0, SWEPT])?;
                let ends = item.ttl.map(|ttl| now.0.saturating_add(millis(ttl)));
                let vector = item.vector.map(|vector| {
                    let bytes = vector.iter().flat_map(|number| number.to_le_bytes());
                    bytes.collect::<Vec<u8>>()
                });
                let mut put = connection.prepare_cached(
                    "REPLACE INTO item (shelf, key, value, vector, expires_at, updated_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?;
                let (shelf, value) = (item.shelf.as_text(), item.value.to_string());
                put.execute(params![shelf, item.key, value, vector, ends, now.0])?;
                Ok(())
            });
            put.await.map_err(StoreError::backend)
        })
    }

    fn get<'a>(
        &'a self,
        shelf: &'a Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Item>, StoreError>> {
        let (shelf, key) = (shelf.as_text().to_owned(), key.to_owned());
        Box::pin(async move {
            let now = self.now();
            let got = self.read_in_turn("get_item", move |connection| {
                let mut get = connection.prepare_cached(
                    "SELECT shelf, key, value, updated_at, vector FROM item \
                     WHERE shelf = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3)",
                )?;
                let item = get
                    .query_row(params![shelf, key, now.0], item_at)
                    .optional()?;
                Ok(item.map(|(item, _)| item))
            });
            got.await.map_err(StoreError::backend)
        })
    }

    fn delete<'a>(
        &'a self,
        shelf: &'a Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let (shelf, key) = (shelf.as_text().to_owned(), key.to_owned());
        Box::pin(async move {
            let deleted = self.write_in_turn("delete_item", move |connection, now| {
                let mut delete = connection.prepare_cached(
                    "DELETE FROM item WHERE shelf = ?1 AND key = ?2 \
                     RETURNING expires_at IS NULL OR expires_at > ?3",
                )?;
                let was_there = delete.query_row(params![shelf, key, now.0], |row| row.get(0));
                Ok(was_there.optional()?.unwrap_or(false))
            });
            deleted.await.map_err(StoreError::backend)
        })
    }

    fn search(&self, search: Search) -> BoxFuture<'_, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let now = self.now();
            let found = self.read_in_turn("search_items", move |connection| {
                let mut below = connection.prepare_cached(
                    "SELECT shelf, key, value, updated_at, vector FROM item \
                     WHERE shelf >= ?1 AND shelf < ?2 AND (expires_at IS NULL OR expires_at > ?3)",
                )?;
                let (from, to) = (search.prefix.as_text(), search.prefix.text_behind());
                let rows = below.query_map(params![from, to, now.0], item_at)?;
                let items = rows.collect::<rusqlite::Result<Vec<_>>>()?;
                Ok(search.choose(items))
            });
            found.await.map_err(StoreError::backend)
        })
    }

    fn shelves<'a>(
        &'a self,
        prefix: &'a Shelf,
        after: Option<&'a Shelf>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Shelf>, StoreError>> {
        let (from, to) = (prefix.as_text().to_owned(), prefix.text_behind());
        let after = after.map_or_else(String::new, |after| after.as_text().to_owned());
        Box::pin(async move {
            let now = self.now();
            let listed = self.read_in_turn("list_shelves", move |connection| {
                let mut list = connection.prepare_cached(
                    "SELECT DISTINCT shelf FROM item WHERE shelf >= ?1 AND shelf < ?2 \
                     AND shelf > ?3 AND (expires_at IS NULL OR expires_at > ?4) \
                     ORDER BY shelf LIMIT ?5",
                )?;
                let rows = list
                    .query_map(params![from, to, after, now.0, limit_of(limit)], |row| {
                        row.get::<_, String>(0)
                    })?;
                let shelves = rows.collect::<rusqlite::Result<Vec<_>>>()?;
                Ok::<_, Failure>(shelves.iter().map(|text| Shelf::from_text(text)).collect())
            });
            listed.await.map_err(StoreError::backend)
        })
    }
}
