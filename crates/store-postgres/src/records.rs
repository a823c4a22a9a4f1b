//! The record port: documents as rows, one round trip per call.
//!
//! Invariant: a call whose expectation is not met is undone as a whole, and one whose answer was
//! lost finds what it wrote when it is repeated, where a record that it wrote is left; one that only
//! removes is done once more, and one that expected what it removed then says that it was not done.
//! What a record is expected to be is judged while its row is locked, so of two processes that
//! replace one revision exactly one does.
//! Deliberately absent: a word about what a body holds.

use std::collections::{HashMap, hash_map::Entry};

use async_trait::async_trait;
use lyceum_core::{Expect, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId};
use lyceum_memory::StoreError;
use lyceum_vault::{OpenedKeys, Texts, places};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    connection::{Begun, Param, Session, Whose},
    error::Failure,
    pool::Held,
    row::{id, integer, limit_of, text, unsigned},
    sealing::{kept, opened, texts_seen, to_change, to_write},
    text::stored,
};

const WRITE: &str = "\
    SELECT lyceum.write_records($1, $2, $3::text[], $4::text[], $5::text[], $6::text[], \
        $7::bigint[], $8::bytea[])";

/// What the server says when another call was faster in creating a record.
const CREATED_MEANWHILE: &str = "LY001";

/// What the server says where a clear body would be written beside sealed ones.
const SEALED_MEANWHILE: &str = "LY002";

/// The columns of a record, in the order in which [`record_of`] reads them.
macro_rules! select {
    ($columns:literal, $which:literal) => {
        concat!(
            "SELECT name, grouped, seq, revision, body, sealed",
            $columns,
            " FROM lyceum.record ",
            $which
        )
    };
}

pub(crate) const READ: &str = select!("", "WHERE tenant = $1 AND kind = $2 AND name = $3");

pub(crate) const LIST: &str = select!(
    "",
    "WHERE tenant = $1 AND kind = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4"
);

pub(crate) const LIST_GROUP: &str = select!(
    "",
    "WHERE tenant = $1 AND kind = $2 AND seq < $3 AND grouped = $5 ORDER BY seq DESC LIMIT $4"
);

pub(crate) const EVERY: &str = select!(
    ", tenant",
    "WHERE kind = $1 AND seq > $2 ORDER BY seq LIMIT $3"
);

/// Records of all tenants that are read at once.
const PAGE: i64 = 1_000;

/// Removes the records of a tenant.
pub(crate) const ERASE: &str = "DELETE FROM lyceum.record WHERE tenant = $1";

fn record_of(row: &Row, kind: &str, texts: &Texts) -> Result<Record, Failure> {
    let (id, group) = (text(row, 0)?, text(row, 1)?);
    let columns = (row.try_get(4)?, row.try_get(5)?);
    let body = places::record((kind, &id, &group), |at| opened(texts, at, columns))?;
    Ok(Record {
        id,
        group,
        seq: unsigned(row.try_get(2)?),
        revision: unsigned(row.try_get(3)?),
        body,
    })
}

fn failed(error: StoreError) -> RecordError {
    RecordError {
        retryable: error.is_retryable(),
        source: error.into(),
    }
}

/// Writes as the arrays that the statement takes.
#[derive(Default)]
struct Columns {
    kinds: Vec<&'static str>,
    names: Vec<String>,
    groups: Vec<Option<String>>,
    bodies: Vec<Option<String>>,
    expected: Vec<i64>,
    seals: Vec<Option<Vec<u8>>>,
}

impl Columns {
    fn new(writes: &[RecordWrite], texts: &Texts) -> Result<Self, Failure> {
        let mut columns = Self::default();
        for write in writes {
            let (kind, name, group, body, expect) = match write {
                RecordWrite::Put {
                    kind,
                    id,
                    group,
                    body,
                    expect,
                } => (kind, id, Some(group), Some(body), expect),
                RecordWrite::Delete { kind, id } => (kind, id, None, None, &Expect::Anything),
            };
            let (body, seal) = match body {
                Some(body) => {
                    let group = group.map_or("", String::as_str);
                    let (body, seal) =
                        places::record((kind, name, group), |at| kept(texts, at, body))?;
                    (Some(body.into_owned()), seal)
                }
                None => (None, None),
            };
            columns.kinds.push(kind);
            columns.names.push(stored(name).into_owned());
            columns
                .groups
                .push(group.map(|group| stored(group).into_owned()));
            columns.bodies.push(body);
            columns.seals.push(seal);
            columns.expected.push(match expect {
                Expect::Anything => -1,
                Expect::Absent => 0,
                Expect::Revision(revision) => integer(*revision),
            });
        }
        Ok(columns)
    }

    fn params<'p>(&'p self, tenant: &'p &'p str, token: &'p i64) -> [Param<'p>; 8] {
        [
            tenant,
            token,
            &self.kinds,
            &self.names,
            &self.groups,
            &self.bodies,
            &self.expected,
            &self.seals,
        ]
    }
}

/// Writes in the transaction that began so. Deleting alone makes no key.
async fn write_sealed(
    session: &Session,
    keys: &OpenedKeys,
    (tenant, token): (&str, i64),
    writes: &[RecordWrite],
    begun: Begun,
) -> Result<Vec<Row>, Failure> {
    let is_put = |write: &RecordWrite| matches!(write, RecordWrite::Put { .. });
    let texts = match writes.iter().any(is_put) {
        true => to_write(keys, tenant, begun)?,
        false => to_change(keys, tenant, begun)?,
    };
    let columns = Columns::new(writes, &texts)?;
    Ok(session
        .query(WRITE, &columns.params(&tenant, &token))
        .await?)
}

fn code_of(failure: &Failure) -> Option<&str> {
    match failure {
        Failure::Postgres(error) => Some(error.code()?.code()),
        _ => None,
    }
}

#[async_trait]
impl RecordStore for PostgresStore {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        let (tenant, writes) = (tenant.as_str(), writes.as_slice());
        let token: i64 = rand::random();
        let written = self.call("write_records", |session: Held| async move {
            let keys = self.keys();
            let rows = match keys.masters() {
                // One round trip: the server looks whether it may be clear.
                None => {
                    let columns = Columns::new(writes, &keys.texts(tenant, Vec::new())?)?;
                    let params = columns.params(&tenant, &token);
                    let rows = session.ask(Whose::Tenant(tenant), WRITE, &params).await;
                    rows.map_err(Failure::from)
                }
                Some(_) => {
                    let work = |begun| write_sealed(&session, keys, (tenant, token), writes, begun);
                    session.write(Whose::Tenant(tenant), work).await
                }
            };
            match rows {
                Ok(rows) => Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?),
                Err(failure) => match code_of(&failure) {
                    Some(CREATED_MEANWHILE) => Ok(false),
                    Some(SEALED_MEANWHILE) => Err(Failure::Store(StoreError::Internal {
                        source:
                            "the database was encrypted under this process: start it anew, with \
                                 the key"
                                .into(),
                    })),
                    _ => Err(failure),
                },
            }
        });
        written.await.map_err(failed)
    }

    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError> {
        let (tenant, name) = (tenant.as_str(), &*stored(id));
        let read = self.call("read_record", |session: Held| async move {
            let params: [Param<'_>; 3] = [&tenant, &kind, &name];
            let (texts, rows) = self.rows(&session, tenant, READ, &params).await?;
            let row = rows.first();
            row.map(|row| record_of(row, kind, &texts)).transpose()
        });
        read.await.map_err(failed)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        let (tenant, kind) = (tenant.as_str(), list.kind);
        let (before, limit) = (list.before.map_or(i64::MAX, integer), limit_of(list.limit));
        let group = list.group.map(stored);
        let group = group.as_deref();
        let listed = self.call("list_records", |session: Held| async move {
            let mut params: Vec<Param<'_>> = vec![&tenant, &kind, &before, &limit];
            let sql = match &group {
                Some(group) => {
                    params.push(group);
                    LIST_GROUP
                }
                None => LIST,
            };
            let (texts, rows) = self.rows(&session, tenant, sql, &params).await?;
            let rows = rows.iter();
            rows.map(|row| record_of(row, kind, &texts)).collect()
        });
        listed.await.map_err(failed)
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        let (mut all, mut after) = (Vec::new(), 0_i64);
        loop {
            let page = self.call("every_record", |session: Held| async move {
                let work = every(&session, self.keys(), kind, after);
                session.snapshot(Whose::Operator, work).await
            });
            let (last, page) = page.await.map_err(failed)?;
            all.extend(page);
            match last {
                Some(last) => after = last,
                None => return Ok(all),
            }
        }
    }
}

/// A page of the records of all tenants, and the last number of it where more may follow.
async fn every(
    session: &Session,
    keys: &OpenedKeys,
    kind: &'static str,
    after: i64,
) -> Result<(Option<i64>, Vec<(TenantId, Record)>), Failure> {
    let rows = session.query(EVERY, &[&kind, &after, &PAGE]).await?;
    let (mut known, mut records) = (HashMap::<String, Texts>::new(), Vec::new());
    for row in &rows {
        let tenant: String = row.try_get(6)?;
        let texts = match known.entry(tenant) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let texts = match keys.masters() {
                    None => keys.texts(entry.key(), Vec::new())?,
                    Some(_) => texts_seen(session, keys, entry.key()).await?,
                };
                entry.insert(texts)
            }
        };
        match record_of(row, kind, texts) {
            // Those of other tenants are needed all the same.
            Err(Failure::Sealed(error)) => {
                tracing::error!(%error, "a record is passed over: it does not open");
            }
            record => records.push((id(row, 6, TenantId::new)?, record?)),
        }
    }
    let last = rows.last().filter(|_| limit_of(rows.len()) == PAGE);
    Ok((last.map(|row| row.try_get(2)).transpose()?, records))
}
