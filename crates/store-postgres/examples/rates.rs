//! What a server on this machine's disk does in a second, as one JSON object a line.
//!
//! `cargo run --release -p lyceum-store-postgres --features test-server --example rates`; the
//! temporary directory's disk decides, because every commit is synced to it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_graph::{
    Context, END, Graph, GraphBuilder, NodeError, RunConfig, START, State, ThreadId,
};
use lyceum_memory::{
    MemoryKind, MemoryStore, NewMemory, NewMessage, NewTurn, SessionCursor, SessionStore,
    Timestamp, TurnId,
};
use lyceum_store_postgres::{PostgresOptions, PostgresStore, test_server::TestServer};
use serde_json::json;
use tokio_postgres::NoTls;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How many sessions the deep pages are turned in.
const SESSIONS: u32 = 1_000_000;

#[tokio::main]
async fn main() -> Outcome {
    let server = TestServer::start()?;
    let address = server.database()?;
    let store = Arc::new(PostgresStore::open(&address, PostgresOptions::default()).await?);
    for callers in [1, 8, 64] {
        runs(&store, callers).await?;
    }
    for callers in [1, 8, 64] {
        turns(&store, callers).await?;
    }
    batch(&store).await?;
    search(&store).await?;
    pages(&store, &address).await
}

#[expect(clippy::print_stdout, reason = "the figures are the purpose")]
fn print(line: &serde_json::Value) {
    println!("{line}");
}

#[derive(State, Clone, Debug, Default)]
struct Log {
    #[state(append)]
    lines: Vec<String>,
}

async fn step(_: Arc<Log>, _: Context) -> Result<LogUpdate, NodeError> {
    Ok(LogUpdate::new().lines(["one more line of a log".to_owned()]))
}

fn chain() -> Outcome<Graph<Log>> {
    let graph = GraphBuilder::new()
        .node("a", step)
        .node("b", step)
        .node("c", step)
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", "c")
        .edge("c", END);
    Ok(graph.compile()?)
}

/// Chains of three nodes: a lease, a load, four commits and a release each.
async fn runs(store: &Arc<PostgresStore>, callers: usize) -> Outcome {
    let (graph, each) = (&chain()?, 400 / callers.min(8));
    let started = Instant::now();
    try_join_all((0..callers).map(|caller| async move {
        for run in 0..each {
            let id = ThreadId::new(format!("{callers}/{caller}/{run}"))?;
            let thread = graph.thread(store.clone(), id);
            thread.run(Log::default(), RunConfig::default()).await?;
        }
        Outcome::Ok(())
    }))
    .await?;
    let rate = (callers * each) as f64 / started.elapsed().as_secs_f64();
    print(
        &json!({"what": "graph runs, chain of 3, sync", "callers": callers, "per_second": rate.round()}),
    );
    Ok(())
}

fn turn(messages: usize) -> NewTurn {
    let message = NewMessage {
        role: Role::User,
        content: "word ".repeat(60),
    };
    NewTurn {
        turn_id: TurnId::random(),
        topic: "rate".into(),
        messages: vec![message; messages],
        memories: Vec::new(),
        jobs: Vec::new(),
    }
}

async fn turns(store: &PostgresStore, callers: usize) -> Outcome {
    let each = 400 / callers.min(8);
    let started = Instant::now();
    try_join_all((0..callers).map(|caller| async move {
        let scope = Scope::local().with_session(SessionId::new(format!("{callers}-{caller}"))?);
        for _ in 0..each {
            store.append(&scope, &turn(2)).await?;
        }
        Outcome::Ok(())
    }))
    .await?;
    let rate = (callers * each) as f64 / started.elapsed().as_secs_f64();
    print(&json!({"what": "acknowledged turns", "callers": callers, "per_second": rate.round()}));
    Ok(())
}

async fn batch(store: &PostgresStore) -> Outcome {
    const MESSAGES: usize = 1_000;
    let scope = Scope::local().with_session(SessionId::new("batch")?);
    let started = Instant::now();
    for _ in 0..MESSAGES {
        store.append(&scope, &turn(1)).await?;
    }
    let single = started.elapsed();
    let started = Instant::now();
    store.append(&scope, &turn(MESSAGES)).await?;
    let batched = started.elapsed();
    let ratio = single.as_secs_f64() / batched.as_secs_f64();
    print(&json!({"what": "1,000 messages, one by one against at once", "ratio": ratio.round()}));
    Ok(())
}

async fn search(store: &PostgresStore) -> Outcome {
    let scope = Scope::local().with_session(SessionId::new("search")?);
    for batch in 0..100 {
        let memory = |n: u32| {
            let text = format!("fact{n} about subject{} and matter{}", n % 97, n % 1_009);
            NewMemory::new(MemoryKind::Fact, format!("topic {}", n % 13), text)
        };
        let mut taught = turn(1);
        taught.memories = (0..100).map(|n| memory(batch * 100 + n)).collect();
        store.append(&scope, &taught).await?;
    }
    let mut times = Vec::new();
    for n in 0..200 {
        let started = Instant::now();
        store
            .search(&scope, &format!("subject{} matter{}", n % 97, n * 5), 10)
            .await?;
        times.push(started.elapsed());
    }
    times.sort();
    let micros = |at: usize| times[at].as_micros();
    print(
        &json!({"what": "search among 10,000 memories of one owner", "p50_us": micros(100), "p99_us": micros(198)}),
    );
    Ok(())
}

/// The page after half of the sessions, by cursor and by OFFSET.
async fn pages(store: &PostgresStore, address: &str) -> Outcome {
    let (mut client, connection) = tokio_postgres::connect(address, NoTls).await?;
    tokio::spawn(connection);
    let fill = format!(
        "SELECT set_config('lyceum.operator', 'on', true); \
         INSERT INTO lyceum.session \
             (tenant, owner, name, topic, created_at, updated_at, oldest_at, newest_at) \
         SELECT 'local', (SELECT id FROM lyceum.owner), 'deep-' || n, 'deep', n, n, n, n \
         FROM generate_series(1, {SESSIONS}) n"
    );
    let filling = client.transaction().await?;
    filling.batch_execute(&fill).await?;
    filling.commit().await?;
    let cursor = SessionCursor {
        created_at: Timestamp(2),
        id: SessionId::new("deep-2")?,
    };
    store.sessions(&Scope::local(), Some(&cursor), 20).await?;
    let started = Instant::now();
    for _ in 0..20 {
        store.sessions(&Scope::local(), Some(&cursor), 20).await?;
    }
    let by_cursor = started.elapsed() / 20;
    let offset = format!(
        "SELECT set_config('lyceum.operator', 'on', true); \
         SELECT name, topic FROM lyceum.session WHERE owner = (SELECT id FROM lyceum.owner) \
         ORDER BY created_at DESC, name DESC LIMIT 20 OFFSET {}",
        SESSIONS - 2
    );
    let reading = client.transaction().await?;
    reading.batch_execute(&offset).await?;
    let started = Instant::now();
    reading.batch_execute(&offset).await?;
    let by_offset: Duration = started.elapsed();
    let ratio = by_offset.as_secs_f64() / by_cursor.as_secs_f64();
    print(
        &json!({"what": "the page at row 1,000,000, by cursor against OFFSET", "cursor_us": by_cursor.as_micros(), "ratio": ratio.round()}),
    );
    Ok(())
}
