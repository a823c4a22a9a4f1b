//! What every record store must do, as a test that its crate runs.
//!
//! Invariant: the store is empty when the suite begins.

#![expect(
    clippy::expect_used,
    reason = "this is a test suite: a failed expectation is its result"
)]

use super::{Expect, RecordList, RecordStore, RecordWrite};
use crate::TenantId;

const KIND: &str = "note";

fn put(id: &str, group: &str, body: &str, expect: Expect) -> RecordWrite {
    RecordWrite::Put {
        kind: KIND,
        id: id.to_owned(),
        group: group.to_owned(),
        body: body.to_owned(),
        expect,
    }
}

/// Runs every case.
///
/// # Panics
///
/// When the store breaks the contract of [`RecordStore`]; the message says how.
pub async fn check(store: &dyn RecordStore) {
    let tenant = TenantId::new("one").expect("a valid id");
    let other = TenantId::new("two").expect("a valid id");
    let write = async |tenant: &TenantId, writes| {
        let written = store.write(tenant, writes).await;
        written.expect("the store works")
    };
    let ids = async |group: Option<&str>, before, limit| {
        let list = RecordList {
            kind: KIND,
            group,
            before,
            limit,
        };
        let listed = store.list(&tenant, list).await.expect("the store works");
        listed
            .into_iter()
            .map(|record| (record.id, record.seq))
            .collect::<Vec<_>>()
    };
    let read = async |tenant: &TenantId, id: &str| {
        let read = store.read(tenant, KIND, id).await;
        read.expect("the store works")
    };

    let both = vec![
        put("a", "x", "1", Expect::Absent),
        put("b", "y", "2", Expect::Absent),
    ];
    assert!(write(&tenant, both).await, "new records are created");
    assert!(write(&other, vec![put("a", "x", "3", Expect::Absent)]).await);
    let a = read(&tenant, "a").await.expect("it was created");
    assert_eq!((a.body.as_str(), a.revision), ("1", 1));
    assert_eq!(read(&other, "b").await, None, "tenants do not meet");

    let half = vec![
        put("c", "x", "4", Expect::Anything),
        put("a", "x", "4", Expect::Absent),
    ];
    assert!(!write(&tenant, half).await, "it exists");
    assert_eq!(read(&tenant, "c").await, None, "all or nothing");

    assert!(write(&tenant, vec![put("a", "z", "5", Expect::Revision(1))]).await);
    assert!(!write(&tenant, vec![put("a", "z", "6", Expect::Revision(1))]).await);
    let again = read(&tenant, "a").await.expect("it is there");
    assert_eq!((again.seq, again.revision), (a.seq, 2), "its place stays");
    assert_eq!((again.group.as_str(), again.body.as_str()), ("z", "5"));

    assert!(write(&tenant, vec![put("c", "z", "7", Expect::Anything)]).await);
    let all = ids(None, None, 10).await;
    let names: Vec<_> = all.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["c", "b", "a"], "newest first");
    let before = all.first().map(|(_, seq)| *seq);
    assert_eq!(ids(Some("z"), before, 10).await, all[2..]);
    assert_eq!(ids(None, None, 1).await, all[..1]);

    let delete = |id: &str| RecordWrite::Delete {
        kind: KIND,
        id: id.to_owned(),
    };
    assert!(write(&tenant, vec![delete("b"), delete("none")]).await);
    let every = store.every(KIND).await.expect("the store works");
    let every: Vec<_> = every.iter().map(|(t, r)| (t, r.id.as_str())).collect();
    assert_eq!(every, [(&tenant, "a"), (&other, "a"), (&tenant, "c")]);
}
