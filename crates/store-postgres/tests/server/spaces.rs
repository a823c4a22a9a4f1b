//! Spaces of vectors that begin, or are used again, over a memory that is already large.

use lyceum_memory::{
    MemoryKind, MemoryStore as _, NewMemory, StoreCheck as _, VectorCount, VectorStore as _,
};
use lyceum_store_postgres::PostgresStore;
use tokio_postgres::Client;

use crate::{
    PATIENCE, options,
    vectors::{VECTORS, connect, fill, id, space, user},
};

/// More than two portions.
const MANY: i64 = 9_000;

/// A database with many memories, whose spaces nobody used; and somebody who may do all in it.
async fn large() -> (String, Client) {
    let address = VECTORS.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    let first = NewMemory {
        id: id(0),
        ..NewMemory::new(MemoryKind::Fact, "numbers", "number 0")
    };
    store.put(&user("ada"), &first).await.unwrap();
    let client = connect(&address).await;
    let copy = format!(
        "SET lyceum.operator = 'on'; \
         INSERT INTO lyceum.memory \
             (tenant, owner, name, kind, topic, text, importance, created_at, valid_from, recorded_at) \
         SELECT tenant, owner, 'm' || n, kind, topic, text, importance, created_at, valid_from, recorded_at \
         FROM lyceum.memory, generate_series(1, {MANY} - 1) n"
    );
    client.batch_execute(&copy).await.unwrap();
    (address, client)
}

async fn count(store: &PostgresStore) -> VectorCount {
    store.count_vectors(&space()).await.unwrap()
}

async fn waiting(client: &Client) -> i64 {
    let sql = "SELECT count(*) FROM lyceum.vector_waiting";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn age(client: &Client, hours: i64) {
    let age =
        format!("UPDATE lyceum.vector_space SET used_at = used_at - 3600000 * {hours}::bigint");
    client.batch_execute(&age).await.unwrap();
}

#[tokio::test]
async fn memories_of_before_wait_in_portions_that_hold_no_writer_up() {
    let (address, client) = large().await;
    let mut deleter = connect(&address).await;
    let deleting = deleter.transaction().await.unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    // Somebody deletes a memory of a later portion, and takes their time.
    let delete = "SET LOCAL lyceum.operator = 'on'; \
        SELECT FROM lyceum.memory WHERE name = 'm8500' FOR UPDATE";
    deleting.batch_execute(delete).await.unwrap();
    let space = space();
    let begins = store.count_vectors(&space);
    let met = async {
        let blocked = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let comes = async {
            while client
                .query_one(blocked, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
                == 0
            {}
        };
        tokio::time::timeout(PATIENCE, comes).await.unwrap();
        // Others store meanwhile.
        let late = NewMemory::new(MemoryKind::Fact, "numbers", "late");
        store.put(&user("late"), &late).await.unwrap();
    };
    tokio::select! {
        _ = begins => panic!("it did not come to the memory that is locked"),
        () = met => {}
    }
    // That call was cut off. What it did stands, and what it did not is done by the next.
    let noted = waiting(&client).await;
    assert!((8_001..MANY).contains(&noted), "{noted}");
    deleting.rollback().await.unwrap();
    assert_eq!(count(&store).await.missed, 0);
    assert_eq!(waiting(&client).await, MANY + 1);
    let left = "SELECT count(*) FROM lyceum.setting WHERE key LIKE 'await%'";
    let left: i64 = client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_space_that_is_used_again_waits_for_no_writer() {
    let address = VECTORS.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    fill(&store, &user("ada"), 0..3).await;
    let client = connect(&address).await;
    client
        .batch_execute("SET lyceum.operator = 'on'")
        .await
        .unwrap();
    age(&client, 2).await;
    let mut writer = connect(&address).await;
    let writing = writer.transaction().await.unwrap();
    let lock = "LOCK TABLE lyceum.memory IN ROW EXCLUSIVE MODE";
    writing.batch_execute(lock).await.unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    assert_eq!(count(&store).await.vectors, 3);
    let fresh = "SELECT used_at > lyceum.now_ms() - 3600000 FROM lyceum.vector_space";
    assert!(
        client
            .query_one(fresh, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
    );
    writing.rollback().await.unwrap();
}

#[tokio::test]
async fn a_space_that_nobody_used_for_a_week_finds_what_was_stored_since() {
    let address = VECTORS.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    fill(&store, &user("ada"), 0..3).await;
    let client = connect(&address).await;
    age(&client, 8 * 24).await;
    let late = NewMemory {
        id: id(3),
        ..NewMemory::new(MemoryKind::Fact, "numbers", "late")
    };
    store.put(&user("ada"), &late).await.unwrap();
    assert_eq!(waiting(&client).await, 0, "nobody asks for it");
    let store = PostgresStore::open(&address, options()).await.unwrap();
    assert_eq!(count(&store).await.missed, 0);
    let waiting = store.unembedded(&space(), 9).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].id, id(3));
}

#[tokio::test]
async fn vectors_are_forgotten_and_mended_in_portions() {
    let (address, client) = large().await;
    let store = PostgresStore::open(&address, options()).await.unwrap();
    assert_eq!(count(&store).await.settled, 0);
    let settle = "DELETE FROM lyceum.vector_waiting; \
        INSERT INTO lyceum.embedding (tenant, space, owner, memory, data) \
        SELECT tenant, s.id, owner, m.id, '[1,0,0,0,0,0,0,0]' \
        FROM lyceum.memory m, lyceum.vector_space s";
    client.batch_execute(settle).await.unwrap();
    let spoil = "UPDATE lyceum.embedding SET data = '[1,2]' WHERE memory IN \
        (SELECT id FROM lyceum.memory WHERE name IN ('m1', 'm8500'))";
    client.batch_execute(spoil).await.unwrap();
    store.rebuild().await.unwrap();
    assert_eq!(waiting(&client).await, 2);
    let found = count(&store).await;
    assert_eq!((found.missed, found.vectors), (0, MANY as u64 - 2));
    let forgotten = store.forget_vectors(&space()).await.unwrap();
    assert_eq!(forgotten, MANY as u64 - 2);
    assert_eq!(waiting(&client).await, MANY);
    let found = count(&store).await;
    assert_eq!((found.missed, found.settled), (0, 0));
}
