//! The memory over stores that work, fail and hang, in paused time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lyceum_core::{Role, Scope, SessionId};
use lyceum_memory::{
    AsOf, Beside, Claim, Clock, ContextLimits, FailedJob, InMemory, JobResults, Limits, Memory,
    MemoryConfig, MemoryCursor, MemoryError, MemoryId, MemoryKind, MemoryRecord, MemoryStore,
    NewJob, NewMemory, NewMessage, NewTurn, Recollection, StoreError, Summary, Timestamp, TurnId,
    VANISHED,
};
use serde_json::json;
use tokio::time::Instant;

/// A store's clock that follows the runtime's, which tests pause.
#[derive(Debug)]
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).after(self.0.elapsed())
    }
}

fn store() -> Arc<InMemory> {
    Arc::new(InMemory::with_clock(Arc::new(Paused(Instant::now()))))
}

fn memory(config: MemoryConfig) -> Memory {
    let store = store();
    Memory::new(store.clone(), store.clone(), store, config)
}

/// A worker that is told of a job never waits this long.
fn patient() -> MemoryConfig {
    MemoryConfig {
        idle_poll: Duration::from_secs(3600),
        ..MemoryConfig::default()
    }
}

fn scope() -> Scope {
    Scope::local().with_session(SessionId::new("s").unwrap())
}

fn turn(jobs: &[&str]) -> NewTurn {
    NewTurn {
        turn_id: TurnId::random(),
        topic: "light".into(),
        messages: vec![NewMessage {
            role: Role::User,
            content: "plants use light".into(),
        }],
        memories: Vec::new(),
        jobs: jobs
            .iter()
            .map(|&kind| NewJob {
                kind: kind.into(),
                payload: json!({}),
            })
            .collect(),
    }
}

fn fact(text: &str) -> NewMemory {
    NewMemory::new(MemoryKind::Fact, "topic", text)
}

/// Memories that can be told to fail or to hang.
#[derive(Debug)]
struct Faulty {
    store: InMemory,
    fault: AtomicU8,
}

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;

impl Faulty {
    async fn fault(&self) -> Result<(), StoreError> {
        match self.fault.load(Ordering::SeqCst) {
            FAILS => Err(StoreError::Closed),
            HANGS => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl MemoryStore for Faulty {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError> {
        self.fault().await?;
        self.store.put(scope, memory).await
    }
    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError> {
        self.fault().await?;
        self.store.get(scope, id).await
    }
    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.fault().await?;
        self.store.get_many(scope, ids).await
    }
    async fn search(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        self.fault().await?;
        self.store.search(scope, query, limit).await
    }
    async fn search_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError> {
        self.fault().await?;
        self.store.search_as_of(scope, as_of, query, limit).await
    }
    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<Beside>, StoreError> {
        self.fault().await?;
        self.store.beside(scope, ids).await
    }
    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.fault().await?;
        self.store.list(scope, after, limit).await
    }
    async fn list_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError> {
        self.fault().await?;
        self.store.list_as_of(scope, as_of, after, limit).await
    }
    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError> {
        self.fault().await?;
        self.store.delete(scope, id).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_context_goes_without_a_part_that_fails_or_hangs() {
    let (store, faulty) = (
        store(),
        Arc::new(Faulty {
            store: InMemory::default(),
            fault: AtomicU8::new(WORKS),
        }),
    );
    let memory = Memory::new(
        store.clone(),
        faulty.clone(),
        store,
        MemoryConfig::default(),
    );
    memory.save_turn(&scope(), turn(&[])).await.unwrap();
    memory
        .remember(&scope(), fact("chlorophyll absorbs light"))
        .await
        .unwrap();

    for (fault, found, degraded) in [
        (WORKS, 1, &[][..]),
        (FAILS, 0, &["knowledge"]),
        (HANGS, 0, &["knowledge"]),
        (WORKS, 1, &[]),
    ] {
        faulty.fault.store(fault, Ordering::SeqCst);
        let started = Instant::now();
        let limits = ContextLimits::default();
        let context = memory.context(&scope(), "light", limits).await.unwrap();
        assert_eq!(context.recent.len(), 1);
        assert_eq!(
            (context.knowledge.len(), context.degraded.as_slice()),
            (found, degraded)
        );
        assert!(started.elapsed() <= MemoryConfig::default().part_timeout);
    }
    faulty.fault.store(FAILS, Ordering::SeqCst);
    let refused = memory.remember(&scope(), fact("x")).await;
    assert!(
        matches!(refused, Err(MemoryError::Store(StoreError::Closed))),
        "writes fail visibly"
    );
}

#[tokio::test(start_paused = true)]
async fn a_context_holds_the_summary_the_newest_messages_and_the_best_memories() {
    let memory = memory(MemoryConfig::default());
    for _ in 0..12 {
        memory.save_turn(&scope(), turn(&["sum"])).await.unwrap();
    }
    for n in 0..5 {
        memory
            .remember(&scope(), fact(&format!("light number {n}")))
            .await
            .unwrap();
    }
    let job = memory.next_job(&["sum"]).await.unwrap();
    let summary = Summary {
        upto_seq: 2,
        text: "light was explained".into(),
    };
    let results = JobResults {
        summary: Some(summary.clone()),
        ..JobResults::default()
    };
    memory.complete_job(&job.lease, &results).await.unwrap();

    let context = memory
        .context(&scope(), "light", ContextLimits::default())
        .await
        .unwrap();
    let seqs: Vec<u64> = context.recent.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (3..=12).collect::<Vec<_>>());
    assert_eq!(
        (context.knowledge.len(), context.summary),
        (3, Some(summary))
    );

    let context = memory
        .context(&Scope::local(), "light", ContextLimits::default())
        .await
        .unwrap();
    assert!(context.recent.is_empty() && context.knowledge.len() == 3);
    let none = ContextLimits {
        recent: 0,
        knowledge: 0,
    };
    let context = memory.context(&scope(), "light", none).await.unwrap();
    assert!(context.recent.is_empty() && context.knowledge.is_empty());
}

#[tokio::test]
async fn limits_are_refused_by_name() {
    let limits = Limits {
        message_bytes: 20,
        turn_messages: 1,
        jobs: 1,
        memory_bytes: 20,
        memories: 1,
        label_bytes: 5,
        payload_bytes: 5,
        ..Limits::default()
    };
    let memory = memory(MemoryConfig {
        limits,
        ..MemoryConfig::default()
    });
    let changed = |change: fn(&mut NewTurn)| {
        let mut turn = turn(&["job"]);
        change(&mut turn);
        turn
    };
    for (label, change) in [
        (
            "empty_turn",
            (|turn| turn.messages.clear()) as fn(&mut NewTurn),
        ),
        ("too_many", |turn| {
            turn.messages.push(turn.messages[0].clone());
        }),
        ("too_long", |turn| turn.messages[0].content = "x".repeat(21)),
        ("too_long", |turn| turn.topic = "topics".into()),
        ("too_many", |turn| turn.jobs.push(turn.jobs[0].clone())),
        ("too_long", |turn| turn.jobs[0].payload = json!("long")),
        ("empty", |turn| turn.jobs[0].kind.clear()),
    ] {
        let error = memory
            .save_turn(&scope(), changed(change))
            .await
            .unwrap_err();
        assert_eq!(
            (error.label(), error.is_retryable()),
            (label, false),
            "{error}"
        );
    }
    let error = memory
        .save_turn(&Scope::local(), turn(&[]))
        .await
        .unwrap_err();
    assert_eq!(error.label(), "session_required");
    memory.save_turn(&scope(), turn(&["job"])).await.unwrap();

    for (label, importance, text) in [
        ("too_long", 0.5, "x".repeat(21)),
        ("empty", 0.5, " \n".into()),
        ("importance", 1.5, "x".into()),
        ("importance", f32::NAN, "x".into()),
    ] {
        let one = NewMemory {
            importance,
            ..fact(&text)
        };
        let error = memory.remember(&scope(), one.clone()).await.unwrap_err();
        assert_eq!(error.label(), label, "{error}");
        let job = memory.next_job(&["job"]).await.unwrap();
        let results = JobResults {
            memories: vec![one],
            ..JobResults::default()
        };
        let error = memory.complete_job(&job.lease, &results).await.unwrap_err();
        assert_eq!(
            error.label(),
            label,
            "the results of a job have the same limits"
        );
        memory
            .fail_job(&job, false, "x".repeat(99).as_str())
            .await
            .unwrap();
        let dead = memory.jobs().dead(&scope(), 1).await.unwrap();
        assert_eq!(dead[0].reason, "xxxxx");
        memory.jobs().revive(&scope(), &dead[0].id).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_workers_hear_of_a_job_at_once() {
    let memory = memory(patient());
    let started = Instant::now();
    let worker = |kind: &'static str| {
        let memory = memory.clone();
        tokio::spawn(async move { memory.next_job(&[kind]).await.unwrap() })
    };
    let workers = [worker("other"), worker("a"), worker("a")];
    tokio::task::yield_now().await;
    memory.save_turn(&scope(), turn(&["a", "a"])).await.unwrap();
    let [other, first, second] = workers;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_ne!(first.lease.job, second.lease.job);
    let next = JobResults {
        jobs: turn(&["other"]).jobs,
        ..JobResults::default()
    };
    memory.complete_job(&first.lease, &next).await.unwrap();
    assert_eq!(other.await.unwrap().kind, "other");
    assert_eq!(started.elapsed(), Duration::ZERO, "nobody polled");
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_comes_again_later_and_dies_in_the_end() {
    let memory = memory(patient());
    memory.save_turn(&scope(), turn(&["a"])).await.unwrap();
    let mut job = memory.next_job(&["a"]).await.unwrap();
    for (attempt, wait) in [(1, 2), (2, 4), (3, 8), (4, 16)] {
        assert_eq!(job.attempts, attempt);
        // A worker that sleeps already has to learn of the new time.
        let sleeper = tokio::spawn({
            let memory = memory.clone();
            async move { memory.next_job(&["a"]).await.unwrap() }
        });
        tokio::task::yield_now().await;
        let started = Instant::now();
        memory.fail_job(&job, true, "busy").await.unwrap();
        job = sleeper.await.unwrap();
        assert_eq!(
            started.elapsed(),
            Duration::from_secs(wait),
            "the wait doubles"
        );
    }
    let outcome = memory.fail_job(&job, true, "still busy").await.unwrap();
    assert_eq!(outcome, FailedJob::Dead);
    let dead = memory.jobs().dead(&scope(), 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 5));
    assert_eq!(dead[0].reason, "still busy");
}

#[tokio::test(start_paused = true)]
async fn a_silent_worker_loses_its_job_and_a_loud_one_keeps_it() {
    let memory = memory(patient());
    let lease = MemoryConfig::default().lease;
    memory.save_turn(&scope(), turn(&["a"])).await.unwrap();
    let first = memory.next_job(&["a"]).await.unwrap();
    tokio::time::advance(lease / 2).await;
    memory.heartbeat(&first.lease).await.unwrap();
    tokio::time::advance(lease / 2).await;
    assert!(matches!(
        memory.claim_job(&["a"]).await.unwrap(),
        Claim::Idle { .. }
    ));

    let started = Instant::now();
    let second = memory.next_job(&["a"]).await.unwrap();
    assert_eq!(
        started.elapsed(),
        lease / 2,
        "it sleeps until the lease ends"
    );
    let late = memory
        .complete_job(&first.lease, &JobResults::default())
        .await
        .unwrap_err();
    assert_eq!(late.label(), "lease_lost");
    for _ in 2..MemoryConfig::default().max_attempts {
        tokio::time::advance(lease).await;
        memory.next_job(&["a"]).await.unwrap();
    }
    tokio::time::advance(lease).await;
    assert_eq!(
        memory.claim_job(&["a"]).await.unwrap(),
        Claim::Idle { due_in: None }
    );
    let dead = memory.jobs().dead(&scope(), 9).await.unwrap();
    assert_eq!(
        (&dead[0].id, dead[0].reason.as_str()),
        (&second.lease.job, VANISHED)
    );
}

#[tokio::test(start_paused = true)]
async fn idle_completed_sessions_are_removed_in_batches() {
    let limits = Limits {
        page: 2,
        ..Limits::default()
    };
    let memory = memory(MemoryConfig {
        limits,
        ..MemoryConfig::default()
    });
    let sessions: Vec<Scope> = (0..5)
        .map(|n| Scope::local().with_session(SessionId::new(format!("s{n}")).unwrap()))
        .collect();
    for scope in &sessions {
        memory.save_turn(scope, turn(&[])).await.unwrap();
        memory.sessions().complete(scope).await.unwrap();
    }
    let half_an_hour = Duration::from_secs(1800);
    assert_eq!(memory.expire(half_an_hour).await.unwrap(), []);
    tokio::time::advance(half_an_hour + Duration::from_millis(1)).await;
    memory.save_turn(&sessions[0], turn(&[])).await.unwrap();
    assert_eq!(memory.expire(half_an_hour).await.unwrap().len(), 4);
    assert!(
        memory
            .sessions()
            .session(&sessions[0])
            .await
            .unwrap()
            .is_some()
    );
}
