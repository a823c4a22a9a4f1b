//! Vectors beside their memories, on a server that has the extension and on others.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use lyceum_core::{Scope, SessionId, UserId, Vector};
use lyceum_memory::{
    MemoryId, MemoryKind, MemoryStore as _, NewMemory, NewTurn, NewVector, Progress,
    SessionStore as _, StoreCheck as _, StoreKeys as _, TurnId, VectorSpace, VectorStore as _,
    conformance::{verify, verify_checks, verify_vectors},
    dense::{Matrix, normalized},
};
use lyceum_store_postgres::{
    Encryption, PostgresOptions, PostgresStore, Unsealed, VectorSupport, test_server::TestServer,
};
use lyceum_vault::Masters;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{SERVER, memory::Still, options};

pub(crate) static VECTORS: LazyLock<TestServer> =
    LazyLock::new(|| TestServer::with_vectors().unwrap());

const DIMENSIONS: usize = 8;

pub(crate) fn space() -> VectorSpace {
    VectorSpace {
        model: "numbers".into(),
        dimensions: DIMENSIONS,
    }
}

pub(crate) fn user(name: &str) -> Scope {
    let mut scope = Scope::local();
    scope.user = UserId::new(name).unwrap();
    scope
}

pub(crate) fn id(number: i64) -> MemoryId {
    MemoryId::new(format!("m{number}")).unwrap()
}

/// A vector of numbers that follow from this one.
fn numbers(seed: i64) -> Vec<f32> {
    let mut state = u64::from_ne_bytes(seed.to_ne_bytes()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let drawn = (0..DIMENSIONS).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(state >> 48).unwrap_or(0)) / 32_768.0 - 1.0
    });
    normalized(&drawn.collect::<Vec<_>>()).unwrap()
}

pub(crate) async fn fill(store: &PostgresStore, scope: &Scope, ids: std::ops::Range<i64>) {
    let memory = |number| NewMemory {
        id: id(number),
        ..NewMemory::new(MemoryKind::Fact, "numbers", format!("number {number}"))
    };
    let turn = NewTurn {
        turn_id: TurnId::new("all").unwrap(),
        topic: String::new(),
        messages: Vec::new(),
        memories: ids.clone().map(memory).collect(),
        jobs: Vec::new(),
    };
    let session = SessionId::new("talk").unwrap();
    let whose = scope.clone().with_session(session);
    store.append(&whose, &turn).await.unwrap();
    let vector = |number| NewVector {
        scope: scope.clone(),
        id: id(number),
        vector: Some(Vector::from(numbers(number).as_slice())),
    };
    let vectors: Vec<NewVector> = ids.map(vector).collect();
    store.set_vectors(&space(), &vectors).await.unwrap();
}

pub(crate) async fn connect(address: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn a_server_with_vectors_conforms_when_new_and_when_reopened() {
    let address = VECTORS.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    assert!(store.vectors().is_here(), "{}", store.vectors());
    verify_vectors(&store, &store).await.unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    verify_vectors(&store, &store).await.unwrap();
    let subject = Still::new(store, &address).await;
    verify(&subject).await.unwrap();
    verify_checks(&subject, &subject.0, Some(&subject.0))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_large_owner_is_searched_by_an_index_of_their_own() {
    const MANY: i64 = 2_000;
    let address = VECTORS.database().unwrap();
    let options = PostgresOptions {
        index_vectors_from: 1_000,
        ..options()
    };
    let store = PostgresStore::open(&address, options).await.unwrap();
    let (large, small) = (user("large"), user("small"));
    // The small one's lie among the large one's, and half of them nearer to each query.
    fill(&store, &small, 0..300).await;
    fill(&store, &large, 0..MANY).await;
    // The store has begun by itself, or this does.
    store.build_indexes(&space()).await.unwrap();
    let client = connect(&address).await;
    let built = "SELECT count(*) FROM lyceum.vector_graph";
    let row = client.query_one(built, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1, "the small owner has none");
    assert_eq!(store.build_indexes(&space()).await.unwrap(), 0);
    let mut matrix = Matrix::new(DIMENSIONS);
    for number in 0..MANY {
        matrix.push(number, numbers(number).into_iter());
    }
    let (mut found, mut wanted) = (0, 0);
    for query in MANY..MANY + 50 {
        let query = numbers(query);
        let near = store.nearest(&large, &space(), &query, 10, &[]).await;
        let near = near.unwrap();
        assert_eq!(near.len(), 10);
        let ids: BTreeSet<&MemoryId> = near.iter().map(|near| &near.id).collect();
        let exact = matrix.nearest(&query, 10);
        wanted += exact.len();
        found += exact.iter().filter(|(n, _)| ids.contains(&id(*n))).count();
        let near = store.nearest(&small, &space(), &query, 10, &[]).await;
        assert_eq!(near.unwrap().len(), 10, "nobody's index takes them away");
    }
    assert!(found * 100 >= wanted * 97, "{found} of {wanted}");
    // It is the index that was used.
    let used = "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes \
        WHERE indexrelname LIKE 'vector_graph_%'";
    let counted = async {
        // What a connection did is told at the end of a later transaction.
        while client.query_one(used, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            let again = store.nearest(&large, &space(), &numbers(1), 3, &[]).await;
            assert_eq!(again.unwrap().len(), 3);
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(60), counted).await;
    assert!(counted.is_ok(), "the index was not used");
    // What is superseded hides nothing, and what was stored since is found.
    let nearest = store.nearest(&large, &space(), &numbers(7), 5, &[]).await;
    assert_eq!(nearest.unwrap()[0].id, id(7));
    let successor = NewMemory {
        id: id(MANY),
        supersedes: vec![id(7)],
        ..NewMemory::new(MemoryKind::Fact, "numbers", "another number")
    };
    store.put(&large, &successor).await.unwrap();
    let vector = NewVector {
        scope: large.clone(),
        id: id(MANY),
        vector: Some(Vector::from(numbers(7).as_slice())),
    };
    store.set_vectors(&space(), &[vector]).await.unwrap();
    let also = [id(7), id(3)];
    let nearest = store.nearest(&large, &space(), &numbers(7), 5, &also).await;
    let nearest = nearest.unwrap();
    assert_eq!(nearest[0].id, id(MANY));
    assert!(nearest.iter().all(|near| near.id != id(7)));
    assert!(nearest.iter().any(|near| near.id == id(3)));
}

#[tokio::test]
async fn only_the_largest_owners_have_indexes() {
    let address = VECTORS.database().unwrap();
    let filling = PostgresStore::open(&address, options()).await.unwrap();
    let owner = |number: i64| user(&format!("o{number}"));
    for number in 0..34 {
        fill(&filling, &owner(number), 0..10 + number).await;
    }
    let options = PostgresOptions {
        index_vectors_from: 9,
        ..options()
    };
    let store = PostgresStore::open(&address, options).await.unwrap();
    let client = connect(&address).await;
    let with_indexes = async || -> Vec<String> {
        let sql = "SET lyceum.operator = 'on'; SELECT o.user_id FROM lyceum.vector_graph g \
            JOIN lyceum.owner o ON o.id = g.owner JOIN pg_class c \
            ON c.relname = 'vector_graph_' || g.space || '_' || g.owner \
            ORDER BY substr(o.user_id, 2)::int";
        let rows = client.simple_query(sql).await.unwrap();
        let name = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        rows.iter().filter_map(name).collect()
    };
    let names = |numbers: &mut dyn Iterator<Item = i64>| -> Vec<String> {
        numbers.map(|number| format!("o{number}")).collect()
    };
    assert_eq!(store.build_indexes(&space()).await.unwrap(), 32);
    assert_eq!(with_indexes().await, names(&mut (2..34)));
    // The others are found by comparing.
    let near = store
        .nearest(&owner(0), &space(), &numbers(3), 3, &[])
        .await;
    assert_eq!(near.unwrap()[0].id, id(3));

    let grow = async |number: i64, by: i64| {
        for _ in 0..by {
            let new = NewMemory::new(MemoryKind::Fact, "numbers", "new");
            filling.put(&owner(number), &new).await.unwrap();
        }
    };
    grow(1, 5).await;
    assert_eq!(store.build_indexes(&space()).await.unwrap(), 0);
    assert_eq!(with_indexes().await, names(&mut (2..34)), "nearly as large");
    grow(1, 20).await;
    assert_eq!(store.build_indexes(&space()).await.unwrap(), 1);
    let others = &mut (3..34);
    assert_eq!(
        with_indexes().await,
        names(&mut [1].into_iter().chain(others))
    );
    let count = "SELECT count(*) FROM pg_class WHERE relname LIKE 'vector\\_graph\\_%\\_%' \
        AND relkind = 'i' AND relname <> 'vector_graph_pkey'";
    let count: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(count, 32, "what was given up is gone");

    // Setting vectors begins it where it is due.
    fill(&store, &owner(34), 0..50).await;
    let begun = async { while !with_indexes().await.contains(&"o34".to_owned()) {} };
    let begun = tokio::time::timeout(Duration::from_secs(60), begun).await;
    assert!(begun.is_ok(), "no index was built");
}

#[tokio::test]
async fn vectors_that_are_broken_are_found_and_wait_again() {
    let address = VECTORS.database().unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    fill(&store, &user("ada"), 0..3).await;
    assert!(store.verify().await.unwrap().is_sound());
    let spoil = "SET lyceum.operator = 'on'; \
        UPDATE lyceum.embedding SET data = '[1,2]' WHERE memory = (SELECT min(memory) FROM lyceum.embedding); \
        DELETE FROM lyceum.embedding WHERE memory = (SELECT max(memory) FROM lyceum.embedding)";
    connect(&address).await.batch_execute(spoil).await.unwrap();
    let found = store.verify().await.unwrap();
    let found: Vec<_> = found.described.iter().map(|fault| fault.what).collect();
    assert_eq!(found, ["vectors"]);
    assert_eq!(store.count_vectors(&space()).await.unwrap().missed, 1);
    store.rebuild().await.unwrap();
    assert!(store.verify().await.unwrap().is_sound());
    let waiting = store.unembedded(&space(), 9).await.unwrap();
    let waiting: Vec<_> = waiting.iter().map(|one| one.id.clone()).collect();
    assert_eq!(waiting, [id(0), id(2)]);
}

#[tokio::test]
async fn a_server_without_the_extension_says_what_is_missing() {
    let why = |store: &PostgresStore| match store.vectors() {
        VectorSupport::Absent { why } => why.clone(),
        here => here.to_string(),
    };
    let store = PostgresStore::open(&SERVER.database().unwrap(), options()).await;
    let store = store.unwrap();
    assert!(
        why(&store).contains("no extension vector"),
        "{}",
        why(&store)
    );
    let refused = store
        .nearest(&user("ada"), &space(), &numbers(1), 3, &[])
        .await;
    assert_eq!(refused.unwrap_err().label(), "internal");

    // It is installed, and this user may not put it into the database.
    let address = VECTORS.database().unwrap();
    let superuser = address.replace("lyceum@", "postgres@");
    let drop = "DROP EXTENSION vector";
    connect(&superuser).await.batch_execute(drop).await.unwrap();
    let store = PostgresStore::open(&address, options()).await.unwrap();
    assert!(
        why(&store).contains("CREATE EXTENSION vector"),
        "{}",
        why(&store)
    );
}

#[tokio::test]
async fn an_encrypted_database_keeps_no_vectors() {
    let address = VECTORS.database().unwrap();
    let clear = PostgresStore::open(&address, options()).await.unwrap();
    fill(&clear, &user("ada"), 0..3).await;
    let encryption = |unsealed| PostgresOptions {
        encryption: Some(Encryption {
            masters: Masters::new(&[7; 32]),
            unsealed,
        }),
        ..options()
    };
    let store = PostgresStore::open(&address, encryption(Unsealed::Open)).await;
    let store = store.unwrap();
    store.begin_keys().await.unwrap();
    let mut progress = Progress::default();
    while let Some(next) = store.reseal(progress).await.unwrap() {
        progress = next;
    }
    store.end_keys().await.unwrap();
    let client = connect(&address).await;
    client
        .batch_execute("SET lyceum.operator = 'on'")
        .await
        .unwrap();
    let vectors = "SELECT (SELECT count(*) FROM lyceum.embedding), \
        (SELECT count(*) FROM lyceum.vector_waiting)";
    let row = client.query_one(vectors, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (0, 0));
    let store = PostgresStore::open(&address, encryption(Unsealed::Refuse)).await;
    let store = store.unwrap();
    assert!(!store.vectors().is_here());
    let found = store.search(&user("ada"), "number 2", 9).await.unwrap();
    assert_eq!(found[0].id, id(2));
}
