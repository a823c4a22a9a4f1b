//! Finding by meaning in PostgreSQL: 100,000 vectors of 384 numbers of one owner, beside smaller
//! owners, over the extension `vector`.
//!
//! The vectors are drawn around centres in a space of 32 dimensions, as those of sentences lie in
//! a part of their space. What is exact is computed in this process.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lyceum_core::{Scope, SessionId, UserId, Vector};
use lyceum_memory::{
    MemoryId, MemoryKind, NewMemory, NewTurn, NewVector, SessionStore as _, TurnId, VectorSpace,
    VectorStore as _,
    dense::{Matrix, normalized},
};
use lyceum_store_postgres::{PostgresOptions, PostgresStore, test_server::TestServer};
use tokio_postgres::NoTls;

use crate::report::{Figures, say};

const DIMENSIONS: usize = 384;
/// Vectors of the large owner.
const MANY: usize = 100_000;
/// Owners beside, and the vectors of each.
const OTHERS: usize = 20;
const FEW: usize = 1_000;
/// Rows that are stored at once.
const BATCH: usize = 1_000;
const QUERIES: usize = 500;
/// Of so many nearest it is said how many were found.
const FOUND: usize = 10;
/// The share that is wanted of them.
const RECALL: f64 = 0.97;

/// Numbers without any meaning, the same in every run: a linear congruential generator with the
/// constants of Knuth's MMIX.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
    }

    /// Nearly normal, by the sum of twelve.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum()
    }
}

/// Where vectors lie.
struct Space {
    random: Random,
    centres: Vec<[f32; INNER]>,
    axes: Vec<[f32; INNER]>,
}

const INNER: usize = 32;
const CENTRES: usize = 1_000;

impl Space {
    fn new() -> Self {
        let mut random = Random(7);
        let mut point = || std::array::from_fn(|_| random.normal());
        let centres = (0..CENTRES).map(|_| point()).collect();
        let axes = (0..DIMENSIONS).map(|_| point()).collect();
        Self {
            random,
            centres,
            axes,
        }
    }

    fn draw(&mut self) -> Result<Vec<f32>> {
        let at = (self.random.uniform() + 0.5) * CENTRES as f32;
        let centre = self.centres[(at as usize).min(CENTRES - 1)];
        let point = centre.map(|x| x + 0.6 * self.random.normal());
        let axes = self.axes.iter();
        let vector = axes.map(|axis| axis.iter().zip(&point).map(|(a, x)| a * x).sum());
        normalized(&vector.collect::<Vec<f32>>()).context("a vector without direction")
    }
}

fn owner(user: &str) -> Result<Scope> {
    let mut scope = Scope::local().with_session(SessionId::new("bench")?);
    scope.user = UserId::new(user)?;
    Ok(scope)
}

fn name(number: usize) -> Result<MemoryId> {
    Ok(MemoryId::new(format!("memory-{number}"))?)
}

/// Stores so many memories of an owner with their vectors, which it also gives.
async fn fill(
    store: &PostgresStore,
    space: &VectorSpace,
    scope: &Scope,
    vectors: &[Vec<f32>],
) -> Result<()> {
    for (batch, vectors) in vectors.chunks(BATCH).enumerate() {
        let numbers = batch * BATCH..batch * BATCH + vectors.len();
        let memory = |number: usize| {
            Ok(NewMemory {
                id: name(number)?,
                ..NewMemory::new(MemoryKind::Fact, "", format!("fact {number}"))
            })
        };
        let turn = NewTurn {
            turn_id: TurnId::new(format!("turn-{batch}"))?,
            topic: String::new(),
            messages: Vec::new(),
            memories: numbers.clone().map(memory).collect::<Result<_>>()?,
            jobs: Vec::new(),
        };
        store.append(scope, &turn).await?;
        let vector = |(number, vector): (usize, &Vec<f32>)| {
            Ok(NewVector {
                scope: scope.clone(),
                id: name(number)?,
                vector: Some(Vector::from(vector.as_slice())),
            })
        };
        let new = numbers
            .zip(vectors)
            .map(vector)
            .collect::<Result<Vec<_>>>()?;
        store.set_vectors(space, &new).await?;
    }
    Ok(())
}

/// Asks for the nearest of each query: the times in ascending order, and the share of those found
/// that an exact comparison finds.
async fn ask(
    store: &PostgresStore,
    space: &VectorSpace,
    scope: &Scope,
    (matrix, queries): (&Matrix, &[Vec<f32>]),
) -> Result<(Vec<Duration>, f64)> {
    let (mut times, mut found) = (Vec::new(), 0);
    for query in queries {
        let started = Instant::now();
        let near = store.nearest(scope, space, query, FOUND, &[]).await?;
        times.push(started.elapsed());
        for (number, _) in matrix.nearest(query, FOUND) {
            let id = name(usize::try_from(number)?)?;
            found += usize::from(near.iter().any(|near| near.id == id));
        }
    }
    times.sort_unstable();
    Ok((times, found as f64 / (queries.len() * FOUND) as f64))
}

pub(super) fn run(figures: Figures) -> Result<()> {
    let server = match TestServer::with_vectors() {
        Ok(server) => server,
        Err(error) => {
            say(&format!("no vectors in PostgreSQL: {error}"));
            return Ok(());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(figures, &server))
}

async fn measure(figures: Figures, server: &TestServer) -> Result<()> {
    let address = server.database()?;
    // Until it is asked for, no index is built.
    let large = |from| PostgresOptions {
        index_vectors_from: from,
        statement_timeout: Duration::from_secs(120),
        ..PostgresOptions::default()
    };
    let store = PostgresStore::open(&address, large(usize::MAX)).await?;
    say(&format!("vectors by {}", store.vectors()));
    let space = VectorSpace {
        model: "bench".into(),
        dimensions: DIMENSIONS,
    };
    let mut drawn = Space::new();
    let mut draw = |count: usize| (0..count).map(|_| drawn.draw()).collect::<Result<Vec<_>>>();
    let (queries, vectors) = (draw(QUERIES)?, draw(MANY)?);
    let many = owner("many")?;
    let started = Instant::now();
    fill(&store, &space, &many, &vectors).await?;
    say(&format!("{MANY} stored in {:?}", started.elapsed()));
    let few = owner("few-0")?;
    let of_few = draw(FEW)?;
    fill(&store, &space, &few, &of_few).await?;
    for other in 1..OTHERS {
        fill(
            &store,
            &space,
            &owner(&format!("few-{other}"))?,
            &draw(FEW)?,
        )
        .await?;
    }
    let matrix = |vectors: &[Vec<f32>]| {
        let mut matrix = Matrix::new(DIMENSIONS);
        for (number, vector) in (0_i64..).zip(vectors) {
            matrix.push(number, vector.iter().copied());
        }
        matrix
    };
    let print = |metric: &str, value: f64, unit: &str, target: Option<f64>| {
        figures.print("postgres-vectors", metric, value, unit, target)
    };
    let asked = |name: &str, times: &[Duration], recall: f64, target: Option<f64>| {
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        print(
            &format!("{name}, p50"),
            at(0.5).as_secs_f64() * 1e3,
            "ms",
            None,
        )?;
        print(
            &format!("{name}, p99"),
            at(0.99).as_secs_f64() * 1e3,
            "ms",
            None,
        )?;
        print(
            &format!("{name}, recall at {FOUND}"),
            recall,
            "share",
            target,
        )
    };
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    let size = async |what: &str| {
        let size = format!("SELECT pg_total_relation_size({what})::float8");
        Ok::<f64, anyhow::Error>(client.query_one(&size, &[]).await?.try_get(0)?)
    };
    let work = async {
        // What a server does by itself after a while.
        client
            .batch_execute("VACUUM (ANALYZE) lyceum.embedding")
            .await?;
        let of_few = matrix(&of_few);
        let (times, recall) = ask(&store, &space, &few, (&of_few, &queries)).await?;
        asked("1,000 one by one", &times, recall, Some(1.0))?;
        let of_many = matrix(&vectors);
        let (times, recall) = ask(&store, &space, &many, (&of_many, &queries[..50])).await?;
        asked("100,000 one by one", &times, recall, Some(1.0))?;
        let before = size("'lyceum.embedding'").await?;
        print(
            "table",
            before / (MANY + OTHERS * FEW) as f64,
            "bytes/vector",
            None,
        )?;
        let store = PostgresStore::open(&address, large(20_000)).await?;
        let started = Instant::now();
        store.build_indexes(&space).await?;
        print(
            "building the index",
            started.elapsed().as_secs_f64(),
            "s",
            None,
        )?;
        let index = size("'lyceum.embedding'").await? - before;
        print("index", index / MANY as f64, "bytes/vector", None)?;
        let (times, recall) = ask(&store, &space, &many, (&of_many, &queries)).await?;
        asked("100,000 by the index", &times, recall, Some(RECALL))?;
        let (times, recall) = ask(&store, &space, &few, (&of_few, &queries)).await?;
        asked("1,000 beside it", &times, recall, Some(1.0))
    };
    tokio::select! {
        biased;
        done = work => done,
        ended = connection => ended.context("the connection ended"),
    }
}
