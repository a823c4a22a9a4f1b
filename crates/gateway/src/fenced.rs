//! Removals of what is still as it was read.
//!
//! Invariant: a record that was written since stays, with all else of the same write. A removal
//! expects nothing by itself, so the record is put at its revision first. Deliberately absent: what
//! is removed whatever it says by then.

use lyceum_core::{Expect, RecordWrite};

/// Removes a record at a revision; the write that holds both is not done where it has another one
/// or is gone.
pub(crate) fn remove_at(kind: &'static str, id: String, revision: u64) -> [RecordWrite; 2] {
    [
        RecordWrite::Put {
            kind,
            id: id.clone(),
            group: String::new(),
            // Nobody sees it, and every store takes it.
            body: "{}".to_owned(),
            expect: Expect::Revision(revision),
        },
        RecordWrite::Delete { kind, id },
    ]
}

#[cfg(test)]
mod tests {
    use lyceum_core::{MemoryRecords, RecordStore as _, TenantId};

    use super::*;

    #[tokio::test]
    async fn only_what_is_as_it_was_read_is_removed() {
        let (records, tenant) = (MemoryRecords::new(), TenantId::new("a").unwrap());
        let put = || RecordWrite::Put {
            kind: "k",
            id: "one".to_owned(),
            group: "g".to_owned(),
            body: "1".to_owned(),
            expect: Expect::Anything,
        };
        records.write(&tenant, vec![put()]).await.unwrap();
        let read = records.read(&tenant, "k", "one").await.unwrap().unwrap();
        records.write(&tenant, vec![put()]).await.unwrap();
        let remove = |revision| remove_at("k", "one".to_owned(), revision).to_vec();
        let stale = remove(read.revision);
        assert!(!records.write(&tenant, stale).await.unwrap());
        let kept = records.read(&tenant, "k", "one").await.unwrap().unwrap();
        assert_eq!((kept.group.as_str(), kept.body.as_str()), ("g", "1"));
        assert!(records.write(&tenant, remove(kept.revision)).await.unwrap());
        assert!(records.read(&tenant, "k", "one").await.unwrap().is_none());
        // One that is gone is no more removed than one that is another.
        assert!(!records.write(&tenant, remove(kept.revision)).await.unwrap());
    }
}
