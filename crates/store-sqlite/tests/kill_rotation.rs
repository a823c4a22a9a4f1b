//! Kills a process with SIGKILL in the middle of changing keys, again and again, until one run gets
//! to the end: what was stored is read all the while, and nothing of the old key is left.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a child tells its parent")]

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    MemoryKind, MemoryStore, NewMemory, NewMessage, NewTurn, Progress, SessionStore, StoreCheck,
    StoreKeys, TurnId,
};
use lyceum_store_sqlite::{Encryption, SqliteOptions, SqliteStore, Unsealed};
use lyceum_vault::Masters;

const CHILD: &str = "LYCEUM_KILL_ROTATION_CHILD";
const TURNS: usize = 300;

fn open(path: &Path) -> SqliteStore {
    let options = SqliteOptions {
        encryption: Some(Encryption {
            masters: Masters::new(&[2; 32]).and_old(&[1; 32]),
            unsealed: Unsealed::Refuse,
        }),
        ..SqliteOptions::default()
    };
    SqliteStore::open(path, options).unwrap()
}

fn scope(number: usize) -> Scope {
    Scope::local().with_session(SessionId::new(format!("s{}", number % 20)).unwrap())
}

async fn fill(store: &SqliteStore) {
    for number in 0..TURNS {
        let turn = NewTurn {
            turn_id: TurnId::new(format!("t{number}")).unwrap(),
            topic: "tides".into(),
            messages: vec![NewMessage {
                role: Role::User,
                content: format!("wave {number}"),
            }],
            memories: vec![NewMemory::new(
                MemoryKind::Episode,
                "tides",
                format!("wave w{number}w"),
            )],
            jobs: Vec::new(),
        };
        store.append(&scope(number), &turn).await.unwrap();
    }
}

/// The child: changes the keys and tells of each portion.
async fn rotate(path: &Path) {
    let store = open(path);
    store.wrap_keys().await.unwrap();
    store.begin_keys().await.unwrap();
    println!("\nportion");
    let mut progress = Progress::default();
    while let Some(next) = store.reseal(progress).await.unwrap() {
        progress = next;
        println!("\nportion");
    }
    store.end_keys().await.unwrap();
    println!("\nended");
    store.close().await;
}

/// Runs the child until it told so many portions, or ended; says whether it ended.
fn run(path: &Path, portions: usize) -> bool {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "keys_are_changed_whenever_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut told, mut ended) = (0, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        match line.unwrap().as_str() {
            "portion" => told += 1,
            "ended" => ended = true,
            _ => {}
        }
        if told > portions {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

async fn check(path: &Path) {
    let store = open(path);
    for number in 0..TURNS {
        let query = format!("w{number}w");
        let found = store.search(&scope(number), &query, 1).await.unwrap();
        assert_eq!(found[0].text, format!("wave w{number}w"));
    }
    for number in 0..20 {
        let messages = store.messages(&scope(number), None, 99).await.unwrap();
        assert_eq!(messages.len(), TURNS / 20);
    }
    let checked = store.verify().await.unwrap();
    assert!(checked.is_sound(), "{checked:?}");
    store.close().await;
}

#[tokio::test]
async fn keys_are_changed_whenever_it_is_killed() {
    if let Some(path) = env::var_os(CHILD) {
        return rotate(Path::new(&path)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let options = SqliteOptions {
        encryption: Some(Encryption {
            masters: Masters::new(&[1; 32]),
            unsealed: Unsealed::Refuse,
        }),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, options).unwrap();
    fill(&store).await;
    store.close().await;
    let mut kills = 0;
    for portions in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, usize::MAX] {
        if run(&path, portions) {
            break;
        }
        kills += 1;
        check(&path).await;
    }
    assert!(kills >= 5, "it was killed {kills} times only");
    check(&path).await;
    let store = open(&path);
    let state = store.key_state().await.unwrap();
    assert_eq!((state.changing, state.outdated, state.unsealed), (0, 0, 0));
}
