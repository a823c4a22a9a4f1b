//! Copies of threads.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use lyceum_core::{MemoryHints, MemoryRecords};
use lyceum_graph::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, MemorySaver, Saved, Saver, SaverError,
    ThreadId,
};
use serde_json::{Value, json};

use crate::{
    client::{Api, hi, platform_of, serve, serve_platform},
    faults::{Fault, Line},
    replicas::Shared,
};

/// A saver that fails to commit and to release once it did so often, and knows of which thread it
/// gave the last lease.
#[derive(Debug)]
struct Failing {
    kept: MemorySaver,
    commits: AtomicUsize,
    releases: AtomicUsize,
    leased: Mutex<Option<ThreadId>>,
}

impl Failing {
    /// One that does not fail yet.
    fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: MemorySaver::new(),
            commits: AtomicUsize::new(usize::MAX),
            releases: AtomicUsize::new(usize::MAX),
            leased: Mutex::new(None),
        })
    }

    fn leased(&self) -> ThreadId {
        self.leased.lock().unwrap().clone().unwrap()
    }
}

/// Whether there is one left, which is taken then.
fn take(left: &AtomicUsize) -> bool {
    let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
    left.fetch_update(set, get, |left| left.checked_sub(1))
        .is_ok()
}

fn failed<T: Send>() -> BoxFuture<'static, Result<T, SaverError>> {
    Box::pin(async {
        Err(SaverError::Backend {
            source: "the disk is full".into(),
        })
    })
}

impl Saver for Failing {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        *self.leased.lock().unwrap() = Some(thread.clone());
        self.kept.acquire(thread, ttl, claim)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        match take(&self.releases) {
            true => self.kept.release(lease),
            false => failed(),
        }
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        match take(&self.commits) {
            true => self.kept.commit(lease, batch),
            false => failed(),
        }
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        self.kept.load(thread, namespace, id)
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        self.kept.history(thread, namespace, before, limit)
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        self.kept.prune(lease, keep)
    }
}

async fn run(api: &Api, thread: &str) {
    let path = format!("/threads/{thread}/runs/wait");
    api.ok("POST", &path, hi()).await;
}

async fn copied(api: &Api, thread: &str) -> String {
    let copy = api
        .ok("POST", &format!("/threads/{thread}/copy"), json!({}))
        .await;
    copy["thread_id"].as_str().unwrap().to_owned()
}

/// A server with a thread that has run, what its stores are, and how a copy of it is asked for.
async fn world() -> (Api, Arc<Failing>, Arc<Line>, String) {
    let saver = Failing::new();
    let shared = Shared::new(Arc::new(MemoryHints::new()));
    let records = Line::new(&shared, &[]);
    let api = serve_platform(platform_of(records.clone(), saver.clone()), &[]).await;
    let thread = api.thread("").await;
    run(&api, &thread).await;
    (api, saver, records, format!("/threads/{thread}/copy"))
}

#[tokio::test]
async fn a_copy_that_fails_leaves_neither_a_lease_nor_a_part() {
    for fails_last in [false, true] {
        let (api, saver, records, path) = world().await;
        let original = saver.leased();
        match fails_last {
            true => records.set(&[Fault::RefusesPuts("lg_thread")]),
            false => saver.commits.store(1, Ordering::SeqCst),
        }
        let reply = api.call("", "POST", &path, json!({})).await;
        assert!(reply.status >= 500, "{reply:?}");
        let copy = saver.leased();
        assert_ne!(copy, original);
        assert_eq!(saver.kept.history(&copy, "", None, 9).await.unwrap(), []);
        let ttl = Duration::from_secs(1);
        let lease = saver.kept.acquire(&copy, ttl, Claim::IfFree).await;
        assert!(lease.is_ok(), "{lease:?}");
        let all = api.ok("POST", "/threads/search", json!({})).await;
        assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    }
}

#[tokio::test]
async fn a_copy_whose_lease_stays_is_a_copy() {
    let (api, saver, _, path) = world().await;
    saver.releases.store(0, Ordering::SeqCst);
    let copy = api.ok("POST", &path, json!({})).await;
    let path = format!("/threads/{}/state", copy["thread_id"].as_str().unwrap());
    let state = api.ok("GET", &path, Value::Null).await;
    assert_eq!(state["values"]["messages"][1]["content"], "hello, local");
}

#[tokio::test]
async fn a_copy_comes_from_so_many_threads_at_most() {
    let api = serve(Arc::new(MemoryRecords::new()), &[]).await;
    let mut thread = api.thread("").await;
    run(&api, &thread).await;
    // Copies of copies that add nothing come from the first.
    for _ in 0..70 {
        thread = copied(&api, &thread).await;
    }
    let path = format!("/threads/{thread}/state");
    let state = api.ok("GET", &path, Value::Null).await;
    let said = &state["values"]["messages"][1]["content"];
    assert_eq!(said, "hello, local", "{state}");
    for _ in 0..63 {
        run(&api, &thread).await;
        thread = copied(&api, &thread).await;
    }
    run(&api, &thread).await;
    let path = format!("/threads/{thread}/copy");
    let reply = api.call("", "POST", &path, json!({})).await;
    assert_eq!(reply.status, 409, "{reply:?}");
    assert!(reply.body.contains("64 times"), "{reply:?}");
}
