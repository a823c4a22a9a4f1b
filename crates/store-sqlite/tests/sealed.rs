//! Encryption at rest, as somebody meets it who can read and write the file.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{fs, path::Path, sync::Arc, time::Duration};

use lyceum_core::{
    Expect, RecordStore, RecordWrite, Role, Scope, SessionId, TenantId, UserId, Vector,
};
use lyceum_graph::{Claim as LeaseClaim, Saver as _, ThreadId};
use lyceum_memory::{
    Claim, ClaimRequest, Clock, JobResults, JobStore, ManualClock, MemoryId, MemoryKind,
    MemoryStore, NewJob, NewMemory, NewMessage, NewTurn, NewVector, Progress, SessionArchive,
    SessionStore, StoreCheck, StoreError, StoreKeys, Summary, Timestamp, TurnId, VectorSpace,
    VectorStore, Whose,
    conformance::{Subject, verify, verify_checks, verify_vectors},
};
use lyceum_store_sqlite::{Encryption, OpenError, SqliteOptions, SqliteStore, Unsealed};
use lyceum_vault::{Masters, OpenError as Why};
use rusqlite::Connection;
use serde_json::json;

const KEY: [u8; 32] = [7; 32];
/// Words that nothing says by itself.
const PLANTED: [&str; 8] = [
    "Quastenflosser",
    "Zwiebelkuchen",
    "Hagebutte",
    "Donnerkeil",
    "Flaschenzug",
    "Kaltmamsell",
    "Muckefuck",
    "Pustekuchen",
];

fn options(key: [u8; 32], unsealed: Unsealed) -> SqliteOptions {
    SqliteOptions {
        encryption: Some(Encryption {
            masters: Masters::new(&key),
            unsealed,
        }),
        ..SqliteOptions::default()
    }
}

fn sealed(path: &Path) -> SqliteStore {
    SqliteStore::open(path, options(KEY, Unsealed::Refuse)).unwrap()
}

fn scope(tenant: &str, user: &str) -> Scope {
    let mut scope = Scope::local().with_session(SessionId::new("s").unwrap());
    scope.tenant = TenantId::new(tenant).unwrap();
    scope.user = UserId::new(user).unwrap();
    scope
}

fn id(name: &str) -> MemoryId {
    MemoryId::new(name).unwrap()
}

fn space() -> VectorSpace {
    VectorSpace {
        model: "numbers".into(),
        dimensions: 2,
    }
}

fn turn(name: &str) -> NewTurn {
    let [fish, cake, berry, stone, ..] = PLANTED;
    NewTurn {
        turn_id: TurnId::new(name).unwrap(),
        topic: format!("about a {fish}"),
        messages: vec![
            NewMessage {
                role: Role::User,
                content: format!("{name}: a {cake} is a cake"),
            },
            NewMessage {
                role: Role::Assistant,
                content: format!("{name}: why?"),
            },
        ],
        memories: vec![NewMemory {
            id: id(&format!("memory-{name}")),
            context: format!("on the day of the {stone}"),
            ..NewMemory::new(
                MemoryKind::Episode,
                fish,
                format!("{name}: the {berry} is red"),
            )
        }],
        jobs: vec![NewJob {
            kind: "note".into(),
            payload: json!({ "about": PLANTED[4] }),
        }],
    }
}

/// Fills a store with everything that holds words, and says what it has to say of a scope.
async fn fill(store: &SqliteStore, scope: &Scope) {
    for name in ["one", "two"] {
        store.append(scope, &turn(name)).await.unwrap();
    }
    let request = ClaimRequest {
        kinds: &["note"],
        lease: Duration::from_secs(60),
        max_attempts: 3,
    };
    let Claim::Job(job) = store.claim(&request).await.unwrap() else {
        panic!("no job");
    };
    assert_eq!(job.payload, json!({ "about": PLANTED[4] }));
    let results = JobResults {
        summary: Some(Summary {
            upto_seq: 2,
            text: format!("a {} was spoken of", PLANTED[5]),
        }),
        ..JobResults::default()
    };
    JobStore::complete(store, &job.lease, &results)
        .await
        .unwrap();
    let write = RecordWrite::Put {
        kind: "answer",
        id: "a".into(),
        group: String::new(),
        body: format!("{{\"text\":\"{}\"}}", PLANTED[6]),
        expect: Expect::Anything,
    };
    RecordStore::write(store, &scope.tenant, vec![write])
        .await
        .unwrap();
    let vectors: Vec<NewVector> = ["memory-one", "memory-two"]
        .map(|name| NewVector {
            scope: scope.clone(),
            id: id(name),
            vector: Some(Vector::from([0.6, 0.8])),
        })
        .to_vec();
    store.set_vectors(&space(), &vectors).await.unwrap();
}

/// All that a store has to say of a scope.
async fn told(store: &SqliteStore, scope: &Scope) -> Result<String, StoreError> {
    let session = store.session(scope).await?;
    let messages = store.messages(scope, None, 9).await?;
    let memories = MemoryStore::list(store, scope, None, 9).await?;
    let found = store.search(scope, "Hagebutte 光", 9).await?;
    let near = store.nearest(scope, &space(), &[1.0, 0.0], 9, &[]).await?;
    let record = RecordStore::read(store, &scope.tenant, "answer", "a").await;
    let record = record.map_err(|error| StoreError::Internal {
        source: error.source,
    })?;
    let jobs = store.dead(scope, 9).await?;
    Ok(format!(
        "{session:?} {messages:?} {memories:?} {found:?} {near:?} {record:?} {jobs:?}"
    ))
}

/// The words that stand in a file, its log or beside it, in the clear.
fn readable(path: &Path) -> Vec<&'static str> {
    let mut words = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        words.extend(PLANTED.into_iter().filter(|word| {
            // The index holds stems in lower case.
            let stem = &word[..word.len() - 2];
            bytes
                .windows(stem.len())
                .any(|window| window.eq_ignore_ascii_case(stem.as_bytes()))
        }));
    }
    words
}

fn sealed_row(error: &StoreError) -> (&'static str, String) {
    match error {
        StoreError::Sealed { table, row, source } => {
            assert!(source.downcast_ref::<Why>().is_some(), "{source:?}");
            (table, row.clone())
        }
        other => panic!("another error: {other:?}"),
    }
}

struct OnDisk(SqliteStore, Arc<ManualClock>);

#[async_trait::async_trait]
impl Subject for OnDisk {
    fn sessions(&self) -> &dyn SessionStore {
        &self.0
    }
    fn memories(&self) -> &dyn MemoryStore {
        &self.0
    }
    fn archive(&self) -> &dyn SessionArchive {
        &self.0
    }
    fn jobs(&self) -> &dyn JobStore {
        &self.0
    }
    async fn advance(&self, by: Duration) {
        self.1.advance(by);
    }
}

#[tokio::test]
async fn a_sealed_file_conforms_when_new_and_when_reopened() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
    for _ in 0..2 {
        let options = SqliteOptions {
            clock: clock.clone() as Arc<dyn Clock>,
            ..options(KEY, Unsealed::Refuse)
        };
        let store = SqliteStore::open(directory.path().join("l.db"), options).unwrap();
        let subject = OnDisk(store, clock.clone());
        verify(&subject).await.unwrap();
        verify_vectors(&subject.0, &subject.0).await.unwrap();
        verify_checks(&subject, &subject.0, Some(&subject.0))
            .await
            .unwrap();
        subject.0.close().await;
    }
}

#[tokio::test]
async fn nothing_that_was_said_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let (store, whose) = (sealed(&path), scope("acme", "ada"));
    fill(&store, &whose).await;
    assert_eq!(readable(&path), Vec::<&str>::new(), "the log holds it");
    let text = told(&store, &whose).await.unwrap();
    for word in &PLANTED[..7] {
        assert!(text.contains(word) || *word == PLANTED[4], "{word}: {text}");
    }
    store.close().await;
    assert_eq!(readable(&path), Vec::<&str>::new(), "the file holds it");
    let store = sealed(&path);
    assert_eq!(told(&store, &whose).await.unwrap(), text);
    assert!(store.verify().await.unwrap().is_sound());
    store.rebuild().await.unwrap();
    assert_eq!(told(&store, &whose).await.unwrap(), text);
    let again = store.append(&whose, &turn("one")).await.unwrap();
    assert!(
        again.replayed,
        "a repeated turn is known by its sealed digest"
    );
    let other = NewTurn {
        topic: "other".into(),
        ..turn("one")
    };
    let conflict = store.append(&whose, &other).await.unwrap_err();
    assert_eq!(conflict.label(), "turn_conflict");
}

#[tokio::test]
async fn changed_and_exchanged_rows_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = sealed(&path);
    let (ada, bo) = (scope("acme", "ada"), scope("umbrella", "bo"));
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    store.close().await;
    let whole = fs::read(&path).unwrap();
    let of = |what: &str, name: &str| {
        format!(
            "(SELECT {what} FROM memory WHERE name = '{name}' AND owner = \
             (SELECT id FROM owner WHERE user = 'ada'))"
        )
    };
    let bo_memory = "(SELECT sealed FROM memory WHERE name = 'memory-one' AND owner = \
                     (SELECT id FROM owner WHERE user = 'bo'))";
    let one = of("id", "memory-one");
    let memory = ("memory", "ada/feynman/memory-one");
    let changes: Vec<(String, (&str, &str))> = vec![
        // Another row's, another tenant's, another column's.
        (
            format!(
                "UPDATE memory SET sealed = {} WHERE id = {one}",
                of("sealed", "memory-two")
            ),
            memory,
        ),
        (
            format!("UPDATE memory SET sealed = {bo_memory} WHERE id = {one}"),
            memory,
        ),
        (
            format!(
                "UPDATE memory SET sealed = (SELECT sealed_topic FROM session LIMIT 1) WHERE id = {one}"
            ),
            memory,
        ),
        // A bit, a cut, clear text in its place.
        (
            format!(
                "UPDATE memory SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE id = {one}"
            ),
            memory,
        ),
        (
            format!("UPDATE memory SET sealed = substr(sealed, 1, 20) WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE memory SET sealed = NULL, text = 'forged' WHERE id = {one}"),
            memory,
        ),
        // What stands beside the text.
        (
            format!("UPDATE memory SET kind = 'fact' WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE memory SET importance = 1.0 WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE memory SET created_at = created_at + 1 WHERE id = {one}"),
            memory,
        ),
        (
            "UPDATE message SET role = 'system' WHERE seq = 1".to_owned(),
            ("message", "ada/feynman/s/1"),
        ),
        (
            "UPDATE message SET sealed = (SELECT sealed FROM message WHERE seq = 3 LIMIT 1) \
             WHERE seq = 1"
                .to_owned(),
            ("message", "ada/feynman/s/1"),
        ),
        (
            "UPDATE message SET sealed = NULL, content = 'forged' WHERE seq = 2".to_owned(),
            ("message", "ada/feynman/s/2"),
        ),
        (
            "UPDATE session SET sealed_topic = sealed_summary".to_owned(),
            ("session", "ada/feynman/s"),
        ),
        (
            "UPDATE session SET summary_upto = 1".to_owned(),
            ("session", "ada/feynman/s"),
        ),
    ];
    for (sql, (table, row)) in changes {
        fs::write(&path, &whole).unwrap();
        let changed = Connection::open(&path).unwrap().execute_batch(&sql);
        changed.unwrap();
        let store = sealed(&path);
        let error = told(&store, &ada).await.unwrap_err();
        assert_eq!(sealed_row(&error), (table, row.to_owned()), "{sql}");
        let found = store.verify().await.unwrap();
        assert!(!found.is_sound(), "{sql}");
        store.close().await;
    }
    // One bad row is one bad row: others are read, and it can be got rid of.
    fs::write(&path, &whole).unwrap();
    let sql = format!("UPDATE memory SET sealed = x'00' WHERE id = {one}");
    Connection::open(&path)
        .unwrap()
        .execute_batch(&sql)
        .unwrap();
    let store = sealed(&path);
    assert!(store.get(&ada, &id("memory-two")).await.unwrap().is_some());
    assert!(store.messages(&ada, None, 9).await.is_ok());
    assert!(told(&store, &bo).await.is_ok());
    assert!(
        MemoryStore::delete(&store, &ada, &id("memory-one"))
            .await
            .unwrap()
    );
    assert!(told(&store, &ada).await.is_ok());
    let found = store.verify().await.unwrap();
    assert!(found.is_sound(), "{found:?}");
}

#[tokio::test]
async fn a_vector_or_record_from_elsewhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let (store, ada) = (sealed(&path), scope("acme", "ada"));
    fill(&store, &ada).await;
    store.close().await;
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "UPDATE vector SET data = (SELECT data FROM vector ORDER BY id DESC LIMIT 1); \
         UPDATE record SET name = 'b';",
    )
    .unwrap();
    drop(file);
    let store = sealed(&path);
    let found = store.verify().await.unwrap();
    let of = |table: &str| {
        let described = found.described.iter();
        described
            .filter(|fault| fault.detail.contains(table))
            .count()
    };
    assert_eq!((of("open vector"), of("open record")), (1, 1), "{found:?}");
    let near = store.nearest(&ada, &space(), &[1.0, 0.0], 9, &[]).await;
    assert_eq!(sealed_row(&near.unwrap_err()).0, "vector");
    let moved = RecordStore::read(&store, &ada.tenant, "answer", "b").await;
    let source = moved.unwrap_err().source;
    let error = source.downcast_ref::<StoreError>().unwrap();
    assert_eq!(sealed_row(error), ("record", "answer/b".to_owned()));
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = sealed(&path);
    fill(&store, &scope("acme", "ada")).await;
    store.close().await;
    let before = fs::read(&path).unwrap();
    let wrong = SqliteStore::open(&path, options([8; 32], Unsealed::Refuse)).unwrap_err();
    assert!(matches!(wrong, OpenError::WrongKey { .. }), "{wrong}");
    let none = SqliteStore::open(&path, SqliteOptions::default()).unwrap_err();
    assert!(matches!(none, OpenError::KeyNeeded { .. }), "{none}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let path = directory.path().join("clear.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    fill(&store, &scope("acme", "ada")).await;
    store.close().await;
    let before = fs::read(&path).unwrap();
    let clear = SqliteStore::open(&path, options(KEY, Unsealed::Refuse)).unwrap_err();
    assert!(
        matches!(clear, OpenError::NotSealed { tenants: 1, .. }),
        "{clear}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Changes the keys, or stops after so many portions.
async fn change(store: &SqliteStore, portions: usize) -> bool {
    store.wrap_keys().await.unwrap();
    store.begin_keys().await.unwrap();
    let mut progress = Progress::default();
    for _ in 0..portions {
        match store.reseal(progress).await.unwrap() {
            Some(next) => progress = next,
            None => {
                store.end_keys().await.unwrap();
                return true;
            }
        }
    }
    false
}

#[tokio::test]
async fn a_clear_file_is_sealed_by_steps_that_may_be_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let whose = [
        scope("acme", "ada"),
        scope("acme", "bo"),
        scope("umbrella", "bo"),
    ];
    let mut before = Vec::new();
    for one in &whose {
        fill(&store, one).await;
    }
    for one in &whose {
        before.push(told(&store, one).await.unwrap());
    }
    store.close().await;
    assert!(!readable(&path).is_empty());
    let mut portions = 0;
    loop {
        let store = SqliteStore::open(&path, options(KEY, Unsealed::Open)).unwrap();
        let is_done = change(&store, portions).await;
        // What is sealed and what is not yet are read alike.
        for (one, before) in whose.iter().zip(&before) {
            assert_eq!(
                &told(&store, one).await.unwrap(),
                before,
                "after {portions}"
            );
        }
        store.close().await;
        if is_done {
            break;
        }
        let half = SqliteStore::open(&path, options(KEY, Unsealed::Refuse));
        assert!(half.is_err(), "a half sealed file is no sealed one");
        portions += 1;
    }
    assert!(portions > 5, "{portions}");
    assert_eq!(readable(&path), Vec::<&str>::new());
    let store = sealed(&path);
    assert_eq!(store.key_state().await.unwrap().unsealed, 0);
    assert!(store.verify().await.unwrap().is_sound());
}

#[tokio::test]
async fn keys_are_changed_by_steps_that_may_be_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = sealed(&path);
    let whose = [scope("acme", "ada"), scope("umbrella", "bo")];
    let mut before = Vec::new();
    for one in &whose {
        fill(&store, one).await;
        before.push(told(&store, one).await.unwrap());
    }
    let keys = |path: &Path| -> Vec<(String, u32)> {
        let file = Connection::open(path).unwrap();
        let mut all = file
            .prepare("SELECT tenant, version FROM tenant_key")
            .unwrap();
        let all = all
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        all.collect::<Result<_, _>>().unwrap()
    };
    store.close().await;
    let old_keys = keys(&path);
    let both = || Masters::new(&[9; 32]).and_old(&KEY);
    let open = |masters| {
        let encryption = Some(Encryption {
            masters,
            unsealed: Unsealed::Refuse,
        });
        let options = SqliteOptions {
            encryption,
            ..SqliteOptions::default()
        };
        SqliteStore::open(&path, options).unwrap()
    };
    for portions in 0.. {
        let store = open(both());
        let is_done = change(&store, portions).await;
        for (one, before) in whose.iter().zip(&before) {
            assert_eq!(
                &told(&store, one).await.unwrap(),
                before,
                "after {portions}"
            );
            // Writing goes on meanwhile.
            let name = format!("turn-{portions}");
            let extra = scope(one.tenant.as_str(), "carol");
            store.append(&extra, &turn(&name)).await.unwrap();
        }
        store.close().await;
        if is_done {
            assert!(portions > 5, "{portions}");
            break;
        }
    }
    let new_keys = keys(&path);
    assert_eq!(new_keys.len(), 2, "old keys are gone: {new_keys:?}");
    assert!(new_keys.iter().all(|key| !old_keys.contains(key)));
    // The old master key opens nothing any more, the new one all.
    let old = SqliteStore::open(&path, options(KEY, Unsealed::Refuse)).unwrap_err();
    assert!(matches!(old, OpenError::WrongKey { .. }), "{old}");
    let store = open(Masters::new(&[9; 32]));
    for (one, before) in whose.iter().zip(&before) {
        assert_eq!(&told(&store, one).await.unwrap(), before);
    }
    assert!(store.verify().await.unwrap().is_sound());
}

#[tokio::test]
async fn an_erased_tenant_is_unreadable_even_where_rows_are_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = Arc::new(sealed(&path));
    let (ada, bo) = (scope("acme", "ada"), scope("umbrella", "bo"));
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    let kept = told(&store, &bo).await.unwrap();
    store.close().await;
    let copy = directory.path().join("copy");
    fs::create_dir(&copy).unwrap();
    // A copy of the rows without their key, as a backup would be that leaves the table of keys out.
    let backup = copy.join("l.db");
    fs::copy(&path, &backup).unwrap();
    let file = Connection::open(&backup).unwrap();
    file.execute("DELETE FROM tenant_key WHERE tenant = 'acme'", [])
        .unwrap();
    drop(file);

    let store = Arc::new(sealed(&path));
    let whose = Whose {
        tenant: ada.tenant.clone(),
        user: None,
    };
    let erased = store.erase(&whose).await.unwrap();
    assert_eq!(
        (erased.sessions, erased.memories, erased.records),
        (1, 2, 1)
    );
    assert!(store.erase(&whose).await.unwrap().is_nothing());
    assert_eq!(told(&store, &bo).await.unwrap(), kept);
    assert_eq!(store.session(&ada).await.unwrap(), None);
    // The tenant may come back, under a key of its own.
    store.append(&ada, &turn("again")).await.unwrap();
    assert!(store.verify().await.unwrap().is_sound());
    store.close().await;
    let file = Connection::open(&path).unwrap();
    let versions: i64 = file
        .query_row(
            "SELECT count(*) FROM tenant_key WHERE tenant = 'acme'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(versions, 1);

    let refused = SqliteStore::open(&backup, options(KEY, Unsealed::Refuse)).unwrap_err();
    assert!(matches!(refused, OpenError::NotSealed { .. }), "{refused}");
    let left = SqliteStore::open(&backup, options(KEY, Unsealed::Open)).unwrap();
    let error = left.messages(&ada, None, 9).await.unwrap_err();
    assert_eq!(sealed_row(&error).0, "message");
    let error = MemoryStore::list(&left, &ada, None, 9).await.unwrap_err();
    assert_eq!(sealed_row(&error).0, "memory");
    assert!(told(&left, &bo).await.is_ok());
}

#[tokio::test]
async fn threads_of_a_tenant_are_sealed_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = Arc::new(sealed(&path));
    let tenant = TenantId::new("acme").unwrap();
    lyceum_graph::conformance::check(&*store.saver_of(&tenant)).await;
    let thread = ThreadId::new("t").unwrap();
    let lease = store
        .saver_of(&tenant)
        .acquire(&thread, Duration::from_secs(9), LeaseClaim::IfFree)
        .await
        .unwrap();
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
    store
        .saver_of(&tenant)
        .commit(&lease, &batch)
        .await
        .unwrap();
    assert_eq!(readable(&path), Vec::<&str>::new());
}
