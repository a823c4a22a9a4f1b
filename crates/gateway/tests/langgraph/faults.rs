//! Processes that share records, where an answer is lost or comes late.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lyceum_core::{
    MemoryHints, MemoryRecords, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    replicas::{Shared, count, depose},
    support::soon,
};

/// What goes wrong with calls that concern a kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next write that puts one is done, and its answer lost.
    LosesPut(&'static str),
    /// No write that puts one is done.
    RefusesPuts(&'static str),
    /// None can be read.
    RefusesReads(&'static str),
    /// The next such call waits until it is let go.
    HoldsPut(&'static str),
    HoldsDelete(&'static str),
    HoldsRead(&'static str),
}

/// One process' way to the records.
#[derive(Debug)]
pub(crate) struct Line {
    records: Arc<MemoryRecords>,
    faults: Mutex<Vec<Fault>>,
    /// A call that waits adds one here and takes one there.
    held: Semaphore,
    go: Semaphore,
}

impl Line {
    pub(crate) fn new(shared: &Shared, faults: &[Fault]) -> Arc<Self> {
        Arc::new(Self {
            records: shared.records.clone(),
            faults: Mutex::new(faults.to_vec()),
            held: Semaphore::new(0),
            go: Semaphore::new(0),
        })
    }

    pub(crate) fn set(&self, faults: &[Fault]) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults.to_vec();
    }

    fn has(&self, fault: Fault) -> bool {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.contains(&fault)
    }

    /// Whether there is this fault, which then has happened.
    fn meets(&self, fault: Fault) -> bool {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let at = faults.iter().position(|one| *one == fault);
        at.map(|at| faults.remove(at)).is_some()
    }

    async fn hold(&self) {
        self.held.add_permits(1);
        self.go.acquire().await.unwrap().forget();
    }

    /// Waits until a call waits.
    async fn until_held(&self) {
        soon(self.held.acquire()).await.unwrap().forget();
    }

    fn let_go(&self) {
        self.go.add_permits(1);
    }
}

fn failed<T>() -> Result<T, RecordError> {
    Err(RecordError {
        retryable: true,
        source: "the connection was lost".into(),
    })
}

#[async_trait]
impl RecordStore for Line {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for write in &writes {
            match write {
                RecordWrite::Put { kind, .. } => puts.push(*kind),
                RecordWrite::Delete { kind, .. } => deletes.push(*kind),
            }
        }
        let is_held = puts.iter().any(|kind| self.meets(Fault::HoldsPut(kind)))
            || deletes
                .iter()
                .any(|kind| self.meets(Fault::HoldsDelete(kind)));
        if is_held {
            self.hold().await;
        }
        if puts.iter().any(|kind| self.has(Fault::RefusesPuts(kind))) {
            return failed();
        }
        let done = self.records.write(tenant, writes).await;
        match puts.iter().any(|kind| self.meets(Fault::LosesPut(kind))) {
            true => failed(),
            false => done,
        }
    }

    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError> {
        if self.meets(Fault::HoldsRead(kind)) {
            self.hold().await;
        }
        if self.has(Fault::RefusesReads(kind)) {
            return failed();
        }
        self.records.read(tenant, kind, id).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        self.records.list(tenant, list).await
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        self.records.every(kind).await
    }
}

fn shared() -> Shared {
    Shared::new(Arc::new(MemoryHints::new()))
}

#[tokio::test]
async fn a_run_that_was_accepted_without_an_answer_is_executed() {
    let shared = shared();
    let line = Line::new(&shared, &[Fault::LosesPut("lg_queue")]);
    let one = shared.process_over(line, true).await;
    let thread = one.api.thread("").await;
    let run = one.begin(&thread, "enqueue").await;
    shared.permits.add_permits(2);
    one.until(&thread, &run, "success").await;
}

#[tokio::test]
async fn a_run_that_was_taken_up_without_an_answer_is_executed() {
    let shared = shared();
    let one = shared.process_over(shared.records.clone(), false).await;
    let thread = one.api.thread("").await;
    let run = one.begin(&thread, "enqueue").await;
    one.until(&thread, &run, "running").await;
    depose(&shared.records).await.unwrap();
    let line = Line::new(&shared, &[Fault::LosesPut("lg_queue")]);
    let two = shared.process_over(line, true).await;
    // The first process may take two of them.
    shared.permits.add_permits(4);
    two.until(&thread, &run, "success").await;
}

#[tokio::test]
async fn a_run_that_its_process_holds_and_does_not_know_of_is_found() {
    let shared = shared();
    let faults = [Fault::LosesPut("lg_queue"), Fault::RefusesReads("lg_queue")];
    let line = Line::new(&shared, &faults);
    let one = shared.process_over(line.clone(), true).await;
    let thread = one.api.thread("").await;
    let path = format!("/threads/{thread}/runs");
    let refused = one.api.call("", "POST", &path, count()).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    line.set(&[]);
    shared.hints.tell("orphans").await;
    let runs = one.api.ok("GET", &path, Value::Null).await;
    let run = runs[0]["run_id"].as_str().unwrap();
    shared.permits.add_permits(2);
    one.until(&thread, run, "success").await;
}

#[tokio::test]
async fn a_run_that_was_taken_while_it_waited_is_not_executed_here() {
    let shared = shared();
    // It never notices that it was taken for gone.
    let one = shared.process_over(shared.records.clone(), false).await;
    let thread = one.api.thread("").await;
    let mut later = count();
    later["after_seconds"] = json!(0.5);
    let path = format!("/threads/{thread}/runs");
    let run = one.api.ok("POST", &path, later).await;
    let run = run["run_id"].as_str().unwrap();
    depose(&shared.records).await.unwrap();
    let two = shared.process().await;
    shared.permits.add_permits(2);
    two.until(&thread, run, "success").await;
    let told = soon(one.stream(&thread, run)).await;
    assert!(told.contains("event: updates\ndata: {\"two\""), "{told}");
    assert_eq!(one.status(&thread, run).await, "success");
    let values = one.join(&thread, run).await;
    assert_eq!(values["steps"], json!([1, 1]), "{values}");
}

#[tokio::test]
async fn a_run_that_comes_while_its_thread_is_removed_goes_with_it() {
    let shared = shared();
    let line = Line::new(&shared, &[]);
    let one = shared.process_over(line.clone(), true).await;
    let two = shared.process().await;
    let thread = one.api.thread("").await;
    line.set(&[Fault::HoldsDelete("lg_thread")]);
    let path = format!("/threads/{thread}");
    let removing = one.api.call("", "DELETE", &path, Value::Null);
    let coming = async {
        line.until_held().await;
        let run = two.begin(&thread, "enqueue").await;
        two.until(&thread, &run, "running").await;
        line.let_go();
    };
    let (removed, ()) = soon(async { tokio::join!(removing, coming) }).await;
    assert_eq!(removed.status, 204, "{removed:?}");
    for kind in ["lg_thread", "lg_run", "lg_queue", "lg_stop", "lg_tape"] {
        let left = shared.records.every(kind).await.unwrap();
        assert!(left.is_empty(), "{kind}: {left:?}");
    }
}

#[tokio::test]
async fn a_run_that_ended_while_it_was_taken_up_is_over() {
    let shared = shared();
    let one = shared.process_over(shared.records.clone(), false).await;
    let thread = one.api.thread("").await;
    let run = one.begin(&thread, "enqueue").await;
    one.until(&thread, &run, "running").await;
    depose(&shared.records).await.unwrap();
    let line = Line::new(&shared, &[Fault::HoldsRead("lg_thread")]);
    let coming = shared.process_over(line.clone(), false);
    let ending = async {
        line.until_held().await;
        shared.permits.add_permits(2);
        one.until(&thread, &run, "success").await;
        line.let_go();
    };
    let (two, ()) = soon(async { tokio::join!(coming, ending) }).await;
    let left = shared.records.every("lg_queue").await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    let path = format!("/threads/{thread}");
    let kept = two.api.ok("GET", &path, Value::Null).await;
    assert_eq!(kept["status"], "idle", "{kept}");
}

#[tokio::test]
async fn a_run_that_only_waited_does_not_count_as_what_ended_its_processes() {
    let shared = shared();
    let mut gone = Vec::new();
    let one = shared.process_over(shared.records.clone(), false).await;
    let thread = one.api.thread("").await;
    let first = one.begin(&thread, "enqueue").await;
    one.until(&thread, &first, "running").await;
    let second = one.begin(&thread, "enqueue").await;
    gone.push(one);
    for _ in 0..3 {
        depose(&shared.records).await.unwrap();
        gone.push(shared.process_over(shared.records.clone(), false).await);
    }
    let last = gone.pop().unwrap();
    last.until(&thread, &first, "error").await;
    // Those before still wait for theirs.
    shared.permits.add_permits(8);
    last.until(&thread, &second, "success").await;
}

#[tokio::test]
async fn who_was_taken_for_gone_gives_its_runs_up_before_it_has_another_name() {
    let shared = shared();
    let line = Line::new(&shared, &[]);
    let one = shared.process_over(line.clone(), true).await;
    let thread = one.api.thread("").await;
    let run = one.begin(&thread, "enqueue").await;
    one.until(&thread, &run, "running").await;
    shared.until_told("custom").await;
    line.set(&[Fault::RefusesPuts("lg_process")]);
    depose(&shared.records).await.unwrap();
    let address = one.api.0.address;
    let url = format!("http://{address}/threads/{thread}/runs/{run}/stream");
    let mut answer = reqwest::get(url).await.unwrap();
    let mut told = String::new();
    let reading = async {
        // The run is free then, and its process takes it up again.
        while !told.contains("\"attempt\":2") {
            let bytes = answer.chunk().await.unwrap().unwrap();
            told.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    };
    let telling = async {
        loop {
            shared.hints.tell("orphans").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let either = async {
        tokio::select! {
            () = reading => {}
            () = telling => {}
        }
    };
    soon(either).await;
}

#[tokio::test]
async fn who_takes_a_run_over_tells_what_was_told_meanwhile() {
    let shared = shared();
    let one = shared.process_over(shared.records.clone(), false).await;
    let thread = one.api.thread("").await;
    let run = one.begin(&thread, "enqueue").await;
    one.until(&thread, &run, "running").await;
    depose(&shared.records).await.unwrap();
    let line = Line::new(&shared, &[Fault::HoldsPut("lg_tape")]);
    let two = shared.process_over(line.clone(), false).await;
    line.until_held().await;
    shared.permits.add_permits(1);
    shared.until_told("updates").await;
    line.let_go();
    shared.permits.add_permits(3);
    two.until(&thread, &run, "success").await;
    let told = two.stream(&thread, &run).await;
    assert!(told.contains("event: updates\ndata: {\"one\""), "{told}");
}

#[tokio::test]
async fn a_run_that_comes_while_its_process_closes_is_left_to_others() {
    let shared = shared();
    let line = Line::new(&shared, &[]);
    let one = shared.process_over(line.clone(), true).await;
    let thread = one.api.thread("").await;
    line.set(&[Fault::HoldsPut("lg_queue")]);
    let coming = one.begin(&thread, "enqueue");
    let closing = async {
        line.until_held().await;
        // The first is asked first.
        tokio::join!(one.platform.close(), async { line.let_go() });
    };
    let both = async { tokio::join!(coming, closing) };
    let (run, ()) = soon(both).await;
    let two = shared.process().await;
    shared.permits.add_permits(2);
    two.until(&thread, &run, "success").await;
}

#[tokio::test]
async fn what_a_run_without_an_end_told_is_removed() {
    let shared = shared();
    let head = RecordWrite::Put {
        kind: "lg_tape",
        id: "gone".to_owned(),
        group: "t".to_owned(),
        body: json!({ "first": 0, "parts": 0, "over": false, "expires": 0, "by": "p" }).to_string(),
        expect: lyceum_core::Expect::Absent,
    };
    let owner = TenantId::new("o").unwrap();
    shared.records.write(&owner, vec![head]).await.unwrap();
    let _one = shared.process().await;
    let removed = async {
        while !shared.records.every("lg_tape").await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(removed).await;
}
