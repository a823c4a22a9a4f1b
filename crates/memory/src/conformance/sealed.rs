//! What the tests of sealed stores have in common: words to look for, calls that store and read
//! them, and changes of keys that are cut off. They need what a store does to its files, so the
//! tests themselves are the store's own.
//!
//! A failure is a panic, as in the tests that these are parts of.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are parts of tests: a test fails by panicking"
)]

use std::time::Duration;

use lyceum_core::{Expect, RecordStore, RecordWrite, Role, Scope, SessionId, TenantId, UserId};
use serde_json::json;

use crate::{
    Claim, ClaimRequest, JobResults, JobStore, MemoryId, MemoryKind, MemoryStore, NewJob,
    NewMemory, NewMessage, NewTurn, Progress, SessionStore, StoreError, StoreKeys, Summary, TurnId,
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
