//! What the tests of sealed stores have in common: words to look for, calls that store and read
//! them, what is told of rows that somebody changed, and changes of keys that are cut off. They need
//! what a store does to its files, so the tests themselves are the store's own.
//!
//! A failure is a panic, as in the tests that these are parts of.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are parts of tests: a test fails by panicking"
)]

use std::{error::Error, time::Duration};

use lyceum_core::{Expect, RecordStore, RecordWrite, Role, Scope, SessionId, TenantId, UserId};
use serde_json::json;

use crate::{
    Claim, ClaimRequest, ClaimedJob, JobResults, JobStore, MemoryId, MemoryKind, MemoryStore,
    NewJob, NewMemory, NewMessage, NewTurn, Progress, SessionStore, StoreCheck, StoreError,
    StoreKeys, Summary, TurnId, Whose,
};

/// Words that nothing says by itself. [`fill`] stores all but the last.
pub const PLANTED: [&str; 8] = [
    "Quastenflosser",
    "Zwiebelkuchen",
    "Hagebutte",
    "Donnerkeil",
    "Flaschenzug",
    "Kaltmamsell",
    "Muckefuck",
    "Pustekuchen",
];

/// What claims the jobs of [`turn`].
pub const NOTES: ClaimRequest<'static> = ClaimRequest {
    kinds: &["note"],
    lease: Duration::from_secs(60),
    max_attempts: 3,
};

/// The session `s` of a tenant's user.
///
/// # Panics
///
/// Where a name is no id.
#[must_use]
pub fn scope(tenant: &str, user: &str) -> Scope {
    let mut scope = Scope::local().with_session(SessionId::new("s").unwrap());
    scope.tenant = TenantId::new(tenant).unwrap();
    scope.user = UserId::new(user).unwrap();
    scope
}

/// The id of a memory.
///
/// # Panics
///
/// Where the name is no id.
#[must_use]
pub fn id(name: &str) -> MemoryId {
    MemoryId::new(name).unwrap()
}

/// A turn with two messages, the memory `memory-{name}` and a job of the kind `note`.
///
/// # Panics
///
/// Where the name is no id.
#[must_use]
pub fn turn(name: &str) -> NewTurn {
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

/// Fills a store with everything that holds words: the turns `one` and `two`, a summary, and the
/// record `a` of the kind `answer`.
///
/// # Panics
///
/// Where the store refuses a call.
pub async fn fill(store: &(impl SessionStore + JobStore + RecordStore), scope: &Scope) {
    for name in ["one", "two"] {
        store.append(scope, &turn(name)).await.unwrap();
    }
    let job = has_a_job(store).await;
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
}

/// Claims the job of a [`turn`].
///
/// # Panics
///
/// Where there is none, or it says something else.
pub async fn has_a_job(store: &impl JobStore) -> ClaimedJob {
    let Claim::Job(job) = store.claim(&NOTES).await.unwrap() else {
        panic!("no job");
    };
    assert_eq!(job.payload, json!({ "about": PLANTED[4] }));
    *job
}

/// All that a store has to say of a scope.
///
/// # Errors
///
/// The first call's that fails.
pub async fn told(
    store: &(impl SessionStore + MemoryStore + JobStore + RecordStore),
    scope: &Scope,
) -> Result<String, StoreError> {
    let session = store.session(scope).await?;
    let messages = store.messages(scope, None, 9).await?;
    let memories = MemoryStore::list(store, scope, None, 9).await?;
    let found = store.search(scope, "Hagebutte 光", 9).await?;
    let record = RecordStore::read(store, &scope.tenant, "answer", "a").await;
    let record = record.map_err(|error| StoreError::Internal {
        source: error.source,
    })?;
    let jobs = store.dead(scope, 9).await?;
    Ok(format!(
        "{session:?} {messages:?} {memories:?} {found:?} {record:?} {jobs:?}"
    ))
}

/// The table and the name of the row that does not open, where `E` is why.
///
/// # Panics
///
/// Where the error is another.
#[must_use]
pub fn sealed_row<E: Error + 'static>(error: &StoreError) -> (&'static str, String) {
    match error {
        StoreError::Sealed { table, row, source } => {
            assert!(source.downcast_ref::<E>().is_some(), "{source:?}");
            (table, row.clone())
        }
        other => panic!("another error: {other:?}"),
    }
}

/// Checks a store that was filled with the scope, closed and opened again: it tells `text`, which
/// has the planted words in it, is sound, tells the same from an index that was made anew, and knows
/// a repeated turn from another of its name.
///
/// # Panics
///
/// Where one of these is not so.
pub async fn keeps<S: SessionStore + StoreCheck>(
    store: &S,
    whose: &Scope,
    text: &str,
    told: impl AsyncFn(&S, &Scope) -> Result<String, StoreError>,
) {
    for word in &PLANTED[..7] {
        // The job that says it is done.
        assert!(text.contains(word) || *word == PLANTED[4], "{word}: {text}");
    }
    assert_eq!(told(store, whose).await.unwrap(), text);
    let checked = store.verify().await.unwrap();
    assert!(checked.is_sound(), "{checked:?}");
    store.rebuild().await.unwrap();
    assert_eq!(told(store, whose).await.unwrap(), text);
    let again = store.append(whose, &turn("one")).await.unwrap();
    assert!(
        again.replayed,
        "a repeated turn is known by its sealed digest"
    );
    let other = NewTurn {
        topic: "other".into(),
        ..turn("one")
    };
    let conflict = store.append(whose, &other).await.unwrap_err();
    assert_eq!(conflict.label(), "turn_conflict");
}

/// Checks that what was stored of the scope is refused by name, its tenant's key being gone.
///
/// # Panics
///
/// Where something is told, or another row is named.
pub async fn has_no_key<E: Error + 'static>(
    store: &(impl SessionStore + MemoryStore),
    whose: &Scope,
) {
    let error = store.messages(whose, None, 9).await.unwrap_err();
    assert_eq!(sealed_row::<E>(&error).0, "message");
    let error = MemoryStore::list(store, whose, None, 9).await.unwrap_err();
    assert_eq!(sealed_row::<E>(&error).0, "memory");
}

/// Erases the tenant of a scope that the store was filled with, and once more.
///
/// # Panics
///
/// Where that is not what it says it erased.
pub async fn erase(store: &impl StoreCheck, of: &Scope) {
    let whose = Whose {
        tenant: of.tenant.clone(),
        user: None,
    };
    let erased = store.erase(&whose).await.unwrap();
    assert_eq!(
        (erased.sessions, erased.memories, erased.records),
        (1, 2, 1)
    );
    assert!(store.erase(&whose).await.unwrap().is_nothing());
}

/// Checks that nothing is left of an erased tenant, and that it may come back.
///
/// # Panics
///
/// Where something is left, or is not stored.
pub async fn comes_back(store: &(impl SessionStore + StoreCheck), whose: &Scope) {
    assert_eq!(store.session(whose).await.unwrap(), None);
    store.append(whose, &turn("again")).await.unwrap();
    assert!(store.verify().await.unwrap().is_sound());
}

/// Checks that `memory-one`, which does not open, hides nothing else of its owner and nothing of
/// others, and can be deleted.
///
/// # Panics
///
/// Where it does, or cannot.
pub async fn one_does_not_open<S: SessionStore + MemoryStore + StoreCheck>(
    store: &S,
    (whose, other): (&Scope, &Scope),
    told: impl AsyncFn(&S, &Scope) -> Result<String, StoreError>,
) {
    assert!(store.get(whose, &id("memory-two")).await.unwrap().is_some());
    assert!(store.messages(whose, None, 9).await.is_ok());
    assert!(told(store, other).await.is_ok());
    let deleted = MemoryStore::delete(store, whose, &id("memory-one")).await;
    assert!(deleted.unwrap());
    assert!(told(store, whose).await.is_ok());
    let found = store.verify().await.unwrap();
    assert!(found.is_sound(), "{found:?}");
}

/// Checks that the tenant's answer does not open, and that only the other's is among all.
///
/// # Panics
///
/// Where it opens, or hides the other's.
pub async fn refuses_an_answer<E: Error + 'static>(
    store: &impl RecordStore,
    (tenant, name): (&TenantId, &str),
    other: &TenantId,
) {
    let refused = store.read(tenant, "answer", name).await;
    let source = refused.unwrap_err().source;
    let error = source.downcast_ref::<StoreError>().unwrap();
    assert_eq!(sealed_row::<E>(error), ("record", format!("answer/{name}")));
    let others = store.every("answer").await.unwrap();
    let tenants: Vec<_> = others.iter().map(|(tenant, _)| tenant).collect();
    assert_eq!(tenants, [other]);
}

/// Checks that the job of `whose`, which does not open and is due first, is given up without being
/// told of, and that the other's is claimed.
///
/// # Panics
///
/// Where it is claimed or told of, or the other's is not reached.
pub async fn gives_up_a_job(store: &impl JobStore, whose: &Scope, other: &Scope) {
    let Claim::Job(job) = store.claim(&NOTES).await.unwrap() else {
        panic!("the other's job is not reached");
    };
    assert_eq!(job.lease.scope.tenant, other.tenant);
    assert_eq!(store.dead(whose, 9).await.unwrap(), []);
}

/// Changes the keys, or stops after so many portions; says whether it ended.
///
/// # Panics
///
/// Where the store refuses a call.
pub async fn change(store: &impl StoreKeys, portions: usize) -> bool {
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

/// Changes the keys in stores that are opened one after the other, each of which stops a portion
/// later, until one ends. Each has to tell what was told `before`, and is written to meanwhile;
/// `then` gets it, and whether it ended.
///
/// # Panics
///
/// Where a store refuses a call or tells something else.
pub async fn change_by_steps<S: SessionStore + StoreKeys>(
    before: &[(Scope, String)],
    open: impl AsyncFn() -> S,
    told: impl AsyncFn(&S, &Scope) -> Result<String, StoreError>,
    then: impl AsyncFn(S, bool),
) {
    for portions in 0.. {
        let store = open().await;
        let has_ended = change(&store, portions).await;
        for (whose, before) in before {
            let now = told(&store, whose).await.unwrap();
            assert_eq!(&now, before, "after {portions}");
            let other = scope(whose.tenant.as_str(), "carol");
            let turn = turn(&format!("turn-{portions}"));
            store.append(&other, &turn).await.unwrap();
        }
        then(store, has_ended).await;
        if has_ended {
            assert!(portions > 5, "{portions}");
            break;
        }
    }
}
