//! An owner with many memories of one kind: words that most of them hold decide nothing
//! beside rarer ones, and alone still find the newest.

use futures_util::future::try_join_all;
use lyceum_core::Scope;
use lyceum_memory::{MemoryKind, MemoryStore, NewMemory, Timestamp};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

fn memory(text: String, at: i64) -> NewMemory {
    NewMemory {
        created_at: Some(Timestamp(at)),
        ..NewMemory::new(MemoryKind::Episode, "Bread", text)
    }
}

#[tokio::test]
async fn common_words_do_not_hide_rare_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("lyceum.db"), SqliteOptions::default()).unwrap();
    let scope = Scope::local();
    let rare = memory("Yeast in sourdough is wild.".to_owned(), 1);
    store.put(&scope, &rare).await.unwrap();
    let many: Vec<NewMemory> = (0..2_000)
        .map(|n| memory(format!("Yeast raises dough number {n}."), 2 + n))
        .collect();
    try_join_all(many.iter().map(|memory| store.put(&scope, memory)))
        .await
        .unwrap();

    let found = store.search(&scope, "yeast sourdough", 3).await.unwrap();
    assert_eq!(found[0].id, rare.id, "the oldest, found by its rare word");
    let found = store
        .search(&scope, "what does yeast raise", 3)
        .await
        .unwrap();
    assert_eq!(found.len(), 3, "common words alone find something");
    assert!(
        found.iter().all(|found| found.created_at.0 > 1_000),
        "and it is new: {found:?}"
    );
}
