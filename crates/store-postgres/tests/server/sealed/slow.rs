//! The operator's calls over rows that take longer than a call may.

use std::time::Duration;

use lyceum_memory::{
    MemoryKind, MemoryStore as _, NewMemory, Progress, StoreCheck as _, StoreKeys as _, Whose,
};
use lyceum_store_postgres::{PostgresOptions, PostgresStore, Unsealed};

use super::{by_hand, fill, key, scope, sealed};
use crate::SERVER;

/// Whoever reads a memory waits: for two of them longer than the server or the client allows.
const SLOW: &str = "\
    CREATE FUNCTION lyceum.slow() RETURNS boolean LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM pg_sleep(0.8); RETURN true; END $$; \
    CREATE POLICY slow ON lyceum.memory AS RESTRICTIVE USING (lyceum.slow())";

#[tokio::test]
async fn an_operators_calls_take_as_long_as_they_need() {
    let (address, scope) = (SERVER.database().unwrap(), scope("one", "ada"));
    fill(&sealed(&address).await, &scope).await;
    let options = PostgresOptions {
        statement_timeout: Duration::from_millis(300),
        min_connections: 0,
        max_connections: 1,
        ..key(Unsealed::Refuse)
    };
    let store = PostgresStore::open(&address, options).await.unwrap();
    by_hand(&address).await.batch_execute(SLOW).await.unwrap();

    let found = store.verify().await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(found.memories, 2);
    // The same connection serves others, and does not let them wait.
    let new = NewMemory::new(MemoryKind::Fact, "a", "b");
    let refused = store.put(&scope, &new).await.unwrap_err();
    let refused = format!("{refused:?}");
    assert!(refused.contains("statement timeout"), "{refused}");
    store.rebuild().await.unwrap();
    assert_eq!(store.begin_keys().await.unwrap(), 1);
    let mut progress = Progress::default();
    while let Some(next) = store.reseal(progress).await.unwrap() {
        progress = next;
    }
    assert_eq!(store.end_keys().await.unwrap(), 1);
    let whose = Whose {
        tenant: scope.tenant.clone(),
        user: None,
    };
    assert_eq!(store.erase(&whose).await.unwrap().memories, 2);
}
