//! The record port: documents as rows, one round trip per call.
//!
//! Invariant: a call whose expectation is not met is undone as a whole, and one whose answer was
//! lost finds what it wrote when it is repeated, where a record that it wrote is left; one that only
//! removes is done once more, and one that expected what it removed then says that it was not done.
//! What a record is expected to be is judged while its row is locked, so of two processes that
//! replace one revision exactly one does.
//! Deliberately absent: a word about what a body holds.

use async_trait::async_trait;
use lyceum_core::{Expect, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId};
use lyceum_memory::StoreError;
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    error::Failure,
    pool::{Held, Param, Whose},
    row::{id, integer, limit_of, text, unsigned},
    text::stored,
};

const WRITE: &str = "\
    SELECT lyceum.write_records($1, $2, $3::text[], $4::text[], $5::text[], $6::text[], \
        $7::bigint[])";

/// What the server says when another call was faster in creating a record.
const CREATED_MEANWHILE: &str = "LY001";

/// The columns of a record, in the order in which [`record_of`] reads them.
macro_rules! select {
    ($columns:literal, $which:literal) => {
        concat!(
            "SELECT name, grouped, seq, revision, body",
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

fn record_of(row: &Row) -> Result<Record, Failure> {
    Ok(Record {
        id: text(row, 0)?,
        group: text(row, 1)?,
        seq: unsigned(row.try_get(2)?),
        revision: unsigned(row.try_get(3)?),
        body: text(row, 4)?,
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
}

impl Columns {
    fn new(writes: &[RecordWrite]) -> Self {
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
            columns.kinds.push(kind);
            columns.names.push(stored(name).into_owned());
            columns
                .groups
                .push(group.map(|group| stored(group).into_owned()));
            columns
                .bodies
                .push(body.map(|body| stored(body).into_owned()));
            columns.expected.push(match expect {
                Expect::Anything => -1,
                Expect::Absent => 0,
                Expect::Revision(revision) => integer(*revision),
            });
        }
        columns
    }
}

#[async_trait]
impl RecordStore for PostgresStore {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        let (tenant, columns) = (tenant.as_str(), &Columns::new(&writes));
        let token: i64 = rand::random();
        let written = self.call("write_records", |session: Held| async move {
            let params: [Param<'_>; 7] = [
                &tenant,
                &token,
                &columns.kinds,
                &columns.names,
                &columns.groups,
                &columns.bodies,
                &columns.expected,
            ];
            match session.ask(Whose::Tenant(tenant), WRITE, &params).await {
                Ok(rows) => Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?),
                Err(error)
                    if error
                        .code()
                        .is_some_and(|code| code.code() == CREATED_MEANWHILE) =>
                {
                    Ok(false)
                }
                Err(error) => Err(error.into()),
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
            let rows = session
                .ask(Whose::Tenant(tenant), READ, &[&tenant, &kind, &name])
                .await?;
            rows.first().map(record_of).transpose()
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
            let rows = session.ask(Whose::Tenant(tenant), sql, &params).await?;
            rows.iter().map(record_of).collect()
        });
        listed.await.map_err(failed)
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        let mut all: Vec<(TenantId, Record)> = Vec::new();
        loop {
            let after = all.last().map_or(0, |(_, record)| integer(record.seq));
            let page = self.call("every_record", |session: Held| async move {
                let rows = session
                    .ask(Whose::Operator, EVERY, &[&kind, &after, &PAGE])
                    .await?;
                let record = |row: &Row| Ok((id(row, 5, TenantId::new)?, record_of(row)?));
                rows.iter().map(record).collect::<Result<Vec<_>, Failure>>()
            });
            let page = page.await.map_err(failed)?;
            let is_last = limit_of(page.len()) < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}
