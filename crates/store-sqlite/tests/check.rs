//! A check finds what was broken on purpose, a rebuild mends it, and what was erased is nowhere.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use lyceum_core::{Role, Scope, SessionId, UserId, Vector};
use lyceum_memory::{
    MemoryId, MemoryKind, MemoryStore, NewMemory, NewMessage, NewTurn, NewVector, SessionStore,
    StoreCheck, TurnId, VectorSpace, VectorStore, Whose,
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};
use rusqlite::Connection;

fn space() -> VectorSpace {
    VectorSpace {
        model: "some".into(),
        dimensions: 2,
    }
}

fn scope(user: &str) -> Scope {
    Scope {
        user: UserId::new(user).unwrap(),
        ..Scope::local().with_session(SessionId::new("talk").unwrap())
    }
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

/// Two turns with a memory and a vector each.
async fn fill(store: &SqliteStore, scope: &Scope, words: &str) {
    for number in 0..2 {
        let message = |role, said: &str| NewMessage {
            role,
            content: format!("{said} {words}"),
        };
        let id = MemoryId::new(format!("memory-{number}")).unwrap();
        let turn = NewTurn {
            turn_id: TurnId::new(format!("turn-{number}")).unwrap(),
            topic: "tides".into(),
            messages: vec![
                message(Role::User, "says"),
                message(Role::Assistant, "asks"),
            ],
            memories: vec![NewMemory {
                id: id.clone(),
                context: "by the harbour".into(),
                ..NewMemory::new(MemoryKind::Episode, "tides", words)
            }],
            jobs: Vec::new(),
        };
        store.append(scope, &turn).await.unwrap();
        let vector = NewVector {
            scope: scope.clone(),
            id,
            vector: Some(Vector::from([1.0, 2.0])),
        };
        store.set_vectors(&space(), &[vector]).await.unwrap();
    }
}

/// What a check of the file finds after these statements, and what is left after a rebuild.
async fn broken(sql: &str) -> (Vec<&'static str>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = open(&path);
    fill(&store, &scope("ada"), "moon and sun").await;
    assert_eq!(store.verify().await.unwrap().described, []);
    store.close().await;
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let store = open(&path);
    let found = store.verify().await.unwrap();
    assert_eq!(found.faults as usize, found.described.len());
    let mut what: Vec<_> = found.described.iter().map(|fault| fault.what).collect();
    what.dedup();
    store.rebuild().await.unwrap();
    let left = store.verify().await.unwrap().faults;
    store.close().await;
    (what, left)
}

#[tokio::test]
async fn what_is_broken_is_found_and_made_anew() {
    for (sql, what) in [
        ("DELETE FROM posting WHERE term = 'moon'", "words"),
        (
            "UPDATE posting SET entries = x'01' WHERE term = 'moon'",
            "words",
        ),
        (
            "UPDATE posting SET entries = CAST(entries || entries AS BLOB) WHERE term = 'moon'",
            "words",
        ),
        (
            "UPDATE posting SET term = 'stray' WHERE term = 'moon'",
            "words",
        ),
        ("UPDATE owner SET documents = documents + 1", "statistics"),
        ("UPDATE owner SET total_length = 0", "statistics"),
        ("UPDATE session SET messages = 9", "messages"),
        ("UPDATE vector SET data = x'00' WHERE memory = 1", "vectors"),
        ("DELETE FROM vector WHERE memory = 1", "vectors"),
    ] {
        assert_eq!(broken(sql).await, (vec![what], 0), "{sql}");
    }
}

#[tokio::test]
async fn what_is_lost_is_found_and_not_papered_over() {
    for (sql, what) in [
        (
            "DELETE FROM message WHERE seq = 2",
            vec!["messages", "turns"],
        ),
        (
            "UPDATE turn SET last_seq = last_seq + 1 WHERE first_seq = 3",
            vec!["turns"],
        ),
    ] {
        let (found, left) = broken(sql).await;
        assert_eq!(found, what, "{sql}");
        assert!(left > 0, "{sql}");
    }
}

#[tokio::test]
async fn what_was_erased_is_in_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = open(&path);
    fill(&store, &scope("ada"), "swordfish and plankton").await;
    fill(&store, &scope("bob"), "barnacle").await;
    let files = || {
        let files = fs::read_dir(directory.path()).unwrap();
        let bytes = files.flat_map(|file| fs::read(file.unwrap().path()).unwrap());
        bytes.collect::<Vec<u8>>()
    };
    let has = |word: &str| {
        let all = files();
        all.windows(word.len())
            .any(|window| window == word.as_bytes())
    };
    assert!(has("swordfish") && has("plankton") && has("barnacl"));
    let whose = Whose {
        tenant: scope("ada").tenant,
        user: Some(UserId::new("ada").unwrap()),
    };
    let erased = store.erase(&whose).await.unwrap();
    assert_eq!((erased.sessions, erased.memories), (1, 2));
    for gone in ["swordfish", "plankton", "ada"] {
        assert!(!has(gone), "{gone}");
    }
    assert!(has("barnacl"));
    // The store goes on.
    fill(&store, &scope("ada"), "plankton").await;
    assert_eq!(
        store
            .search(&scope("ada"), "plankton", 9)
            .await
            .unwrap()
            .len(),
        2
    );
    assert!(store.verify().await.unwrap().is_sound());
    store.close().await;
}
