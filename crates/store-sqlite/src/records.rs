//! The record port: documents as rows, one savepoint per call.
//!
//! Invariant: a call whose expectation is not met is undone as a whole.

use async_trait::async_trait;
use lyceum_core::{Expect, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId};
use lyceum_memory::StoreError;
use lyceum_vault::places;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    error::Failure,
    row::{id_at, integer, limit_of, unsigned},
    sealed::{Texts, sealed_row},
    sessions::kept,
};

const COLUMNS: &str = "name, grouped, seq, revision, body, sealed, kind";

fn record_at(row: &Row<'_>, texts: &Texts) -> rusqlite::Result<Record> {
    let (id, group, kind): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(6)?);
    let (sealed, clear) = (row.get(5)?, [row.get(4)?]);
    let [body] = places::record((&kind, &id, &group), |at| texts.open(at, sealed, clear))?;
    Ok(Record {
        id,
        group,
        seq: unsigned(row.get(2)?),
        revision: unsigned(row.get(3)?),
        body,
    })
}

fn is_met(
    connection: &Connection,
    tenant: &TenantId,
    write: &RecordWrite,
) -> rusqlite::Result<bool> {
    let RecordWrite::Put {
        kind, id, expect, ..
    } = write
    else {
        return Ok(true);
    };
    if *expect == Expect::Anything {
        return Ok(true);
    }
    let found: Option<i64> = connection
        .prepare_cached(
            "SELECT revision FROM record WHERE tenant = ?1 AND kind = ?2 AND name = ?3",
        )?
        .query_row(params![tenant.as_str(), kind, id], |row| row.get(0))
        .optional()?;
    Ok(match expect {
        Expect::Anything => true,
        Expect::Absent => found.is_none(),
        Expect::Revision(revision) => found == Some(integer(*revision)),
    })
}

fn apply(
    connection: &Connection,
    tenant: &TenantId,
    texts: &Texts,
    write: &RecordWrite,
) -> Result<(), Failure> {
    match write {
        RecordWrite::Delete { kind, id } => connection
            .prepare_cached("DELETE FROM record WHERE tenant = ?1 AND kind = ?2 AND name = ?3")?
            .execute(params![tenant.as_str(), kind, id])?,
        RecordWrite::Put {
            kind,
            id,
            group,
            body,
            ..
        } => {
            let (body, sealed) = places::record((kind, id, group), |at| kept(texts, at, body))?;
            connection
                .prepare_cached(
                    "INSERT INTO record (tenant, kind, name, grouped, revision, body, sealed) \
                     VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6) \
                     ON CONFLICT (tenant, kind, name) DO UPDATE SET \
                     grouped = excluded.grouped, body = excluded.body, \
                     sealed = excluded.sealed, revision = revision + 1",
                )?
                .execute(params![tenant.as_str(), kind, id, group, body, sealed])?
        }
    };
    Ok(())
}

fn failed(error: StoreError) -> RecordError {
    RecordError {
        retryable: error.is_retryable(),
        source: error.into(),
    }
}

#[async_trait]
impl RecordStore for SqliteStore {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        let tenant = tenant.clone();
        let written = SqliteStore::write(self, "write_records", move |connection, _| {
            for write in &writes {
                if !is_met(connection, &tenant, write)? {
                    return Ok(false);
                }
            }
            let is_put = |write: &RecordWrite| matches!(write, RecordWrite::Put { .. });
            // Deleting alone makes no key.
            let texts = match writes.iter().any(is_put) {
                true => connection.texts_to_write(tenant.as_str())?,
                false => connection.texts(tenant.as_str())?,
            };
            for write in &writes {
                apply(connection, &tenant, &texts, write)?;
            }
            Ok(true)
        });
        written.await.map_err(failed)
    }

    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        let read = SqliteStore::read(self, "read_record", move |connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM record WHERE tenant = ?1 AND kind = ?2 AND name = ?3"
            ))?;
            let texts = connection.texts(tenant.as_str())?;
            let found = select.query_row(params![tenant.as_str(), kind, id], |row| {
                record_at(row, &texts)
            });
            Ok(found.optional()?)
        });
        read.await.map_err(failed)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        let (tenant, kind) = (tenant.clone(), list.kind);
        let (before, limit) = (list.before.map_or(i64::MAX, integer), limit_of(list.limit));
        let group = list.group.map(str::to_owned);
        let listed = SqliteStore::read(self, "list_records", move |connection| {
            let texts = connection.texts(tenant.as_str())?;
            let rows = match group {
                Some(group) => connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM record WHERE tenant = ?1 AND kind = ?2 \
                         AND grouped = ?3 AND seq < ?4 ORDER BY seq DESC LIMIT ?5"
                    ))?
                    .query_map(
                        params![tenant.as_str(), kind, group, before, limit],
                        |row| record_at(row, &texts),
                    )?
                    .collect::<rusqlite::Result<_>>(),
                None => connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM record WHERE tenant = ?1 AND kind = ?2 \
                         AND seq < ?3 ORDER BY seq DESC LIMIT ?4"
                    ))?
                    .query_map(params![tenant.as_str(), kind, before, limit], |row| {
                        record_at(row, &texts)
                    })?
                    .collect(),
            };
            Ok(rows?)
        });
        listed.await.map_err(failed)
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        let listed = SqliteStore::read(self, "every_record", move |connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT {COLUMNS}, tenant FROM record WHERE kind = ?1 ORDER BY seq"
            ))?;
            let mut rows = select.query([kind])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let tenant = id_at(row, 7, TenantId::new)?;
                let texts = connection.texts(tenant.as_str())?;
                match record_at(row, &texts) {
                    Ok(record) => all.push((tenant, record)),
                    // Those of other tenants are needed all the same.
                    Err(error) if sealed_row(&error).is_some() => {
                        tracing::error!(error = %error, "a record is passed over: it does not open");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(all)
        });
        listed.await.map_err(failed)
    }
}
