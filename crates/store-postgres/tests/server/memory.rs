//! The suite of `lyceum-memory`.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_memory::{
    JobStore, MemoryStore, SessionArchive, SessionStore,
    conformance::{Subject, verify},
};
use lyceum_store_postgres::PostgresStore;
use tokio_postgres::{Client, NoTls};

use crate::{SERVER, options};

/// A store whose server's clock stands still.
struct Still(PostgresStore, Client);

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

#[tokio::test]
async fn a_server_conforms_as_a_memory_when_new_and_when_reopened() {
    let address = SERVER.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(STAND_STILL).await.unwrap();
    let subject = Still(store, client);
    verify(&subject).await.unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    verify(&Still(store, subject.1)).await.unwrap();
}
