//! Opening, closing and running out of space: what a user meets when things go wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use futures_util::future::join_all;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    Claim, ClaimRequest, JobStore, NewJob, NewMessage, NewTurn, SessionStore, StoreError, TurnId,
};
use lyceum_store_sqlite::{OpenError, SqliteOptions, SqliteStore};
use serde_json::json;

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, SqliteOptions::default())
}

fn scope() -> Scope {
    Scope::local().with_session(SessionId::new("s").unwrap())
}

fn turn(name: &str, content: String) -> NewTurn {
    NewTurn {
        turn_id: TurnId::new(name).unwrap(),
        topic: "topic".into(),
        messages: vec![NewMessage {
            role: Role::User,
            content,
        }],
        memories: Vec::new(),
        jobs: vec![NewJob {
            kind: "note".into(),
            payload: json!({}),
        }],
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_closing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/deep/l.db");
    let store = open(&path).unwrap();
    store
        .append(&scope(), &turn("1", "hello".into()))
        .await
        .unwrap();
    store.close().await;
    let closed = store.messages(&scope(), None, 1).await;
    assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    let log = path.with_extension("db-wal");
    assert!(!log.exists(), "closing merges the log");

    let store = open(&path).unwrap();
    let messages = store.messages(&scope(), None, 9).await.unwrap();
    assert_eq!(messages[0].content, "hello");
}

#[tokio::test]
async fn leases_end_with_the_process_that_held_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let day = ClaimRequest {
        kinds: &["note"],
        lease: Duration::from_secs(86_400),
        max_attempts: 3,
    };
    let store = open(&path).unwrap();
    store
        .append(&scope(), &turn("1", "a".into()))
        .await
        .unwrap();
    assert!(matches!(store.claim(&day).await.unwrap(), Claim::Job(_)));
    assert!(matches!(
        store.claim(&day).await.unwrap(),
        Claim::Idle { .. }
    ));
    store.close().await;

    let store = open(&path).unwrap();
    let Claim::Job(job) = store.claim(&day).await.unwrap() else {
        panic!("the job is not due");
    };
    assert_eq!(job.attempts, 2, "the lost attempt counts");
}

#[tokio::test]
async fn a_second_user_of_the_file_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = open(&path).unwrap();
    let second = open(&path).unwrap_err();
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    store.close().await;
    open(&path).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("l.db")).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    fs::create_dir(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    let content = "my notes, not a database\n".repeat(100);
    fs::write(&text, &content).unwrap();
    let error = open(&text).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(fs::read_to_string(&text).unwrap(), content);
    fs::write(&text, "short").unwrap();
    let error = open(&text).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");

    let other = directory.path().join("other.db");
    let connection = rusqlite::Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let error = open(&other).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("l.db")).unwrap();
    store
        .append(&scope(), &turn("1", "secret".into()))
        .await
        .unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    open(&path).unwrap().close().await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = open(&path).unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn damage_is_found_when_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = open(&path).unwrap();
    for n in 0..50 {
        let turn = turn(&n.to_string(), "text ".repeat(500));
        store.append(&scope(), &turn).await.unwrap();
    }
    store.close().await;
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(4096 * 2)).unwrap();
    file.write_all(&[0xA5; 4096 * 12]).unwrap();
    drop(file);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_ends_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let small = SqliteOptions {
        max_bytes: Some(512 * 1024),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, small.clone()).unwrap();
    // Several at a time, so that those which fit share a transaction with those which do not.
    let (mut names, mut acknowledged) = (0.., BTreeSet::new());
    let errors = loop {
        let turns: Vec<NewTurn> = names
            .by_ref()
            .take(8)
            .map(|name| turn(&name.to_string(), "x".repeat(9_000)))
            .collect();
        let scope = scope();
        let appends = turns.iter().map(|turn| store.append(&scope, turn));
        let mut errors = Vec::new();
        for (turn, result) in turns.iter().zip(join_all(appends).await) {
            match result {
                Ok(_) => drop(acknowledged.insert(turn.turn_id.clone())),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            break errors;
        }
    };
    assert!(
        errors
            .iter()
            .any(|error| matches!(error, StoreError::NoSpace)),
        "{errors:?}"
    );
    assert!(errors.iter().all(StoreError::is_retryable), "{errors:?}");
    let messages = store.messages(&scope(), None, 1000).await.unwrap();
    let stored: BTreeSet<TurnId> = messages.iter().map(|m| m.turn_id.clone()).collect();
    assert_eq!(
        stored, acknowledged,
        "what was acknowledged is there, and nothing else"
    );
    assert!(stored.len() > 8);

    let other = Scope::local().with_session(SessionId::new("other").unwrap());
    assert!(store.delete(&scope()).await.unwrap());
    store
        .append(&other, &turn("again", "x".repeat(20_000)))
        .await
        .unwrap();
    store.close().await;
}

#[tokio::test]
async fn more_callers_than_may_wait_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let few = SqliteOptions {
        waiting: 2,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(directory.path().join("l.db"), few).unwrap();
    let turns: Vec<NewTurn> = (0..500).map(|n| turn(&n.to_string(), "x".into())).collect();
    let scope = scope();
    let appends = turns.iter().map(|turn| store.append(&scope, turn));
    let results = join_all(appends).await;
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(StoreError::Overloaded { waiting: 2 })))
        .count();
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert!(refused > 0 && stored > 0 && refused + stored == 500);
    let messages = store.messages(&scope, None, 1000).await.unwrap();
    assert_eq!(messages.len(), stored);
}

#[tokio::test]
async fn closing_finishes_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let one = SqliteOptions {
        waiting: 20,
        readers: 1,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, one).unwrap();
    let turns: Vec<NewTurn> = (0..20).map(|n| turn(&n.to_string(), "x".into())).collect();
    let scope = scope();
    let appends = join_all(turns.iter().map(|t| store.append(&scope, t)));
    let reads = join_all((0..20).map(|_| store.session(&scope)));
    // Both queues fill up before the store is closed, because futures are polled in order.
    let (appended, read, ()) = tokio::join!(appends, reads, store.close());
    assert!(appended.iter().all(Result::is_ok) && read.iter().all(Result::is_ok));
    let store = open(&path).unwrap();
    assert_eq!(store.messages(&scope, None, 100).await.unwrap().len(), 20);
}
