//! The port of keys: changes them in the order that lets it end anywhere, beside servers too.
//!
//! Begun and ended when nobody writes, for the moment of one transaction each, with the keys that a
//! [`Rotation`] says; in between, rows are sealed anew in portions. Invariant: whoever writes after
//! the beginning seals with the new key, so that what was gone over needs no second look.

use async_trait::async_trait;
use lyceum_memory::{KeyState, Progress, StoreError, StoreKeys};
use lyceum_vault::{Beginning, Keyed, Masters, OpenError, OpenedKeys, Rotation};
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

async fn rotation<'a>(session: &Session, masters: &'a Masters) -> Result<Rotation<'a>, Failure> {
    let mut keyed = Vec::new();
    for (tenant, keys) in all_keys(session).await? {
        let clear = masters.open(&tenant, &keys).map_err(failed)?.clear();
        keyed.push(Keyed {
            tenant,
            keys,
            clear,
        });
    }
    Ok(Rotation { masters, keyed })
}

async fn state(session: &Session, masters: &Masters) -> Result<KeyState, Failure> {
    let rotation = rotation(session, masters).await?;
    Ok(KeyState {
        tenants: rotation.tenants(),
        unsealed: rotation.unsealed(&with_rows(session).await?),
        changing: rotation.changing(),
        outdated: rotation.outdated(),
    })
}

async fn wrap(session: &Session, masters: &Masters) -> Result<u64, Failure> {
    let rotation = rotation(session, masters).await?;
    let wrapped = rotation.wrap().map_err(failed)?;
    for (tenant, key) in &wrapped {
        keep(session, tenant, key).await?;
    }
    Ok(wrapped.len() as u64)
}

async fn begin(session: &Session, masters: &Masters) -> Result<u64, Failure> {
    let rotation = rotation(session, masters).await?;
    let with_rows = with_rows(session).await?;
    let Beginning { tenants, made } = rotation.begin(&with_rows)?;
    for (tenant, key) in &made {
        keep(session, tenant, key).await?;
    }
    Ok(tenants)
}

const DESTROY: &str = "DELETE FROM lyceum.tenant_key WHERE tenant = $1 AND version < $2";

async fn end(session: &Session, masters: &Masters) -> Result<u64, Failure> {
    let rotation = rotation(session, masters).await?;
    let mut destroyed = 0;
    for ending in rotation.end().map_err(failed)? {
        let newest = i64::from(ending.newest);
        destroyed += session.execute(DESTROY, &[&ending.tenant, &newest]).await?;
        if let Some(key) = &ending.key {
            keep(session, ending.tenant, key).await?;
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
                let rotation = rotation(&session, masters).await?;
                Ok::<_, Failure>(rotation.may_be_clear())
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
        Ok(done.await?.map(|done| from.after(done)))
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
