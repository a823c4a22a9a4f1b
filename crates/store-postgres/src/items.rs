//! The store port of graphs: items by shelf and key.
//!
//! Invariant: what has expired is neither given nor counted; each put removes what has expired.
//! Deliberately absent: an index over words or vectors; a search reads what lies below its path.

use futures_util::future::BoxFuture;
use lyceum_graph::{Item, NewItem, Search, Shelf, Store, StoreError};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    error::Failure,
    pool::Held,
    row::{limit_of, millis, unsigned},
};

/// Expired items are removed with a put, few at a time, so that no put waits for many.
const PUT: &str = "\
    WITH swept AS ( \
        DELETE FROM lyceum.item WHERE (shelf, key) IN ( \
            SELECT shelf, key FROM lyceum.item \
            WHERE expires_at <= lyceum.now_ms() AND (shelf, key) <> ($1, $2) LIMIT 64 \
            FOR UPDATE SKIP LOCKED) \
    ) \
    INSERT INTO lyceum.item (shelf, key, value, vector, expires_at, updated_at) \
    VALUES ($1, $2, $3, $4, lyceum.now_ms() + $5, lyceum.now_ms()) \
    ON CONFLICT (shelf, key) DO UPDATE SET value = excluded.value, vector = excluded.vector, \
        expires_at = excluded.expires_at, updated_at = excluded.updated_at";

const GET: &str = "\
    SELECT shelf, key, value, updated_at, vector FROM lyceum.item \
    WHERE shelf = $1 AND key = $2 AND (expires_at IS NULL OR expires_at > lyceum.now_ms())";

const DELETE: &str = "\
    DELETE FROM lyceum.item WHERE shelf = $1 AND key = $2 \
    RETURNING expires_at IS NULL OR expires_at > lyceum.now_ms()";

const BELOW: &str = "\
    SELECT shelf, key, value, updated_at, vector FROM lyceum.item \
    WHERE shelf >= $1 AND shelf < $2 AND (expires_at IS NULL OR expires_at > lyceum.now_ms())";

const SHELVES: &str = "\
    SELECT DISTINCT shelf FROM lyceum.item \
    WHERE shelf >= $1 AND shelf < $2 AND shelf > $3 \
        AND (expires_at IS NULL OR expires_at > lyceum.now_ms()) \
    ORDER BY shelf LIMIT $4";

fn item_of(row: &Row) -> Result<(Item, Option<Vec<f32>>), Failure> {
    let key: Vec<u8> = row.try_get(1)?;
    let item = Item {
        shelf: Shelf::from_text(row.try_get(0)?),
        key: String::from_utf8(key).map_err(Failure::corrupt)?,
        value: serde_json::from_str(row.try_get(2)?).map_err(Failure::corrupt)?,
        updated_at_ms: unsigned(row.try_get(3)?),
        score: 1.0,
    };
    Ok((item, row.try_get(4)?))
}

impl Store for PostgresStore {
    fn put(&self, item: NewItem) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (shelf, key) = (item.shelf.as_text(), item.key.as_bytes());
            let (value, vector) = (&item.value.to_string(), &item.vector);
            let ttl = &item.ttl.map(millis);
            let put = self.call_in_turn("put_item", |session: Held| async move {
                session
                    .execute(PUT, &[&shelf, &key, value, vector, ttl])
                    .await?;
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
        Box::pin(async move {
            let (shelf, key) = (shelf.as_text(), key.as_bytes());
            let got = self.call_in_turn("get_item", |session: Held| async move {
                let row = session.query_opt(GET, &[&shelf, &key]).await?;
                Ok(row.as_ref().map(item_of).transpose()?.map(|(item, _)| item))
            });
            got.await.map_err(StoreError::backend)
        })
    }

    fn delete<'a>(
        &'a self,
        shelf: &'a Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let (shelf, key) = (shelf.as_text(), key.as_bytes());
            let deleted = self.call_in_turn("delete_item", |session: Held| async move {
                let row = session.query_opt(DELETE, &[&shelf, &key]).await?;
                Ok(row.map_or(Ok(false), |row| row.try_get(0))?)
            });
            deleted.await.map_err(StoreError::backend)
        })
    }

    fn search(&self, search: Search) -> BoxFuture<'_, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let (from, to) = (search.prefix.as_text(), &search.prefix.text_behind());
            let found = self.call_in_turn("search_items", |session: Held| async move {
                let rows = session.query(BELOW, &[&from, to]).await?;
                rows.iter().map(item_of).collect::<Result<Vec<_>, _>>()
            });
            let items = found.await.map_err(StoreError::backend)?;
            Ok(search.choose(items))
        })
    }

    fn shelves<'a>(
        &'a self,
        prefix: &'a Shelf,
        after: Option<&'a Shelf>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Shelf>, StoreError>> {
        Box::pin(async move {
            let (from, to) = (prefix.as_text(), &prefix.text_behind());
            let (after, limit) = (after.map_or("", Shelf::as_text), limit_of(limit));
            let listed = self.call_in_turn("list_shelves", |session: Held| async move {
                let rows = session.query(SHELVES, &[&from, to, &after, &limit]).await?;
                let shelf = |row: &Row| Ok(Shelf::from_text(row.try_get(0)?));
                rows.iter().map(shelf).collect::<Result<Vec<_>, Failure>>()
            });
            listed.await.map_err(StoreError::backend)
        })
    }
}
