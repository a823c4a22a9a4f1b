//! The suite of `lyceum-graph`, and many processes that prepare one database.

use futures_util::future::join_all;
use lyceum_graph::{Saver as _, ThreadId, conformance};
use lyceum_store_postgres::{OpenError, PostgresStore};

use crate::{SERVER, options, store};

#[tokio::test]
async fn a_server_conforms_as_a_saver() {
    conformance::check(&store().await).await;
}

#[tokio::test]
async fn a_server_keeps_items() {
    conformance::check_store(&store().await).await;
}

#[tokio::test]
async fn a_server_lists_its_threads() {
    conformance::check_threads(&store().await).await;
}

#[tokio::test]
async fn many_replicas_prepare_one_database_at_once() {
    let address = SERVER.database().unwrap();
    let opened = join_all((0..8).map(|_| PostgresStore::open(&address, options()))).await;
    for store in opened {
        let known = store
            .unwrap()
            .load(&ThreadId::new("a").unwrap(), "", None)
            .await;
        assert_eq!(known.unwrap(), None);
    }
}

#[tokio::test]
async fn an_address_that_leads_nowhere_says_so() {
    let opened = PostgresStore::open("postgresql://x:hunter2@127.0.0.1:1/x", options()).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }) && error.is_retryable());
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");

    let opened = PostgresStore::open("not an address", options()).await;
    assert!(matches!(opened, Err(OpenError::Address { .. })));

    let stranger = SERVER
        .database()
        .unwrap()
        .replace("lyceum@", "nobody_known@");
    let error = PostgresStore::open(&stranger, options()).await.unwrap_err();
    assert!(matches!(error, OpenError::Denied { .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn tables_of_a_newer_program_are_left_alone() {
    let address = SERVER.database().unwrap();
    drop(PostgresStore::open(&address, options()).await.unwrap());
    let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let newer = "INSERT INTO lyceum.migration (number) VALUES (999)";
    client.batch_execute(newer).await.unwrap();
    let error = PostgresStore::open(&address, options()).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 999, .. }),
        "{error}"
    );
}
