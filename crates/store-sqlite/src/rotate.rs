//! The port of keys: changes them in the order that lets it end anywhere.
//!
//! Begun and ended in one transaction each, with the keys that a [`Rotation`] says; in between, rows
//! are sealed anew in portions.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lyceum_memory::{KeyState, Progress, StoreError, StoreKeys};
use lyceum_vault::{Beginning, Clear, Keyed, Masters, Rotation, Wrapped};

use crate::{
    SqliteStore,
    error::Failure,
    resealing,
    sealed::{Db, Keys},
};

/// A portion of rows, and the name of what they are.
type Step = fn(&Db<'_>, i64) -> Result<resealing::Done, Failure>;

/// In this order: words are read from memories, so they come last.
const STEPS: [Step; 5] = [
    resealing::sessions,
    resealing::memories,
    resealing::vectors,
    resealing::records,
    resealing::words,
];

fn masters(keys: &Keys) -> Result<&Masters, Failure> {
    let missing = || {
        Failure::Store(StoreError::Internal {
            source: "the store was opened without a master key: give it one with \
                     privacy.encryption_key_file"
                .into(),
        })
    };
    keys.masters().ok_or_else(missing)
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Store(StoreError::Internal {
        source: source.into(),
    })
}

fn names(db: &Db<'_>, sql: &str) -> rusqlite::Result<BTreeSet<String>> {
    let mut select = db.prepare(sql)?;
    let names = select.query_map([], |row| row.get(0))?;
    names.collect()
}

/// The tenants that have keys, with these.
fn all(db: &Db<'_>) -> Result<Vec<(String, Vec<Wrapped>)>, Failure> {
    let tenants = names(db, "SELECT DISTINCT tenant FROM tenant_key")?;
    let with = |tenant: String| Ok((tenant.clone(), db.wrapped(&tenant)?));
    tenants.into_iter().map(with).collect()
}

fn with_rows(db: &Db<'_>) -> rusqlite::Result<BTreeSet<String>> {
    names(
        db,
        "SELECT tenant FROM owner UNION SELECT tenant FROM record",
    )
}

fn rotation<'a>(db: &Db<'a>) -> Result<Rotation<'a>, Failure> {
    let masters = masters(db.keys)?;
    let keyed = all(db)?.into_iter().map(|(tenant, keys)| {
        let texts = db.texts(&tenant)?;
        let clear = texts.keys().map_or(Clear::Refused, |keys| keys.clear());
        Ok(Keyed {
            tenant,
            keys,
            clear,
        })
    });
    let keyed = keyed.collect::<Result<_, Failure>>()?;
    Ok(Rotation { masters, keyed })
}

fn state(db: &Db<'_>) -> Result<KeyState, Failure> {
    let rotation = rotation(db)?;
    Ok(KeyState {
        tenants: rotation.tenants(),
        unsealed: rotation.unsealed(&with_rows(db)?),
        changing: rotation.changing(),
        outdated: rotation.outdated(),
    })
}

fn wrap(db: &Db<'_>) -> Result<u64, Failure> {
    let rotation = rotation(db)?;
    let wrapped = rotation.wrap().map_err(failed)?;
    for (tenant, key) in &wrapped {
        db.keep(tenant, key)?;
    }
    Ok(wrapped.len() as u64)
}

fn begin(db: &Db<'_>) -> Result<u64, Failure> {
    let (rotation, with_rows) = (rotation(db)?, with_rows(db)?);
    let Beginning { tenants, made } = rotation.begin(&with_rows).map_err(failed)?;
    for (tenant, key) in &made {
        db.keep(tenant, key)?;
    }
    Ok(tenants)
}

fn end(db: &Db<'_>) -> Result<u64, Failure> {
    let rotation = rotation(db)?;
    let mut destroyed = 0;
    for ending in rotation.end().map_err(failed)? {
        destroyed += db
            .prepare_cached("DELETE FROM tenant_key WHERE tenant = ?1 AND version < ?2")?
            .execute((ending.tenant, ending.newest))? as u64;
        if let Some(key) = &ending.key {
            db.keep(ending.tenant, key)?;
        }
    }
    Ok(destroyed)
}

#[async_trait]
impl StoreKeys for SqliteStore {
    async fn key_state(&self) -> Result<KeyState, StoreError> {
        self.read("key_state", state).await
    }

    async fn wrap_keys(&self) -> Result<u64, StoreError> {
        let wrapped = self.write("wrap_keys", |db, _| wrap(db)).await?;
        self.forget_pages().await?;
        Ok(wrapped)
    }

    async fn begin_keys(&self) -> Result<u64, StoreError> {
        self.write("begin_keys", |db, _| begin(db)).await
    }

    async fn reseal(&self, from: Progress) -> Result<Option<Progress>, StoreError> {
        self.write("reseal", move |db, _| {
            let Some(step) = STEPS.get(from.step as usize) else {
                return Ok(None);
            };
            Ok(Some(from.after(step(db, from.row)?)))
        })
        .await
    }

    async fn end_keys(&self) -> Result<u64, StoreError> {
        let destroyed = self.write("end_keys", |db, _| end(db)).await?;
        self.keys().forget();
        self.forget_pages().await?;
        Ok(destroyed)
    }
}
