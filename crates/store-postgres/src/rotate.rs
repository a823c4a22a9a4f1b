//! The port of keys: changes them in the order that lets it end anywhere, beside servers too.
//!
//! Begun and ended when nobody writes, for the moment of one transaction each; in between, rows are
//! sealed anew in portions. A tenant with two keys, or with one that accepts clear rows, is in the
//! middle of it. Invariant: whoever writes after the beginning seals with the new key, so that what
//! was gone over needs no second look.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lyceum_memory::{KeyState, Progress, StoreError, StoreKeys};
use lyceum_vault::{Clear, KeyRing, Masters, OpenError, OpenedKeys, Wrapped};
use tokio_postgres::NoTls;

use crate::{
    PostgresStore,
    connection::{Session, Whose},
    error::Failure,
    pool::Held,
    resealing,
    sealing::{all_keys, keep, with_rows},
};

/// What holds texts, or held them.
const REWRITTEN: [&str; 11] = [
    "session",
    "turn",
    "message",
    "memory",
    "posting",
    "job",
    "record",
    "embedding",
    "checkpoint",
    "channel_value",
    "task_record",
];

fn masters(keys: &OpenedKeys) -> Result<&Masters, Failure> {
    let missing = || {
        Failure::Store(StoreError::Internal {
            source: "the store was opened without a master key: give it one with \
                     privacy.encryption_key_file"
                .into(),
        })
    };
    keys.masters().ok_or_else(missing)
}

fn failed(source: OpenError) -> Failure {
    Failure::Store(StoreError::Internal {
        source: source.into(),
    })
}

fn accepts(masters: &Masters, tenant: &str, keys: &[Wrapped]) -> Result<bool, Failure> {
    let opened = masters.open(tenant, keys).map_err(failed)?;
    Ok(opened.clear() == Clear::Accepted)
}

async fn state(session: &Session, masters: &Masters) -> Result<KeyState, Failure> {
    let mut state = KeyState::default();
    let mut sealed = BTreeSet::new();
    for (tenant, keys) in all_keys(session).await? {
        state.tenants += 1;
        state.changing += u64::from(keys.len() > 1);
        let newest = |key: &Wrapped| KeyRing::sealed_by(&key.bytes) == Ok(masters.newest());
        state.outdated += u64::from(!keys.iter().all(newest));
        if !accepts(masters, &tenant, &keys)? {
            sealed.insert(tenant);
        }
    }
    let clear = with_rows(session).await?;
    state.unsealed = clear.difference(&sealed).count() as u64;
    Ok(state)
}

async fn wrap(session: &Session, masters: &Masters) -> Result<u64, Failure> {
    let mut wrapped = 0;
    for (tenant, keys) in all_keys(session).await? {
        let clear = match accepts(masters, &tenant, &keys)? {
            true => Clear::Accepted,
            false => Clear::Refused,
        };
        for key in &keys {
            if let Some(anew) = masters.rewrap(&tenant, key, clear).map_err(failed)? {
                keep(session, &tenant, &anew).await?;
                wrapped += 1;
            }
        }
    }
    Ok(wrapped)
}

async fn begin(session: &Session, masters: &Masters) -> Result<u64, Failure> {
    let known = all_keys(session).await?;
    let (mut under_way, mut begun) = (0, 0);
    for (tenant, keys) in &known {
        let is_clear = accepts(masters, tenant, keys)?;
        under_way += u64::from(keys.len() > 1 || is_clear);
    }
    let have: BTreeSet<&String> = known.iter().map(|(tenant, _)| tenant).collect();
    let with_rows = with_rows(session).await?;
    for tenant in with_rows.iter().filter(|tenant| !have.contains(tenant)) {
        let key = masters.make(tenant, None, Clear::Accepted)?;
        keep(session, tenant, &key).await?;
        begun += 1;
    }
    if under_way + begun == 0 {
        for (tenant, keys) in &known {
            let newest = keys.last().map(|key| key.version);
            let key = masters.make(tenant, newest, Clear::Refused)?;
            keep(session, tenant, &key).await?;
            begun += 1;
        }
    }
    Ok(under_way + begun)
}

const DESTROY: &str = "DELETE FROM lyceum.tenant_key WHERE tenant = $1 AND version < $2";

async fn end(session: &Session, masters: &Masters) -> Result<u64, Failure> {
    let mut destroyed = 0;
    for (tenant, keys) in all_keys(session).await? {
        let Some(newest) = keys.last() else { continue };
        let version = i64::from(newest.version);
        destroyed += session.execute(DESTROY, &[&tenant, &version]).await?;
        let sealed = masters.rewrap(&tenant, newest, Clear::Refused);
        if let Some(sealed) = sealed.map_err(failed)? {
            keep(session, &tenant, &sealed).await?;
        }
    }
    Ok(destroyed)
}

impl PostgresStore {
    /// Whether some rows may have been clear before.
    async fn was_clear(&self) -> Result<bool, StoreError> {
        self.operate("was_clear", |session: Held| async move {
            let masters = masters(self.keys())?;
            let work = async {
                for (tenant, keys) in all_keys(&session).await? {
                    if accepts(masters, &tenant, &keys)? {
                        return Ok(true);
                    }
                }
                Ok::<_, Failure>(false)
            };
            session.snapshot(Whose::Operator, work).await
        })
        .await
    }

    /// Writes all tables with texts anew, so that nothing is left in their files of what was
    /// written over. Whoever uses a table waits meanwhile.
    async fn rewrite(&self) -> Result<(), StoreError> {
        let rewritten = async {
            let (client, connection) = self.config().connect(NoTls).await?;
            let work = async {
                // A large table takes longer than any call.
                client.batch_execute("SET statement_timeout = 0").await?;
                let there = "SELECT to_regclass($1) IS NOT NULL";
                for table in REWRITTEN {
                    let table = format!("lyceum.{table}");
                    if client.query_one(there, &[&table]).await?.try_get(0)? {
                        let rewrite = format!("VACUUM (FULL) {table}");
                        client.batch_execute(&rewrite).await?;
                    }
                }
                Ok(())
            };
            tokio::select! {
                biased;
                done = work => done,
                ended = connection => ended,
            }
        };
        rewritten.await.map_err(|error| Failure::from(error).into())
    }
}

#[async_trait]
impl StoreKeys for PostgresStore {
    async fn key_state(&self) -> Result<KeyState, StoreError> {
        self.operate("key_state", |session: Held| async move {
            let work = state(&session, masters(self.keys())?);
            session.snapshot(Whose::Operator, work).await
        })
        .await
    }

    async fn wrap_keys(&self) -> Result<u64, StoreError> {
        self.operate("wrap_keys", |session: Held| async move {
            let work = wrap(&session, masters(self.keys())?);
            session.change_keys(Whose::Operator, work).await
        })
        .await
    }

    async fn begin_keys(&self) -> Result<u64, StoreError> {
        self.operate("begin_keys", |session: Held| async move {
            let work = begin(&session, masters(self.keys())?);
            session.change_keys(Whose::Operator, work).await
        })
        .await
    }

    async fn reseal(&self, from: Progress) -> Result<Option<Progress>, StoreError> {
        let done = self.operate("reseal", |session: Held| async move {
            let keys = self.keys();
            let work = async {
                // In this order: words are read from memories, so they come last.
                Ok::<_, Failure>(Some(match from.step {
                    0 => resealing::sessions(&session, keys, from.row).await?,
                    1 => resealing::memories(&session, keys, from.row).await?,
                    2 => resealing::records(&session, keys, from.row).await?,
                    3 => resealing::words(&session, keys, from.row).await?,
                    4 => resealing::vectors(&session).await?,
                    _ => return Ok(None),
                }))
            };
            session.write(Whose::Operator, |_| work).await
        });
        Ok(done.await?.map(|done| match done {
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
    }

    async fn end_keys(&self) -> Result<u64, StoreError> {
        // Before it counts as done, so that it is done again where it was cut off.
        if self.was_clear().await? {
            self.rewrite().await?;
        }
        let destroyed = self.operate("end_keys", |session: Held| async move {
            let work = end(&session, masters(self.keys())?);
            session.change_keys(Whose::Operator, work).await
        });
        let destroyed = destroyed.await?;
        self.keys().forget();
        Ok(destroyed)
    }
}
