//! The record port on a file.

use lyceum_core::{RecordStore as _, TenantId, record_conformance};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

#[tokio::test]
async fn a_file_keeps_records_as_the_port_says_and_beyond_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("l.db");
    let store = SqliteStore::open(&file, SqliteOptions::default()).unwrap();
    record_conformance::check(&store).await;
    let before = store.every("note").await.unwrap();
    store.close().await;
    let store = SqliteStore::open(&file, SqliteOptions::default()).unwrap();
    assert_eq!(store.every("note").await.unwrap(), before);
    let tenant = TenantId::new("one").unwrap();
    let a = lyceum_core::RecordStore::read(&store, &tenant, "note", "a").await;
    assert_eq!(a.unwrap().unwrap().body, "5");
}
