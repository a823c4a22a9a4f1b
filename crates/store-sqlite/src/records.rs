//! The record port: documents as rows, one savepoint per call.
//!
//! Invariant: a call whose expectation is not met is undone as a whole.

use async_trait::async_trait;
use lyceum_core::{Expect, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId};
use lyceum_memory::StoreError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    row::{id_at, integer, limit_of, unsigned},
};

const COLUMNS: &str = "name, grouped, seq, revision, body";

fn record_at(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: row.get(0)?,
        group: row.get(1)?,
        seq: unsigned(row.get(2)?),
        revision: unsigned(row.get(3)?),
        body: row.get(4)?,
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

fn apply(connection: &Connection, tenant: &TenantId, write: &RecordWrite) -> rusqlite::Result<()> {
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
        } => connection
            .prepare_cached(
                "INSERT INTO record (tenant, kind, name, grouped, revision, body) \
                 VALUES (?1, ?2, ?3, ?4, 1, ?5) ON CONFLICT (tenant, kind, name) DO UPDATE SET \
                 grouped = excluded.grouped, body = excluded.body, revision = revision + 1",
            )?
            .execute(params![tenant.as_str(), kind, id, group, body])?,
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
            for write in &writes {
                apply(connection, &tenant, write)?;
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
            let found = select.query_row(params![tenant.as_str(), kind, id], record_at);
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
            let rows = match group {
                Some(group) => connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM record WHERE tenant = ?1 AND kind = ?2 \
                         AND grouped = ?3 AND seq < ?4 ORDER BY seq DESC LIMIT ?5"
                    ))?
                    .query_map(
                        params![tenant.as_str(), kind, group, before, limit],
                        record_at,
                    )?
                    .collect::<rusqlite::Result<_>>(),
                None => connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM record WHERE tenant = ?1 AND kind = ?2 \
                         AND seq < ?3 ORDER BY seq DESC LIMIT ?4"
                    ))?
                    .query_map(params![tenant.as_str(), kind, before, limit], record_at)?
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
            let rows = select.query_map([kind], |row| {
                Ok((id_at(row, 5, TenantId::new)?, record_at(row)?))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        });
        listed.await.map_err(failed)
    }
}
