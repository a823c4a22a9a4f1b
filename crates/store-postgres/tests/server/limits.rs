//! What a caller is told when the pool or the server gives nothing more.

use std::{error::Error as _, time::Duration};

use lyceum_graph::{Batch, Claim, Saver as _, SaverError, ThreadId};
use lyceum_store_postgres::{PostgresOptions, PostgresStore};
use tokio_postgres::NoTls;

use crate::{SERVER, options};

/// What failed, down to its first cause.
fn causes(error: &SaverError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_pool_in_use_refuses_in_time_and_recovers() {
    let address = SERVER.database().unwrap();
    let few = PostgresOptions {
        max_connections: 1,
        acquire_timeout: Duration::from_millis(300),
        ..options()
    };
    let store = PostgresStore::open(&address, few).await.unwrap();
    let id = ThreadId::new("a").unwrap();
    let lease = store
        .acquire(&id, Duration::from_secs(60), Claim::IfFree)
        .await
        .unwrap();

    // Somebody else holds the row, so a commit keeps the only connection.
    let (mut other, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("SELECT FROM lyceum.thread FOR UPDATE")
        .await
        .unwrap();
    let empty = Batch::default();
    let commit = store.commit(&lease, &empty);
    let refused = async {
        let error = store.load(&id, "", None).await.unwrap_err();
        lock.rollback().await.unwrap();
        error
    };
    let (committed, error) = tokio::join!(commit, refused);
    committed.unwrap();
    assert!(error.is_retryable());
    assert!(
        causes(&error).contains("all are in use"),
        "{}",
        causes(&error)
    );
    assert_eq!(
        store.load(&id, "", None).await.unwrap(),
        None,
        "it recovers"
    );
    assert_eq!(store.connections().0, 1);
}

#[tokio::test]
async fn a_statement_that_waits_too_long_is_ended_by_the_server() {
    let address = SERVER.database().unwrap();
    let brief = PostgresOptions {
        statement_timeout: Duration::from_millis(200),
        ..options()
    };
    let store = PostgresStore::open(&address, brief).await.unwrap();
    let id = ThreadId::new("a").unwrap();
    let lease = store
        .acquire(&id, Duration::from_secs(60), Claim::IfFree)
        .await
        .unwrap();
    let (mut other, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("SELECT FROM lyceum.thread FOR UPDATE")
        .await
        .unwrap();
    let error = store.commit(&lease, &Batch::default()).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(
        causes(&error).contains("statement timeout"),
        "{}",
        causes(&error)
    );
    lock.rollback().await.unwrap();
    store.commit(&lease, &Batch::default()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_leaves_no_connection_behind_that_waits() {
    let address = SERVER.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    let id = ThreadId::new("a").unwrap();
    let lease = store
        .acquire(&id, Duration::from_secs(60), Claim::IfFree)
        .await
        .unwrap();
    let (mut other, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("SELECT FROM lyceum.thread FOR UPDATE")
        .await
        .unwrap();
    let empty = Batch::default();
    let dropped = tokio::time::timeout(Duration::from_millis(100), store.commit(&lease, &empty));
    assert!(dropped.await.is_err(), "the commit waits for the row");
    assert_eq!(
        store.load(&id, "", None).await.unwrap(),
        None,
        "nobody waits behind it"
    );
    lock.rollback().await.unwrap();
}
