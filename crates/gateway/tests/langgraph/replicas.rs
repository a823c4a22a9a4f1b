//! Two processes that share records: each serves what the other runs.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use lyceum_core::{Hints, MemoryHints, MemoryRecords, RecordError, RecordStore, RecordWrite};
use lyceum_gateway::langgraph::{Invocation, Platform, Served};
use lyceum_graph::{Context, END, GraphBuilder, MemorySaver, START, State};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    client::{Api, serve_platform},
    support::soon,
};

#[derive(State, Clone, Debug, Default)]
struct Count {
    #[state(append)]
    steps: Vec<u64>,
}

/// Hints that reach nobody.
#[derive(Debug)]
struct Deaf;

#[async_trait]
impl Hints for Deaf {
    async fn tell(&self, _: &str) {}

    fn hear(&self) -> BoxStream<'static, String> {
        Box::pin(futures_util::stream::pending())
    }
}

/// What the processes of a test share.
pub(crate) struct Shared {
    pub(crate) records: Arc<MemoryRecords>,
    saver: Arc<MemorySaver>,
    pub(crate) hints: Arc<dyn Hints>,
    /// A step of a run takes one.
    pub(crate) permits: Arc<Semaphore>,
}

/// One process.
pub(crate) struct Process {
    pub(crate) api: Api,
    pub(crate) platform: Platform,
    _tending: AbortOnDropHandle<()>,
}

impl Shared {
    pub(crate) fn new(hints: Arc<dyn Hints>) -> Self {
        Self {
            records: Arc::new(MemoryRecords::new()),
            saver: Arc::new(MemorySaver::new()),
            hints,
            permits: Arc::new(Semaphore::new(0)),
        }
    }

    pub(crate) async fn process(&self) -> Process {
        self.process_over(self.records.clone(), true).await
    }

    /// A process that uses the records in this way. One that does not tend its peers never
    /// notices that it was taken for gone.
    pub(crate) async fn process_over(&self, records: Arc<dyn RecordStore>, tends: bool) -> Process {
        let permits = self.permits.clone();
        let step = move |count: Arc<Count>, ctx: Context<Invocation, Value>| {
            let permits = permits.clone();
            async move {
                ctx.emit(json!({ "step": count.steps.len() })).await;
                permits.acquire().await.unwrap().forget();
                Ok::<_, lyceum_graph::NodeError>(CountUpdate::new().steps([1]))
            }
        };
        let graph = GraphBuilder::<Count, Invocation, Value>::new()
            .node("one", step.clone())
            .node("two", step)
            .edge(START, "one")
            .edge("one", "two")
            .edge("two", END)
            .compile();
        let graphs = [Served::new("count", graph.unwrap())];
        let platform = Platform::new(graphs, records, self.saver.clone());
        let platform = platform.shared(self.hints.clone());
        platform.recover().await.unwrap();
        let tended = platform.clone();
        let tending = tokio::spawn(async move {
            if tends {
                tended.tend_peers(CancellationToken::new()).await;
            }
        });
        Process {
            api: serve_platform(platform.clone(), &[]).await,
            platform,
            _tending: AbortOnDropHandle::new(tending),
        }
    }

    /// Waits until the records hold such an event of a run.
    pub(crate) async fn until_told(&self, event: &str) {
        let told = async || {
            let parts = self.records.every("lg_tape_part").await.unwrap();
            parts.iter().any(|(_, part)| part.body.contains(event))
        };
        let seen = async {
            while !told().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(seen).await;
    }

    async fn pair(&self) -> (Process, Process) {
        (self.process().await, self.process().await)
    }
}

pub(crate) fn count() -> Value {
    json!({ "assistant_id": "count", "input": {}, "stream_mode": ["custom", "updates"] })
}

impl Process {
    pub(crate) async fn begin(&self, thread: &str, strategy: &str) -> String {
        let mut body = count();
        body["multitask_strategy"] = strategy.into();
        let path = format!("/threads/{thread}/runs");
        let run = self.api.ok("POST", &path, body).await;
        run["run_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn status(&self, thread: &str, run: &str) -> String {
        let path = format!("/threads/{thread}/runs/{run}");
        let run = self.api.ok("GET", &path, Value::Null).await;
        run["status"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn until(&self, thread: &str, run: &str, wanted: &str) {
        let seen = async {
            while self.status(thread, run).await != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen)
            .await
            .unwrap();
    }

    pub(crate) async fn join(&self, thread: &str, run: &str) -> Value {
        let path = format!("/threads/{thread}/runs/{run}/join");
        self.api.ok("GET", &path, Value::Null).await
    }

    /// The text of a run's whole stream.
    pub(crate) async fn stream(&self, thread: &str, run: &str) -> String {
        let path = format!("/threads/{thread}/runs/{run}/stream");
        let reply = self.api.call("", "GET", &path, Value::Null).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body.replace(": heartbeat\n\n", "")
    }
}

async fn taking_turns(hints: Arc<dyn Hints>) {
    let shared = Shared::new(hints);
    let (one, two) = shared.pair().await;
    let thread = one.api.thread("").await;
    let first = one.begin(&thread, "enqueue").await;
    two.until(&thread, &first, "running").await;
    let second = two.begin(&thread, "enqueue").await;
    let mut refused = count();
    refused["multitask_strategy"] = "reject".into();
    let path = format!("/threads/{thread}/runs");
    let refused = two.api.call("", "POST", &path, refused).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(one.status(&thread, &second).await, "pending");

    let reading = two.stream(&thread, &first);
    let (there, ()) = tokio::join!(soon(reading), async { shared.permits.add_permits(4) });
    assert_eq!(there, one.stream(&thread, &first).await);
    assert!(there.contains("event: updates\ndata: {\"two\""), "{there}");
    let values = soon(one.join(&thread, &second)).await;
    assert_eq!(values["steps"], json!([1, 1, 1, 1]), "{values}");

    // A run is stopped from the other process, by a request and by a later run's strategy.
    let third = one.begin(&thread, "enqueue").await;
    two.until(&thread, &third, "running").await;
    let path = format!("/threads/{thread}/runs/{third}/cancel?wait=true");
    let stopped = soon(two.api.call("", "POST", &path, json!({}))).await;
    assert_eq!(stopped.status, 204, "{stopped:?}");
    assert_eq!(one.status(&thread, &third).await, "interrupted");
    let fourth = one.begin(&thread, "enqueue").await;
    two.until(&thread, &fourth, "running").await;
    let fifth = two.begin(&thread, "rollback").await;
    // A step that the undone run still took would be missing to the next.
    let path = format!("/threads/{thread}/runs/{fourth}");
    soon(async {
        while two.api.call("", "GET", &path, Value::Null).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    shared.permits.add_permits(2);
    soon(one.join(&thread, &fifth)).await;
    let path = format!("/threads/{thread}");
    let kept = two.api.ok("GET", &path, Value::Null).await;
    assert_eq!(kept["status"], "idle");
    for kind in ["lg_stop", "lg_queue"] {
        let left = shared.records.every(kind).await.unwrap();
        assert!(left.is_empty(), "{kind}: {left:?}");
    }
}

#[tokio::test]
async fn runs_of_a_thread_take_turns_between_processes() {
    taking_turns(Arc::new(MemoryHints::new())).await;
}

#[tokio::test]
async fn they_do_so_where_no_hint_arrives() {
    taking_turns(Arc::new(Deaf)).await;
}

#[tokio::test]
async fn a_process_that_closes_hands_its_runs_over() {
    let shared = Shared::new(Arc::new(MemoryHints::new()));
    let (one, two) = shared.pair().await;
    let thread = one.api.thread("").await;
    let run = one.begin(&thread, "enqueue").await;
    let next = one.begin(&thread, "enqueue").await;
    shared.permits.add_permits(1);
    two.until(&thread, &run, "running").await;
    soon(one.platform.close()).await;
    // The first step is done again where its end was not stored in time.
    shared.permits.add_permits(4);
    let values = soon(two.join(&thread, &next)).await;
    assert_eq!(values["steps"], json!([1, 1, 1, 1]), "{values}");
    assert_eq!(two.status(&thread, &run).await, "success");
    let told = two.stream(&thread, &run).await;
    assert_eq!(told.matches("event: metadata").count(), 2, "{told}");
}

/// Removes the records of all processes, as one does that takes another for gone.
pub(crate) async fn depose(records: &MemoryRecords) -> Result<(), RecordError> {
    for (tenant, record) in records.every("lg_process").await? {
        let delete = RecordWrite::Delete {
            kind: "lg_process",
            id: record.id,
        };
        records.write(&tenant, vec![delete]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_was_taken_for_gone_gives_its_runs_up_and_its_readers_go_on() {
    let shared = Shared::new(Arc::new(MemoryHints::new()));
    let one = shared.process().await;
    let thread = one.api.thread("").await;
    let run = one.begin(&thread, "enqueue").await;
    one.until(&thread, &run, "running").await;
    shared.until_told("custom").await;
    depose(&shared.records).await.unwrap();
    let two = shared.process().await;
    let told = async {
        // The reader came to the first process, whose run is taken from it.
        let told = one.stream(&thread, &run).await;
        assert_eq!(told.matches("event: metadata").count(), 2, "{told}");
    };
    let ended = async {
        two.until(&thread, &run, "running").await;
        // The first notices, and goes on under another name.
        while shared.records.every("lg_process").await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shared.permits.add_permits(2);
        two.until(&thread, &run, "success").await;
    };
    let both = async { tokio::join!(told, ended) };
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .unwrap();
    let values = two.join(&thread, &run).await;
    assert_eq!(values["steps"], json!([1, 1]), "{values}");
    assert_eq!(one.join(&thread, &run).await, values);
}

#[tokio::test]
async fn who_follows_a_thread_is_told_what_another_process_runs() {
    let shared = Shared::new(Arc::new(MemoryHints::new()));
    let (one, two) = shared.pair().await;
    let thread = one.api.thread("").await;
    let start = json!({
        "id": 1, "method": "run.start",
        "params": { "assistant_id": "count", "input": {} },
    });
    let path = format!("/threads/{thread}/commands");
    let begun = one.api.ok("POST", &path, start).await;
    assert_eq!(begun["type"], "success", "{begun}");
    shared.permits.add_permits(2);
    let mut followed = Vec::new();
    for process in [&two, &one] {
        let address = process.api.0.address;
        let url = format!("http://{address}/threads/{thread}/stream/events");
        let asked = json!({ "channels": ["lifecycle", "custom"], "since": 0 });
        let request = reqwest::Client::new().post(url).body(asked.to_string());
        let request = request.header("content-type", "application/json");
        let answer = request.send().await;
        let mut answer = answer.unwrap();
        let mut text = String::new();
        while !text.contains("\"completed\"") {
            let bytes = soon(answer.chunk()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let names = lines.map(|data| {
            let event: Value = serde_json::from_str(data).unwrap();
            (event["event_id"].clone(), event["method"].clone())
        });
        followed.push(names.collect::<Vec<_>>());
    }
    assert_eq!(followed[0], followed[1]);
    assert_eq!(followed[0].len(), 4, "{followed:?}");
}

#[tokio::test]
async fn a_run_is_found_on_its_own_thread_only() {
    let shared = Shared::new(Arc::new(MemoryHints::new()));
    let one = shared.process().await;
    let (thread, other) = (one.api.thread("").await, one.api.thread("").await);
    let run = one.begin(&thread, "enqueue").await;
    shared.permits.add_permits(2);
    one.until(&thread, &run, "success").await;
    let path = format!("/threads/{other}/runs/{run}/join");
    let found = one.api.call("", "GET", &path, Value::Null).await;
    assert_eq!(found.status, 404, "{found:?}");
}
