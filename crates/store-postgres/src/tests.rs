//! What only the inside can check: query plans, tenants apart, repeated deadlocks.

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use lyceum_core::{
    Expect, RecordStore as _, RecordWrite, Role, Scope, SessionId, TenantId, Vector,
};
use lyceum_memory::{
    MemoryKind, MemoryStore as _, NewJob, NewMemory, NewMessage, NewTurn, NewVector,
    SessionStore as _, TurnId, VectorSpace, VectorStore as _,
};
use lyceum_vault::{Encryption, Masters, Unsealed};
use tokio::sync::Barrier;

use crate::{
    PostgresOptions, PostgresStore, checkpoints,
    connection::{Begun, Whose},
    error::Failure,
    jobs, memories,
    pool::Held,
    records,
    sealing::to_write,
    sessions,
    test_server::TestServer,
    words,
};

static SERVER: LazyLock<TestServer> = LazyLock::new(|| TestServer::start().unwrap());

async fn store() -> PostgresStore {
    let options = PostgresOptions {
        min_connections: 1,
        ..PostgresOptions::default()
    };
    PostgresStore::open(&SERVER.database().unwrap(), options)
        .await
        .unwrap()
}

fn turn(name: &str) -> NewTurn {
    let memory = NewMemory::new(MemoryKind::Fact, "gravity", "Mass attracts mass.");
    NewTurn {
        turn_id: TurnId::new(name).unwrap(),
        topic: "gravity".into(),
        messages: vec![NewMessage {
            role: Role::User,
            content: "Mass attracts mass.".into(),
        }],
        memories: vec![memory],
        jobs: vec![NewJob {
            kind: "note".into(),
            payload: name.into(),
        }],
    }
}

/// The plan of a statement whose parameters are unknown, which is the one that a connection
/// comes to use: `EXPLAIN EXECUTE` with NULL for each, planned generically.
async fn plan(store: &PostgresStore, sql: &'static str) -> String {
    let params = (1..).take_while(|n| sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; params].join(", ");
    let explain = format!(
        "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; \
         SET LOCAL enable_bitmapscan = off; PREPARE hot AS {sql}; \
         EXPLAIN (COSTS OFF) EXECUTE hot ({nulls}); DEALLOCATE hot;"
    );
    store
        .call("plan", |session: Held| {
            let explain = explain.clone();
            async move {
                let explained = async { Ok::<_, Failure>(session.simple(&explain).await?) };
                session.write(Whose::Operator, |_| explained).await
            }
        })
        .await
        .unwrap()
        .join("\n")
}

#[tokio::test]
async fn hot_queries_use_their_indexes() {
    let store = store().await;
    for (sql, index) in [
        (sessions::MESSAGES, "message_other_pkey"),
        (sessions::SESSIONS, "session_by_age"),
        (sessions::SESSIONS_AFTER, "session_by_age"),
        (sessions::EXPIRE, "session_by_idleness"),
        (sessions::EXPIRE, "job_by_session"),
        (memories::LIST, "memory_by_age"),
        (memories::LIST_AFTER, "memory_by_age"),
        (memories::GET_MANY, "memory_owner_name_key"),
        (memories::BESIDE, "memory_by_session"),
        (words::POSTINGS, "posting_pkey"),
        (jobs::CLAIM, "job_due"),
        (jobs::NEXT, "job_due"),
        (jobs::DEAD, "job_dead"),
        (checkpoints::LOAD_NEWEST, "Backward using checkpoint_pkey"),
        (checkpoints::LOAD_NEWEST, "channel_value_pkey"),
        (checkpoints::LOAD_NEWEST, "task_record_pkey"),
        (checkpoints::HISTORY, "checkpoint_pkey"),
        (records::READ, "record_pkey"),
        (records::LIST, "record_by_age"),
        (records::LIST_GROUP, "record_by_group"),
        (records::EVERY, "record_by_kind"),
    ] {
        let plan = plan(&store, sql).await;
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
        assert!(!plan.contains("Seq Scan on"), "it scans:\n{plan}");
    }
    // Pages come in the order of their index, nothing is sorted.
    for sql in [
        sessions::SESSIONS_AFTER,
        memories::LIST_AFTER,
        checkpoints::HISTORY,
        records::LIST,
        records::LIST_GROUP,
        records::EVERY,
    ] {
        let plan = plan(&store, sql).await;
        assert!(!plan.contains("Sort"), "it sorts:\n{plan}");
    }
}

#[tokio::test]
async fn messages_are_looked_for_in_the_months_of_their_session() {
    let store = store().await;
    let scope = Scope::local().with_session(SessionId::new("s").unwrap());
    store.append(&scope, &turn("1")).await.unwrap();
    let analysed = store.call("analyse", |session: Held| async move {
        let sql = sessions::MESSAGES
            .replace("$1", "'local'")
            .replace("$2", "'local'")
            .replace("$3", "'feynman'")
            .replace("$4", "'s'")
            .replace("$5", "100")
            .replace("$6", "10");
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}");
        let explained = async { Ok::<_, Failure>(session.simple(&explain).await?) };
        session.write(Whose::Tenant("local"), |_| explained).await
    });
    let lines = analysed.await.unwrap();
    let of_messages = |line: &&String| line.contains("on message_");
    let (never, scanned): (Vec<_>, Vec<_>) = lines
        .iter()
        .filter(of_messages)
        .partition(|line| line.contains("never executed"));
    assert_eq!(
        (scanned.len(), never.len() >= 2),
        (1, true),
        "{}",
        lines.join("\n")
    );
    assert!(!scanned[0].contains("message_other"), "{scanned:?}");
}

#[tokio::test]
async fn a_transaction_sees_its_tenant_only_whatever_it_asks() {
    let options = PostgresOptions {
        encryption: Some(Encryption {
            masters: Masters::new(&[7; 32]),
            unsealed: Unsealed::Refuse,
        }),
        ..PostgresOptions::default()
    };
    let store = PostgresStore::open(&SERVER.database().unwrap(), options)
        .await
        .unwrap();
    for tenant in ["one", "two"] {
        let mut scope = Scope::local().with_session(SessionId::new("s").unwrap());
        scope.tenant = TenantId::new(tenant).unwrap();
        store.append(&scope, &turn("1")).await.unwrap();
        let record = RecordWrite::Put {
            kind: "note",
            id: "1".to_owned(),
            group: String::new(),
            body: "a".to_owned(),
            expect: Expect::Absent,
        };
        assert!(store.write(&scope.tenant, vec![record]).await.unwrap());
    }
    let tables = [
        "owner",
        "session",
        "turn",
        "message",
        "memory",
        "posting",
        "job",
        "record",
        "tenant_key",
    ];
    let count = async |whose: Option<Whose<'static>>, table: &str| -> i64 {
        let sql = format!("SELECT count(DISTINCT tenant) FROM lyceum.{table}");
        let counted = store.call("count", |session: Held| {
            let sql = sql.clone();
            async move {
                let counted = async { Ok::<_, Failure>(session.simple(&sql).await?) };
                match whose {
                    Some(whose) => session.write(whose, |_| counted).await,
                    None => counted.await,
                }
            }
        });
        counted.await.unwrap().concat().parse().unwrap()
    };
    for table in tables {
        assert_eq!(count(Some(Whose::Tenant("one")), table).await, 1, "{table}");
        assert_eq!(
            count(Some(Whose::Tenant("three")), table).await,
            0,
            "{table}"
        );
        assert_eq!(count(Some(Whose::Operator), table).await, 2, "{table}");
        assert_eq!(count(None, table).await, 0, "{table}: nobody is named");
    }
    // A partition by its own name gives nothing at all, not even to its tenant.
    assert_eq!(count(Some(Whose::Tenant("one")), "message_other").await, 0);
    // Nobody writes for another tenant.
    let forged = store.call("forge", |session: Held| async move {
        let forge = async {
            let insert =
                "INSERT INTO lyceum.owner (tenant, user_id, agent) VALUES ('two', 'x', 'x')";
            Ok::<_, Failure>(session.execute(insert, &[]).await?)
        };
        session.write(Whose::Tenant("one"), |_| forge).await
    });
    assert_eq!(forged.await.unwrap_err().label(), "internal");
}

#[tokio::test]
async fn the_loser_of_a_deadlock_is_repeated() {
    let store = store().await;
    let (attempts, met) = (AtomicU32::new(0), Barrier::new(2));
    let lock = |first: &'static str, second: &'static str| {
        let (store, attempts, met) = (&store, &attempts, &met);
        async move {
            let locked = store.call("lock", |session: Held| async move {
                let attempt = attempts.fetch_add(1, Ordering::SeqCst);
                let work = async {
                    session.query(first, &[]).await?;
                    if attempt < 2 {
                        met.wait().await;
                    }
                    session.query(second, &[]).await?;
                    Ok::<_, Failure>(())
                };
                session.write(Whose::Operator, |_| work).await
            });
            locked.await
        }
    };
    let (one, two) = (
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_xact_lock(2)",
    );
    let (there, back) = tokio::join!(lock(one, two), lock(two, one));
    there.unwrap();
    back.unwrap();
    assert_eq!(
        attempts.load(Ordering::SeqCst),
        3,
        "one of two was done again"
    );
}

#[tokio::test]
async fn a_commit_is_on_the_disk_even_where_the_database_says_otherwise() {
    let address = SERVER.database().unwrap();
    let name = address.rsplit('/').next().unwrap();
    SERVER
        .psql(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = off"
        ))
        .unwrap();
    let store = PostgresStore::open(&address, PostgresOptions::default())
        .await
        .unwrap();
    let shown = store.call("show", |session: Held| async move {
        Ok(session.simple("SHOW synchronous_commit").await?)
    });
    assert_eq!(shown.await.unwrap(), ["on"]);
}

#[tokio::test]
async fn a_common_word_is_bounded_and_a_rare_one_decides() {
    let (store, scope) = (store().await, Scope::local());
    let mut memories: Vec<NewMemory> = (0..1_500)
        .map(|n| NewMemory::new(MemoryKind::Fact, "apple", format!("apple number{n}")))
        .collect();
    memories[7].text = "apple of Newton".into();
    let insert = store.call("insert", |session: Held| {
        let (store, memories, scope) = (&store, &memories, &scope);
        async move {
            let owner = crate::scope::Owner::new(scope);
            let work = async |begun: Begun| {
                let texts = to_write(store.keys(), owner.tenant, begun)?;
                let home = owner.ensure(&session, &texts).await?;
                memories::insert(&session, home, None, memories, 0).await
            };
            session.write(owner.whose(), work).await
        }
    });
    assert_eq!(insert.await.unwrap(), 1_500);
    let found = store
        .search(&scope, "the apple of newton", 3)
        .await
        .unwrap();
    assert_eq!(found[0].id, memories[7].id);
    assert_eq!(store.search(&scope, "apples", 3).await.unwrap().len(), 3);
}

#[tokio::test]
async fn the_index_is_made_anew_when_its_rules_change() {
    let address = SERVER.database().unwrap();
    let options = PostgresOptions::default;
    let (store, scope) = (
        PostgresStore::open(&address, options()).await.unwrap(),
        Scope::local(),
    );
    for text in ["apples fall", "\u{690d}\u{7269}\u{9700}\u{8981}\u{5149}"] {
        let memory = NewMemory {
            context: "said on 8 May".into(),
            ..NewMemory::new(MemoryKind::Fact, "topic", text)
        };
        store.put(&scope, &memory).await.unwrap();
    }
    let asked = "apple May \u{5149}";
    let before = store.search(&scope, asked, 9).await.unwrap();
    let outdate = store.call("outdate", |session: Held| async move {
        let outdate = async {
            let sql = "UPDATE lyceum.setting SET value = '0' WHERE key = 'lexical'; \
                UPDATE lyceum.posting SET term = 'old ' || term; \
                UPDATE lyceum.owner SET documents = 7;";
            Ok::<_, Failure>(session.batch(sql).await?)
        };
        session.write(Whose::Operator, |_| outdate).await
    });
    outdate.await.unwrap();
    assert_eq!(store.search(&scope, asked, 9).await.unwrap(), []);
    let store = PostgresStore::open(&address, options()).await.unwrap();
    let after = store.search(&scope, asked, 9).await.unwrap();
    assert_eq!((after.len(), after), (2, before));
}

#[tokio::test]
async fn a_search_by_an_index_leaves_no_statement_on_its_connection() {
    static VECTORS: LazyLock<TestServer> = LazyLock::new(|| TestServer::with_vectors().unwrap());
    let options = PostgresOptions {
        index_vectors_from: 9,
        min_connections: 1,
        max_connections: 1,
        ..PostgresOptions::default()
    };
    let address = VECTORS.database().unwrap();
    let store = PostgresStore::open(&address, options).await.unwrap();
    let scope = Scope::local();
    let space = VectorSpace {
        model: "numbers".into(),
        dimensions: 2,
    };
    let mut vectors = Vec::new();
    for number in 0..20_u8 {
        let memory = NewMemory::new(MemoryKind::Fact, "numbers", number.to_string());
        store.put(&scope, &memory).await.unwrap();
        vectors.push(NewVector {
            scope: scope.clone(),
            id: memory.id,
            vector: Some(Vector::from([1.0, f32::from(number)].as_slice())),
        });
    }
    store.set_vectors(&space, &vectors).await.unwrap();
    // The store has begun by itself, or this does.
    store.build_indexes(&space).await.unwrap();
    let near = store.nearest(&scope, &space, &[1.0, 0.0], 3, &[]).await;
    assert_eq!(near.unwrap()[0].text, "0");
    let left = store.call("left", |session: Held| async move {
        let statements = "SELECT statement FROM pg_prepared_statements";
        Ok(session.simple(statements).await?)
    });
    let left = left.await.unwrap();
    let nearest = left.iter().filter(|sql| sql.contains("AS MATERIALIZED"));
    assert_eq!(nearest.filter(|sql| sql.contains("<#>")).count(), 0);
    assert!(left.iter().any(|sql| sql.contains("lyceum.vector_graph")));
}
