//! Encryption at rest, as somebody meets it who can read and write the file.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod keys;
mod rows;

use std::{fs, path::Path, sync::Arc, time::Duration};

use lyceum_core::{RecordStore, Scope, TenantId, Vector};
use lyceum_graph::{Claim as LeaseClaim, Saver as _, ThreadId};
use lyceum_memory::{
    NewVector, SessionStore, StoreCheck, StoreError, StoreKeys, VectorSpace, VectorStore,
    conformance::sealed::{self, PLANTED, id, scope, turn},
};
use lyceum_store_sqlite::{Encryption, OpenError, SqliteOptions, SqliteStore, Unsealed};
use lyceum_vault::{Masters, OpenError as Why};
use rusqlite::Connection;

const KEY: [u8; 32] = [7; 32];

fn options(key: [u8; 32], unsealed: Unsealed) -> SqliteOptions {
    SqliteOptions {
        encryption: Some(Encryption {
            masters: Masters::new(&key),
            unsealed,
        }),
        ..SqliteOptions::default()
    }
}

fn sealed(path: &Path) -> SqliteStore {
    SqliteStore::open(path, options(KEY, Unsealed::Refuse)).unwrap()
}

fn space() -> VectorSpace {
    VectorSpace {
        model: "numbers".into(),
        dimensions: 2,
    }
}

/// Fills a store with everything that holds words.
async fn fill(store: &SqliteStore, scope: &Scope) {
    sealed::fill(store, scope).await;
    let vectors: Vec<NewVector> = ["memory-one", "memory-two"]
        .map(|name| NewVector {
            scope: scope.clone(),
            id: id(name),
            vector: Some(Vector::from([0.6, 0.8])),
        })
        .to_vec();
    store.set_vectors(&space(), &vectors).await.unwrap();
}

/// All that a store has to say of a scope.
async fn told(store: &SqliteStore, scope: &Scope) -> Result<String, StoreError> {
    let told = sealed::told(store, scope).await?;
    let near = store.nearest(scope, &space(), &[1.0, 0.0], 9, &[]).await?;
    Ok(format!("{told} {near:?}"))
}

/// The words that stand in a file, its log or beside it, in the clear.
fn readable(path: &Path) -> Vec<&'static str> {
    let mut words = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        words.extend(PLANTED.into_iter().filter(|word| {
            // The index holds stems in lower case.
            let stem = &word[..word.len() - 2];
            bytes
                .windows(stem.len())
                .any(|window| window.eq_ignore_ascii_case(stem.as_bytes()))
        }));
    }
    words
}

fn sealed_row(error: &StoreError) -> (&'static str, String) {
    sealed::sealed_row::<Why>(error)
}

#[tokio::test]
async fn nothing_that_was_said_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let (store, whose) = (sealed(&path), scope("acme", "ada"));
    fill(&store, &whose).await;
    assert_eq!(readable(&path), Vec::<&str>::new(), "the log holds it");
    let text = told(&store, &whose).await.unwrap();
    store.close().await;
    assert_eq!(readable(&path), Vec::<&str>::new(), "the file holds it");
    let store = sealed(&path);
    sealed::keeps(&store, &whose, &text, told).await;
}

#[tokio::test]
async fn an_erased_tenant_is_unreadable_even_where_rows_are_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = Arc::new(sealed(&path));
    let (ada, bo) = (scope("acme", "ada"), scope("umbrella", "bo"));
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    let kept = told(&store, &bo).await.unwrap();
    store.close().await;
    let copy = directory.path().join("copy");
    fs::create_dir(&copy).unwrap();
    // A copy of the rows without their key, as a backup would be that leaves the table of keys out.
    let backup = copy.join("l.db");
    fs::copy(&path, &backup).unwrap();
    let file = Connection::open(&backup).unwrap();
    file.execute("DELETE FROM tenant_key WHERE tenant = 'acme'", [])
        .unwrap();
    drop(file);

    let store = Arc::new(sealed(&path));
    sealed::erase(&*store, &ada).await;
    assert_eq!(told(&store, &bo).await.unwrap(), kept);
    sealed::comes_back(&*store, &ada).await;
    store.close().await;
    let file = Connection::open(&path).unwrap();
    let versions: i64 = file
        .query_row(
            "SELECT count(*) FROM tenant_key WHERE tenant = 'acme'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(versions, 1);

    let refused = SqliteStore::open(&backup, options(KEY, Unsealed::Refuse)).unwrap_err();
    assert!(matches!(refused, OpenError::NotSealed { .. }), "{refused}");
    let left = SqliteStore::open(&backup, options(KEY, Unsealed::Open)).unwrap();
    sealed::has_no_key::<Why>(&left, &ada).await;
    assert_eq!(told(&left, &bo).await.unwrap(), kept);
    // So does one that was cut off behind its first step, and it can be repeated.
    sealed::erase(&left, &ada).await;
    left.close().await;
    let again = sealed(&backup);
    assert_eq!(told(&again, &bo).await.unwrap(), kept);
}

#[tokio::test]
async fn threads_of_a_tenant_are_sealed_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = Arc::new(sealed(&path));
    let tenant = TenantId::new("acme").unwrap();
    lyceum_graph::conformance::check(&*store.saver_of(&tenant)).await;
    let thread = ThreadId::new("t").unwrap();
    let lease = store
        .saver_of(&tenant)
        .acquire(&thread, Duration::from_secs(9), LeaseClaim::IfFree)
        .await
        .unwrap();
    let batch = lyceum_graph::Batch {
        values: Vec::new(),
        records: vec![lyceum_graph::Record {
            checkpoint: lyceum_graph::CheckpointId(1),
            task: 1,
            key: "result".into(),
            bytes: PLANTED[7].into(),
        }],
        checkpoints: Vec::new(),
    };
    store
        .saver_of(&tenant)
        .commit(&lease, &batch)
        .await
        .unwrap();
    assert_eq!(readable(&path), Vec::<&str>::new());
}
