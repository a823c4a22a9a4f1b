//! Kills a process at random instants of write, project and flush: turns with memories are stored
//! and deleted, vectors are made, the file is closed and opened again. Then a check must find
//! nothing missing and nothing double.
//!
//! `LYCEUM_KILL_SEEDS` sets how many seeds are run (20), `LYCEUM_KILL_FIRST` the first one; a seed
//! that fails is printed. A kill does not catch a missing fsync, so the settings are asserted
//! elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a child tells its parent")]

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use lyceum_core::{Role, Scope, SessionId, Vector};
use lyceum_memory::{
    MemoryId, MemoryKind, MemoryStore, NewMemory, NewMessage, NewTurn, NewVector, SessionStore,
    StoreCheck, TurnId, VectorSpace, VectorStore,
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

const CHILD: &str = "LYCEUM_KILL_MEMORY_CHILD";
/// Turns between two closings of the file.
const ROUND: usize = 12;
/// Every so manyth memory is deleted again.
const DELETED: usize = 5;

fn space() -> VectorSpace {
    VectorSpace {
        model: "numbers".into(),
        dimensions: 3,
    }
}

fn scope(number: usize) -> Scope {
    let session = SessionId::new(format!("talk-{}", number % 3)).unwrap();
    Scope::local().with_session(session)
}

fn memory_id(number: usize) -> MemoryId {
    MemoryId::new(format!("memory-{number}")).unwrap()
}

fn turn(number: usize) -> NewTurn {
    let message = |role, content: String| NewMessage { role, content };
    NewTurn {
        turn_id: TurnId::new(format!("turn-{number}")).unwrap(),
        topic: "tides".into(),
        messages: vec![
            message(Role::User, format!("the moon pulls {number} times")),
            message(Role::Assistant, "why?".into()),
        ],
        memories: vec![NewMemory {
            id: memory_id(number),
            context: "said by the harbour".into(),
            ..NewMemory::new(
                MemoryKind::Episode,
                "tides",
                format!("the moon pulls w{number}w times"),
            )
        }],
        jobs: Vec::new(),
    }
}

async fn project(store: &SqliteStore) -> usize {
    let waiting = store.unembedded(&space(), 7).await.unwrap();
    let vectors: Vec<NewVector> = waiting
        .into_iter()
        .map(|memory| NewVector {
            vector: Some(Vector::from([1.0, memory.text.len() as f32, 0.5])),
            scope: memory.scope,
            id: memory.id,
        })
        .collect();
    match vectors.is_empty() {
        true => 0,
        false => store.set_vectors(&space(), &vectors).await.unwrap(),
    }
}

/// The child: writes, projects, deletes and flushes, and tells of what was acknowledged.
async fn work_until_killed(path: &Path) -> ! {
    let mut number = 0;
    loop {
        let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
        for _ in 0..ROUND {
            store.append(&scope(number), &turn(number)).await.unwrap();
            println!("\nstored {number}.");
            if number % 3 == 2 {
                project(&store).await;
            }
            if number % DELETED == DELETED - 1 {
                println!("\ndeleting {number}.");
                let id = memory_id(number);
                let gone = store.delete_memory(&scope(number), &id).await;
                assert!(gone);
                println!("\ndeleted {number}.");
            }
            number += 1;
        }
        store.close().await;
    }
}

/// Both ports of the store delete; this is the memories'.
trait DeleteMemory {
    async fn delete_memory(&self, scope: &Scope, id: &MemoryId) -> bool;
}

impl DeleteMemory for SqliteStore {
    async fn delete_memory(&self, scope: &Scope, id: &MemoryId) -> bool {
        MemoryStore::delete(self, scope, id).await.unwrap()
    }
}

/// What a child said before it was killed.
#[derive(Default)]
struct Said {
    stored: BTreeSet<usize>,
    deleting: BTreeSet<usize>,
    deleted: BTreeSet<usize>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        // The last line may be cut off, and then it lacks its full stop.
        let Some((what, number)) = line.strip_suffix('.').and_then(|l| l.split_once(' ')) else {
            return;
        };
        let Ok(number) = number.parse() else { return };
        match what {
            "stored" => self.stored.insert(number),
            "deleting" => self.deleting.insert(number),
            "deleted" => self.deleted.insert(number),
            _ => false,
        };
    }
}

#[tokio::test]
async fn a_killed_memory_is_sound_and_has_all_it_acknowledged() {
    if let Ok(path) = env::var(CHILD) {
        work_until_killed(Path::new(&path)).await;
    }
    let number = |name: &str, default| env::var(name).map_or(default, |n| n.parse().unwrap());
    let (first, seeds) = (
        number("LYCEUM_KILL_FIRST", 0),
        number("LYCEUM_KILL_SEEDS", 20),
    );
    let (mut stored, mut deleted) = (0, 0);
    for seed in first..first + seeds {
        println!("seed {seed}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l.db");
        let said = run_and_kill(&path, seed);
        stored += said.stored.len();
        deleted += said.deleted.len();
        check(&path, &said).await;
    }
    assert!(stored > 0, "no child lived long enough to write");
    println!("{stored} turns were stored and {deleted} memories deleted in {seeds} kills");
}

fn run_and_kill(path: &Path, seed: u64) -> Said {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_memory_is_sound_and_has_all_it_acknowledged",
            "--nocapture",
        ])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (told, heard) = mpsc::channel();
    let listener = thread::spawn(move || {
        for line in output.lines() {
            let Ok(line) = line else { break };
            told.send(line).unwrap();
        }
    });
    // By time, or after so many lines and a moment, so that every step is hit.
    let (by_time, by_lines, moment) = match seed % 2 {
        0 => (Duration::from_micros(random(seed) % 150_000), u64::MAX, 0),
        _ => (
            Duration::from_secs(30),
            random(seed) % 60,
            random(seed + 1) % 3_000,
        ),
    };
    let (end, mut said, mut lines) = (Instant::now() + by_time, Said::default(), 0);
    while lines < by_lines {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(line) = heard.recv_timeout(left) else {
            break;
        };
        lines += u64::from(line.ends_with('.'));
        said.hear(&line);
    }
    let until = Instant::now() + Duration::from_micros(moment);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap();
    heard.iter().for_each(|line| said.hear(&line));
    said
}

async fn check(path: &Path, said: &Said) {
    let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
    let found = store.verify().await.unwrap();
    assert_eq!((found.faults, found.described), (0, vec![]));
    for &number in &said.stored {
        let again = store.append(&scope(number), &turn(number)).await.unwrap();
        assert!(
            again.replayed,
            "turn {number} was acknowledged and is not there"
        );
        let is_there = store.get(&scope(number), &memory_id(number)).await.unwrap();
        let hits = store
            .search(&scope(number), &format!("w{number}w"), 9)
            .await
            .unwrap();
        match (
            said.deleting.contains(&number),
            said.deleted.contains(&number),
        ) {
            (false, _) => assert_eq!((is_there.is_some(), hits.len()), (true, 1), "{number}"),
            (true, true) => assert_eq!((is_there.is_some(), hits.len()), (false, 0), "{number}"),
            // It was being deleted: whole or gone.
            (true, false) => assert_eq!(usize::from(is_there.is_some()), hits.len(), "{number}"),
        }
    }
    while project(&store).await > 0 {}
    let count = store.count_vectors(&space()).await.unwrap();
    assert_eq!((count.vectors, count.missed), (count.memories, 0));
    assert!(store.verify().await.unwrap().is_sound());
    store.close().await;
}

/// A step of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
