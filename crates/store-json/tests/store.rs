//! The rules of the ports on a real folder, and what a killed process leaves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    JobStore, ManualClock, MemoryId, MemoryKind, MemoryStore, NewJob, NewMemory, NewMessage,
    NewTurn, SessionArchive, SessionStore, Timestamp, TurnId,
    conformance::{self, Subject},
};
use lyceum_store_json::{JsonStore, OpenError};

struct Real {
    store: JsonStore,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Subject for Real {
    fn sessions(&self) -> &dyn SessionStore {
        &self.store
    }
    fn memories(&self) -> &dyn MemoryStore {
        &self.store
    }
    fn archive(&self) -> &dyn SessionArchive {
        &self.store
    }
    fn jobs(&self) -> &dyn JobStore {
        &self.store
    }
    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

fn scope(session: &str) -> Scope {
    Scope::local().with_session(SessionId::new(session).unwrap())
}

fn turn(number: u32) -> NewTurn {
    let message = |role, content: String| NewMessage { role, content };
    NewTurn {
        turn_id: TurnId::new(format!("turn-{number}")).unwrap(),
        topic: "tides".to_owned(),
        messages: vec![
            message(Role::User, format!("question {number} \u{0} é")),
            message(Role::Assistant, format!("answer {number}")),
        ],
        memories: vec![NewMemory {
            id: MemoryId::new(format!("fact-{number}")).unwrap(),
            ..NewMemory::new(MemoryKind::Fact, "tides", format!("fact {number}"))
        }],
        jobs: vec![NewJob {
            kind: "k".to_owned(),
            payload: serde_json::json!({ "number": number }),
        }],
    }
}

#[tokio::test]
async fn the_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
    for _ in 0..2 {
        // The second time over what the first left.
        let store = JsonStore::with_clock(folder.path(), clock.clone()).unwrap();
        let subject = Real {
            store,
            clock: clock.clone(),
        };
        if let Err(violation) = conformance::verify(&subject).await {
            panic!("{violation}");
        }
        conformance::verify_vectors(&subject.store, &subject.store)
            .await
            .unwrap();
        conformance::verify_checks(&subject, &subject.store, Some(&subject.store))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn everything_is_there_after_opening_again_and_names_are_no_paths() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["A", "a", "..a:@..", &"x".repeat(128)];
    let store = JsonStore::open(folder.path()).unwrap();
    assert!(matches!(
        JsonStore::open(folder.path()),
        Err(OpenError::InUse { .. })
    ));
    for (number, name) in (0..).zip(names) {
        store.append(&scope(name), &turn(number)).await.unwrap();
    }
    SessionStore::delete(&store, &scope("A")).await.unwrap();
    drop(store);
    let store = JsonStore::open(folder.path()).unwrap();
    for (number, name) in (1..).zip(&names[1..]) {
        let messages = store.messages(&scope(name), None, 9).await.unwrap();
        assert_eq!(messages[0].content, format!("question {number} \u{0} é"));
        let again = store.append(&scope(name), &turn(number)).await.unwrap();
        assert!(again.replayed);
    }
    assert_eq!(store.session(&scope("A")).await.unwrap(), None);
    let facts = store.list(&scope("a"), None, 9).await.unwrap();
    assert_eq!(facts.len(), 4, "memories outlive their conversation");
    for tenant in fs::read_dir(folder.path()).unwrap() {
        let tenant = tenant.unwrap().path();
        assert_eq!(tenant.parent().unwrap(), folder.path());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = folders
        .filter(|path| path.is_dir())
        .flat_map(|path| fs::read_dir(path).unwrap());
    files.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_file_of_somebody_else_is_named_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = JsonStore::open(folder.path()).unwrap();
    store.append(&scope("a"), &turn(1)).await.unwrap();
    drop(store);
    let file = files(folder.path()).remove(0);
    let good = fs::read_to_string(&file).unwrap();
    let renamed = file.with_file_name("other.json");
    fs::copy(&file, &renamed).unwrap();
    let opened = JsonStore::open(folder.path());
    assert!(matches!(opened, Err(OpenError::Foreign { path }) if path == renamed));
    fs::remove_file(&renamed).unwrap();
    for bad in [
        "",
        "{",
        &good[..good.len() / 2],
        &good.replace("\"format\":1", "\"format\":2"),
    ] {
        fs::write(&file, bad).unwrap();
        let error = JsonStore::open(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains(file.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), bad);
    }
}

#[tokio::test]
async fn a_write_that_fails_did_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let store = JsonStore::open(folder.path()).unwrap();
    store.append(&scope("a"), &turn(1)).await.unwrap();
    // A folder in the place of the unfinished file: nothing can be written.
    let blocked = files(folder.path()).remove(0).with_extension("tmp");
    fs::create_dir(&blocked).unwrap();
    let error = store.append(&scope("a"), &turn(2)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(store.messages(&scope("a"), None, 9).await.unwrap().len(), 2);
    assert_eq!(store.list(&scope("a"), None, 9).await.unwrap().len(), 1);
    fs::remove_dir(&blocked).unwrap();
    let saved = store.append(&scope("a"), &turn(2)).await.unwrap();
    assert_eq!((saved.first_seq, saved.replayed), (3, false));
}

const CHILD: &str = "LYCEUM_TEST_JSON_FOLDER";

/// In a process of its own: appends turns and says which were acknowledged, until it is killed.
#[tokio::test]
async fn child_that_appends() {
    let Some(folder) = env::var_os(CHILD) else {
        return;
    };
    let store = JsonStore::open(Path::new(&folder)).unwrap();
    for number in 0.. {
        let session = format!("s{}", number % 3);
        store.append(&scope(&session), &turn(number)).await.unwrap();
        // The harness keeps back what is printed by macros.
        use std::io::Write;
        writeln!(std::io::stderr().lock(), "acknowledged {number}").unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged_and_no_half_of_a_turn() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=8_u32 {
        let _ = fs::remove_dir_all(folder.path());
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_that_appends", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut acknowledged = None;
        for line in lines {
            if let Some(number) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged = Some(number.parse::<u32>().unwrap());
            }
            // Somewhere in the next one's writing.
            if acknowledged == Some(round * 3) {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = JsonStore::open(folder.path()).unwrap();
        let acknowledged = acknowledged.unwrap();
        for number in 0..=acknowledged {
            let session = scope(&format!("s{}", number % 3));
            let again = store.append(&session, &turn(number)).await.unwrap();
            assert!(again.replayed, "turn {number} of {acknowledged} is lost");
        }
        let (mut messages, mut sessions) = (0, 0);
        for session in ["s0", "s1", "s2"] {
            if let Some(found) = store.session(&scope(session)).await.unwrap() {
                assert_eq!(found.messages % 2, 0, "half a turn");
                messages += found.messages;
                sessions += 1;
            }
        }
        let facts = store
            .list(&Scope::local(), None, 1_000)
            .await
            .unwrap()
            .len() as u64;
        assert_eq!(
            (facts * 2, sessions),
            (messages, 3),
            "a turn without its memory"
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("memory");
    let store = JsonStore::open(&folder).unwrap();
    store.append(&scope("one"), &turn(1)).await.unwrap();
    store.append(&scope("one"), &turn(2)).await.unwrap();
    let (mut left, mut files) = (vec![folder], 0);
    while let Some(path) = left.pop() {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            files += 1;
        }
    }
    assert_eq!(files, 2, "a lock and a document");
}
