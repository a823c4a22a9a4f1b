//! The port behind which a server keeps its own small documents: what a client created by
//! name and expects to find after a restart.
//!
//! Invariant: the writes of one call happen all together or not at all, and nothing reads or
//! writes across tenants but [`RecordStore::every`], which the server asks when it starts and, for
//! what processes that share the records owe each other, as often as every second.
//! Deliberately absent: queries over what a body holds.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::TenantId;

#[cfg(feature = "conformance")]
pub mod conformance;

/// One stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name, unique in its tenant and kind.
    pub id: String,
    /// What it is listed with; may be empty.
    pub group: String,
    /// Rises with every creation: the order of lists. Replacing a record keeps it.
    pub seq: u64,
    /// Rises with every replacement, from 1.
    pub revision: u64,
    /// The document.
    pub body: String,
}

/// What must be so for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// No such record exists.
    Absent,
    /// The record exists in this revision.
    Revision(u64),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordWrite {
    /// Creates or replaces a record.
    Put {
        /// The kind of record.
        kind: &'static str,
        /// Its name.
        id: String,
        /// What it is listed with.
        group: String,
        /// The document.
        body: String,
        /// What must be so.
        expect: Expect,
    },
    /// Removes a record; one that does not exist is left alone.
    Delete {
        /// The kind of record.
        kind: &'static str,
        /// Its name.
        id: String,
    },
}

/// Which records to list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordList<'a> {
    /// The kind of record.
    pub kind: &'static str,
    /// Only those of this group.
    pub group: Option<&'a str>,
    /// Only those created before the record of this number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// Keeps documents.
///
/// A write that was acknowledged survives the process. Dropping a returned future leaves its
/// writes either all done or all undone.
#[async_trait]
pub trait RecordStore: Send + Sync + fmt::Debug {
    /// Does all writes, or none where an expectation is not met: then it gives `false`. A store that
    /// repeats a call whose answer was lost may also give `false` where the writes were done and
    /// left no record.
    ///
    /// # Errors
    ///
    /// [`RecordError`]; whether the writes happened is then unknown.
    async fn write(&self, tenant: &TenantId, writes: Vec<RecordWrite>)
    -> Result<bool, RecordError>;

    /// Reads one record.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the store cannot be read.
    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError>;

    /// Lists records, newest first.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the store cannot be read.
    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError>;

    /// Lists the records of a kind of all tenants, oldest first: the whole collection, so for
    /// kinds of which there are few at a time.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the store cannot be read.
    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError>;
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[error("keep a record")]
pub struct RecordError {
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// What failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl RecordError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        "records"
    }
}

/// The reference: records in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryRecords(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    records: BTreeMap<(TenantId, &'static str, String), Record>,
}

impl MemoryRecords {
    /// Keeps nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn meets(&self, tenant: &TenantId, write: &RecordWrite) -> bool {
        let RecordWrite::Put {
            kind, id, expect, ..
        } = write
        else {
            return true;
        };
        let found = self.records.get(&(tenant.clone(), *kind, id.clone()));
        match expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(revision) => found.is_some_and(|found| found.revision == *revision),
        }
    }

    fn apply(&mut self, tenant: &TenantId, write: RecordWrite) {
        match write {
            RecordWrite::Delete { kind, id } => {
                self.records.remove(&(tenant.clone(), kind, id));
            }
            RecordWrite::Put {
                kind,
                id,
                group,
                body,
                ..
            } => {
                let key = (tenant.clone(), kind, id.clone());
                let old = self.records.get(&key).map(|old| (old.seq, old.revision));
                let (seq, revision) = old.unwrap_or_else(|| {
                    self.last += 1;
                    (self.last, 0)
                });
                let revision = revision + 1;
                self.records.insert(
                    key,
                    Record {
                        id,
                        group,
                        seq,
                        revision,
                        body,
                    },
                );
            }
        }
    }
}

#[async_trait]
impl RecordStore for MemoryRecords {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        let mut kept = self.kept();
        if !writes.iter().all(|write| kept.meets(tenant, write)) {
            return Ok(false);
        }
        for write in writes {
            kept.apply(tenant, write);
        }
        Ok(true)
    }

    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError> {
        let key = (tenant.clone(), kind, id.to_owned());
        Ok(self.kept().records.get(&key).cloned())
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        let kept = self.kept();
        let mut found: Vec<_> = kept
            .records
            .iter()
            .filter(|((owner, kind, _), record)| {
                owner == tenant
                    && *kind == list.kind
                    && list.group.is_none_or(|group| group == record.group)
                    && list.before.is_none_or(|before| record.seq < before)
            })
            .map(|(_, record)| record.clone())
            .collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.seq));
        found.truncate(list.limit);
        Ok(found)
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        let kept = self.kept();
        let mut found: Vec<_> = kept
            .records
            .iter()
            .filter(|((_, found, _), _)| *found == kind)
            .map(|((tenant, _, _), record)| (tenant.clone(), record.clone()))
            .collect();
        found.sort_by_key(|(_, record)| record.seq);
        Ok(found)
    }
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use super::*;

    #[test]
    fn the_reference_conforms() {
        futures::executor::block_on(conformance::check(&MemoryRecords::new()));
    }
}
