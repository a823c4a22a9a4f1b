//! Kills a writing process at random instants; whatever it acknowledged must be there, once.
//!
//! `LYCEUM_KILL_SEEDS` sets how many seeds are run (20); a seed that fails is printed.
//! A kill does not catch a missing fsync, so the settings are asserted elsewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a child tells its parent")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    Claim, ClaimRequest, JobStore, NewJob, NewMessage, NewTurn, SessionStore, TurnId,
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};
use serde_json::json;

const CHILD: &str = "LYCEUM_KILL_CHILD";
const WRITERS: usize = 12;
const SESSIONS: usize = 3;

#[test]
fn acknowledged_turns_survive_a_kill() {
    if let Ok(path) = env::var(CHILD) {
        write_until_killed(Path::new(&path));
    }
    let seeds = env::var("LYCEUM_KILL_SEEDS").map_or(20, |seeds| seeds.parse().unwrap());
    let mut acknowledged = 0;
    for seed in 0..seeds {
        println!("seed {seed}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l.db");
        let acks = run_and_kill(&path, seed);
        acknowledged += acks.len();
        check(&path, &acks);
    }
    assert!(acknowledged > 0, "no child lived long enough to write");
    println!("{acknowledged} acknowledged turns in {seeds} kills");
}

fn scope(writer: usize) -> Scope {
    let session = SessionId::new(format!("s{}", writer % SESSIONS)).unwrap();
    Scope::local().with_session(session)
}

fn turn(name: &str) -> NewTurn {
    let message = |role, text: &str| NewMessage {
        role,
        content: format!("{text} {name}"),
    };
    NewTurn {
        turn_id: TurnId::new(name).unwrap(),
        topic: "killing".into(),
        messages: vec![
            message(Role::User, "question"),
            message(Role::Assistant, "answer"),
        ],
        memories: Vec::new(),
        jobs: vec![NewJob {
            kind: "note".into(),
            payload: json!(name),
        }],
    }
}

/// The child: many writers, each telling of a turn once it is acknowledged.
fn write_until_killed(path: &Path) -> ! {
    let store = Arc::new(SqliteStore::open(path, SqliteOptions::default()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(join_all((0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            for n in 0.. {
                let name = format!("w{writer}-{n}");
                store.append(&scope(writer), &turn(&name)).await.unwrap();
                println!("\nack {name}.");
            }
        }
    })));
    unreachable!("the writers never end")
}

/// Starts a child, kills it after a random time or number of acknowledgements, and gives the
/// names of the turns it acknowledged.
fn run_and_kill(path: &Path, seed: u64) -> BTreeSet<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "acknowledged_turns_survive_a_kill",
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
            // The last line may be cut off, and then it lacks its full stop.
            let name = line
                .strip_prefix("ack ")
                .and_then(|name| name.strip_suffix('.'));
            if let Some(name) = name {
                told.send(name.to_owned()).unwrap();
            }
        }
    });
    let (by_time, by_count) = match seed % 2 {
        0 => (Duration::from_micros(random(seed) % 100_000), u64::MAX),
        _ => (Duration::from_secs(30), random(seed) % 200),
    };
    let end = Instant::now() + by_time;
    let mut acks = BTreeSet::new();
    while (acks.len() as u64) < by_count {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(name) = heard.recv_timeout(left) else {
            break;
        };
        acks.insert(name);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap();
    acks.extend(heard);
    acks
}

/// Every acknowledged turn is there once, every turn is whole, and each has its job.
fn check(path: &Path, acks: &BTreeSet<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
        let mut stored = BTreeMap::new();
        for session in 0..SESSIONS {
            let scope = scope(session);
            let messages = store.messages(&scope, None, usize::MAX).await.unwrap();
            for (seq, message) in (1..).zip(&messages) {
                assert_eq!(message.seq, seq, "numbers have no gaps");
            }
            for pair in messages.chunks(2) {
                let name = pair[0].turn_id.as_str();
                let texts: Vec<&str> = pair.iter().map(|m| m.content.as_str()).collect();
                assert_eq!(
                    texts,
                    [format!("question {name}"), format!("answer {name}")]
                );
                let saved = store.append(&scope, &turn(name)).await.unwrap();
                assert!(saved.replayed, "the turn id {name} is known");
                assert!(
                    stored.insert(name.to_owned(), 0).is_none(),
                    "{name} is there twice"
                );
            }
        }
        let lost: Vec<&String> = acks
            .iter()
            .filter(|ack| !stored.contains_key(*ack))
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        count_jobs(&store, &mut stored).await;
        let wrong: Vec<_> = stored.iter().filter(|(_, jobs)| **jobs != 1).collect();
        assert!(wrong.is_empty(), "turns without exactly one job: {wrong:?}");
        store.close().await;
    });
}

async fn count_jobs(store: &SqliteStore, turns: &mut BTreeMap<String, usize>) {
    let request = ClaimRequest {
        kinds: &["note"],
        lease: Duration::from_secs(3600),
        max_attempts: 1,
    };
    loop {
        let mut idle = false;
        for claim in join_all((0..64).map(|_| store.claim(&request))).await {
            match claim.unwrap() {
                Claim::Job(job) => *turns.get_mut(job.payload.as_str().unwrap()).unwrap() += 1,
                Claim::Idle { .. } => idle = true,
            }
        }
        if idle {
            return;
        }
    }
}

/// Vigna's `SplitMix64`, enough to spread seeds.
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
