//! The suite of `lyceum-memory`.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    JobStore, MemoryKind, MemoryStore, NewMemory, NewMessage, NewTurn, SessionArchive,
    SessionStore, StoreCheck as _, TurnId,
    conformance::{Subject, verify, verify_checks},
};
use lyceum_store_postgres::{Encryption, PostgresOptions, PostgresStore, Unsealed};
use lyceum_vault::Masters;
use tokio_postgres::{Client, NoTls};

use crate::{SERVER, options, sealed::KEY};

/// A store whose server's clock stands still.
pub(crate) struct Still(pub(crate) PostgresStore, Client);

/// Replaces the one function that all statements take the time from.
const STAND_STILL: &str = "\
    CREATE TABLE lyceum.clock AS SELECT 1700000000000 AS now; \
    CREATE OR REPLACE FUNCTION lyceum.now_ms() RETURNS bigint LANGUAGE sql VOLATILE \
        AS 'SELECT now FROM lyceum.clock'";

#[async_trait]
impl Subject for Still {
    fn sessions(&self) -> &dyn SessionStore {
        &self.0
    }
    fn memories(&self) -> &dyn MemoryStore {
        &self.0
    }
    fn archive(&self) -> &dyn SessionArchive {
        &self.0
    }
    fn jobs(&self) -> &dyn JobStore {
        &self.0
    }
    async fn advance(&self, by: Duration) {
        let by = format!("UPDATE lyceum.clock SET now = now + {}", by.as_millis());
        self.1.batch_execute(&by).await.unwrap();
    }
}

impl Still {
    pub(crate) async fn new(store: PostgresStore, address: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(STAND_STILL).await.unwrap();
        Self(store, client)
    }
}

async fn conforms(encryption: Option<Encryption>) {
    let options = PostgresOptions {
        encryption,
        ..options()
    };
    let address = SERVER.database().unwrap();
    let store = PostgresStore::open(&address, options.clone())
        .await
        .unwrap();
    let subject = Still::new(store, &address).await;
    verify(&subject).await.unwrap();
    verify_checks(&subject, &subject.0, None).await.unwrap();
    let store = PostgresStore::open(&address, options).await.unwrap();
    let subject = Still(store, subject.1);
    verify(&subject).await.unwrap();
    verify_checks(&subject, &subject.0, None).await.unwrap();
}

#[tokio::test]
async fn a_server_conforms_as_a_memory_when_new_and_when_reopened() {
    conforms(None).await;
}

#[tokio::test]
async fn so_does_a_sealed_one() {
    conforms(Some(Encryption {
        masters: Masters::new(&KEY),
        unsealed: Unsealed::Refuse,
    }))
    .await;
}

#[tokio::test]
async fn what_is_broken_is_found_and_made_anew() {
    let address = SERVER.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    let scope = Scope::local().with_session(SessionId::new("talk").unwrap());
    for name in ["one", "two"] {
        let turn = NewTurn {
            turn_id: TurnId::new(name).unwrap(),
            topic: "tides".into(),
            messages: vec![NewMessage {
                role: Role::User,
                content: "the moon pulls".into(),
            }],
            memories: vec![NewMemory::new(MemoryKind::Fact, "tides", "the moon pulls")],
            jobs: Vec::new(),
        };
        store.append(&scope, &turn).await.unwrap();
    }
    for (sql, what) in [
        ("DELETE FROM lyceum.posting WHERE term = 'moon'", "words"),
        (
            "UPDATE lyceum.posting SET count = 9 WHERE term = 'moon'",
            "words",
        ),
        (
            "UPDATE lyceum.posting SET term = 'stray' WHERE term = 'moon'",
            "words",
        ),
        (
            "UPDATE lyceum.owner SET documents = documents + 1",
            "statistics",
        ),
        ("UPDATE lyceum.session SET messages = 9", "messages"),
    ] {
        assert_eq!(store.verify().await.unwrap().described, [], "before {sql}");
        let as_operator = format!("SET lyceum.operator = 'on'; {sql}");
        client.batch_execute(&as_operator).await.unwrap();
        let found = store.verify().await.unwrap();
        let found: Vec<_> = found.described.iter().map(|fault| fault.what).collect();
        assert!(
            !found.is_empty() && found.iter().all(|one| *one == what),
            "{sql}: {found:?}"
        );
        store.rebuild().await.unwrap();
    }
    assert!(store.verify().await.unwrap().is_sound());
    client
        .batch_execute("DELETE FROM lyceum.message WHERE seq = 1")
        .await
        .unwrap();
    assert!(!store.verify().await.unwrap().is_sound());
}
