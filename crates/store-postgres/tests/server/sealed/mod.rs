//! Encryption at rest, as somebody meets it who can read and write the database.

mod keys;
mod rows;
mod slow;

use std::{sync::Arc, time::Duration};

use lyceum_core::{Expect, RecordStore, RecordWrite, TenantId};
use lyceum_graph::{Claim as LeaseClaim, Saver as _, ThreadId};
use lyceum_memory::{
    MemoryKind, MemoryStore, NewMemory, SessionArchive, SessionStore, StoreCheck, StoreKeys, Whose,
    conformance::sealed::{
        PLANTED, change, change_by_steps, comes_back, erase, fill, gives_up_a_job, has_a_job,
        has_no_key, keeps, one_does_not_open, refuses_an_answer, scope, sealed_row, told, turn,
    },
};
use lyceum_store_postgres::{Encryption, OpenError, PostgresOptions, PostgresStore, Unsealed};
use lyceum_vault::{Masters, OpenError as Why};
use tokio_postgres::{Client, NoTls};

use crate::{PATIENCE, SERVER};

pub(crate) const KEY: [u8; 32] = [7; 32];

fn with(masters: Masters, unsealed: Unsealed) -> PostgresOptions {
    PostgresOptions {
        encryption: Some(Encryption { masters, unsealed }),
        ..crate::options()
    }
}

fn key(unsealed: Unsealed) -> PostgresOptions {
    with(Masters::new(&KEY), unsealed)
}

pub(crate) async fn sealed(address: &str) -> PostgresStore {
    let options = key(Unsealed::Refuse);
    PostgresStore::open(address, options).await.unwrap()
}

/// A connection whose user owns the tables and goes round row-level security as the operator.
async fn by_hand(address: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    let rights = "SET lyceum.operator = 'on'";
    client.batch_execute(rights).await.unwrap();
    client
}

/// The words that stand in a table, in the clear: as text, or in the bytes of a column.
async fn readable(client: &Client) -> Vec<&'static str> {
    let tables = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'lyceum' AND c.relkind IN ('r', 'p')";
    let mut all = String::new();
    for table in client.query(tables, &[]).await.unwrap() {
        let name: &str = table.get(0);
        let rows = format!("SELECT lower(string_agg(t::text, ' ')) FROM lyceum.{name} t");
        let row = client.query_one(&rows, &[]).await.unwrap();
        all.extend(row.get::<_, Option<String>>(0));
    }
    let mut words = Vec::new();
    for word in PLANTED {
        // The index holds stems in lower case; the server shows bytes as hexadecimal digits.
        let stem = &word[1..word.len() - 2];
        let digits: String = stem.bytes().map(|byte| format!("{byte:02x}")).collect();
        if all.contains(&stem.to_lowercase()) || all.contains(&digits) {
            words.push(word);
        }
    }
    words
}

#[tokio::test]
async fn nothing_that_was_said_is_in_the_tables() {
    let address = SERVER.database().unwrap();
    let (store, whose) = (sealed(&address).await, scope("acme", "ada"));
    assert!(store.is_encrypting());
    fill(&store, &whose).await;
    let client = by_hand(&address).await;
    assert_eq!(readable(&client).await, Vec::<&str>::new());
    let text = told(&store, &whose).await.unwrap();
    let store = sealed(&address).await;
    keeps(&store, &whose, &text, told).await;
    // A conversation that comes from elsewhere is sealed too.
    let session = store.session(&whose).await.unwrap().unwrap();
    let messages = store.messages(&whose, None, 9).await.unwrap();
    let guest = scope("acme", "eve");
    assert!(store.restore(&guest, &session, &messages).await.unwrap());
    assert_eq!(store.messages(&guest, None, 9).await.unwrap(), messages);
    assert_eq!(readable(&client).await, Vec::<&str>::new());
    // In a database that is not encrypted they are all found.
    let address = SERVER.database().unwrap();
    let clear = PostgresStore::open(&address, crate::options()).await;
    fill(&clear.unwrap(), &whose).await;
    let readable = readable(&by_hand(&address).await).await;
    assert_eq!(readable, PLANTED[..7], "the look at the tables sees words");
}

#[tokio::test]
async fn an_erased_tenant_is_unreadable_even_where_rows_are_left() {
    let address = SERVER.database().unwrap();
    let store = sealed(&address).await;
    let (ada, bo) = (scope("acme", "ada"), scope("umbrella", "bo"));
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    let kept = told(&store, &bo).await.unwrap();
    // The rows without their key, as a backup would have them that leaves the table of keys out.
    let client = by_hand(&address).await;
    let destroy = "DELETE FROM lyceum.tenant_key WHERE tenant = 'acme'";
    client.execute(destroy, &[]).await.unwrap();
    has_no_key::<Why>(&store, &ada).await;
    assert_eq!(told(&store, &bo).await.unwrap(), kept);
    let refused = PostgresStore::open(&address, key(Unsealed::Refuse)).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, OpenError::NotSealed { tenants: 1, .. }),
        "{refused}"
    );
    // So does an erasure that was cut off behind its first step, and it can be repeated.
    let left = PostgresStore::open(&address, key(Unsealed::Open)).await;
    let left = left.unwrap();
    erase(&left, &ada).await;
    let store = sealed(&address).await;
    assert_eq!(told(&store, &bo).await.unwrap(), kept);
    comes_back(&store, &ada).await;
    let keys = "SELECT count(*) FROM lyceum.tenant_key WHERE tenant = 'acme'";
    let before: i64 = client.query_one(keys, &[]).await.unwrap().get(0);
    let whose = Whose {
        tenant: ada.tenant.clone(),
        user: None,
    };
    store.erase(&whose).await.unwrap();
    let after: i64 = client.query_one(keys, &[]).await.unwrap().get(0);
    assert_eq!((before, after), (1, 0));
}

#[tokio::test]
async fn threads_of_a_tenant_are_sealed_with_its_key() {
    let address = SERVER.database().unwrap();
    let store = Arc::new(sealed(&address).await);
    let tenant = TenantId::new("acme").unwrap();
    lyceum_graph::conformance::check(&*store.saver_of(&tenant)).await;
    let thread = ThreadId::new("t").unwrap();
    let saver = store.saver_of(&tenant);
    let lease = saver.acquire(&thread, Duration::from_secs(9), LeaseClaim::IfFree);
    let lease = lease.await.unwrap();
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
    saver.commit(&lease, &batch).await.unwrap();
    assert_eq!(readable(&by_hand(&address).await).await, Vec::<&str>::new());
}

#[tokio::test]
async fn records_are_kept_sealed_as_the_port_says() {
    let store = sealed(&SERVER.database().unwrap()).await;
    lyceum_core::record_conformance::check(&store).await;
}

#[tokio::test]
async fn many_first_writers_of_a_tenant_make_one_key() {
    let address = SERVER.database().unwrap();
    let (one, two) = tokio::join!(sealed(&address), sealed(&address));
    let (one, two) = (Arc::new(one), Arc::new(two));
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(if number % 2 == 0 { &one } else { &two });
        writers.spawn(async move {
            let whose = scope("acme", &format!("user-{number}"));
            store.append(&whose, &turn("one")).await.unwrap();
            told(&*store, &whose).await.unwrap();
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let count = "SELECT count(*) FROM lyceum.tenant_key";
    let keys = by_hand(&address).await.query_one(count, &[]).await;
    assert_eq!(keys.unwrap().get::<_, i64>(0), 1);
    assert!(one.verify().await.unwrap().is_sound());
}
