//! The port of keys: changes them in the order that lets it end anywhere.
//!
//! Begun and ended in one transaction each; in between, rows are sealed anew in portions. A tenant
//! with two keys, or with one that accepts clear rows, is in the middle of it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lyceum_memory::{KeyState, Progress, StoreError, StoreKeys};
use lyceum_vault::{Clear, KeyRing, Masters, Wrapped};

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

fn accepts(db: &Db<'_>, tenant: &str) -> Result<bool, Failure> {
    let texts = db.texts(tenant)?;
    Ok(texts
        .keys()
        .is_some_and(|keys| keys.clear() == Clear::Accepted))
}

fn state(db: &Db<'_>) -> Result<KeyState, Failure> {
    let masters = masters(db.keys)?;
    let mut state = KeyState::default();
    let mut sealed = BTreeSet::new();
    for (tenant, keys) in all(db)? {
        state.tenants += 1;
        state.changing += u64::from(keys.len() > 1);
        let newest = |key: &Wrapped| KeyRing::sealed_by(&key.bytes) == Ok(masters.newest());
        state.outdated += u64::from(!keys.iter().all(newest));
        if !accepts(db, &tenant)? {
            sealed.insert(tenant);
        }
    }
    let clear = with_rows(db)?;
    state.unsealed = clear.difference(&sealed).count() as u64;
    Ok(state)
}

fn wrap(db: &Db<'_>) -> Result<u64, Failure> {
    let masters = masters(db.keys)?;
    let mut wrapped = 0;
    for (tenant, keys) in all(db)? {
        let clear = match accepts(db, &tenant)? {
            true => Clear::Accepted,
            false => Clear::Refused,
        };
        for key in &keys {
            if let Some(anew) = masters.rewrap(&tenant, key, clear).map_err(failed)? {
                db.keep(&tenant, &anew)?;
                wrapped += 1;
            }
        }
    }
    Ok(wrapped)
}

fn begin(db: &Db<'_>) -> Result<u64, Failure> {
    let masters = masters(db.keys)?;
    let known = all(db)?;
    let mut under_way = known.iter().filter(|(_, keys)| keys.len() > 1).count() as u64;
    for (tenant, _) in &known {
        under_way += u64::from(accepts(db, tenant)?);
    }
    let have: BTreeSet<&String> = known.iter().map(|(tenant, _)| tenant).collect();
    let mut begun = 0;
    for tenant in with_rows(db)?
        .iter()
        .filter(|tenant| !have.contains(tenant))
    {
        let key = masters.make(tenant, None, Clear::Accepted);
        db.keep(tenant, &key.map_err(failed)?)?;
        begun += 1;
    }
    if under_way + begun == 0 {
        for (tenant, keys) in &known {
            let newest = keys.last().map(|key| key.version);
            let key = masters.make(tenant, newest, Clear::Refused);
            db.keep(tenant, &key.map_err(failed)?)?;
            begun += 1;
        }
    }
    Ok(under_way + begun)
}

fn end(db: &Db<'_>) -> Result<u64, Failure> {
    let masters = masters(db.keys)?;
    let mut destroyed = 0;
    for (tenant, mut keys) in all(db)? {
        let Some(newest) = keys.pop() else { continue };
        for old in keys {
            destroyed += db
                .prepare_cached("DELETE FROM tenant_key WHERE tenant = ?1 AND version = ?2")?
                .execute((&tenant, old.version))? as u64;
        }
        let sealed = masters.rewrap(&tenant, &newest, Clear::Refused);
        if let Some(sealed) = sealed.map_err(failed)? {
            db.keep(&tenant, &sealed)?;
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
            Ok(Some(match step(db, from.row)? {
                Some((row, sealed)) => Progress {
                    row,
                    sealed: from.sealed + sealed,
                    ..from
                },
                None => Progress {
                    step: from.step + 1,
                    row: 0,
                    ..from
                },
            }))
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
