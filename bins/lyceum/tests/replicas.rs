//! Two servers on one PostgreSQL: what one runs, the other streams, joins, stops and, when the
//! first is killed, goes on with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use lyceum_store_postgres::test_server::TestServer;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use support::{Server, until};

/// How long a process stands still before it is taken for gone, with room for a slow machine.
const LEASE: Duration = Duration::from_secs(40);

/// Two servers over a database of their own.
fn pair() -> (TestServer, Server, Server) {
    let database = TestServer::start().unwrap();
    let address = database.database().unwrap();
    let start = || {
        let env = [
            ("LYCEUM_STORE__KIND", "postgres"),
            ("LYCEUM_STORE__URL", address.as_str()),
        ];
        Server::start(&["--provider", "offline"], &env)
    };
    let (one, two) = (start(), start());
    (database, one, two)
}

async fn call(server: &Server, method: Method, path: &str, body: Value) -> Response {
    let url = format!("{}/{path}", server.url);
    let mut request = reqwest::Client::new().request(method, url);
    if !body.is_null() {
        request = request.json(&body);
    }
    request.send().await.unwrap()
}

async fn json_of(answer: Response) -> Value {
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

async fn get(server: &Server, path: &str) -> Value {
    json_of(call(server, Method::GET, path, Value::Null).await).await
}

async fn post(server: &Server, path: &str, body: Value) -> Value {
    json_of(call(server, Method::POST, path, body).await).await
}

async fn thread(server: &Server) -> String {
    let made = post(server, "threads", json!({})).await;
    made["thread_id"].as_str().unwrap().to_owned()
}

/// A run of the sample agent that tells so many steps, and how long each takes.
fn slow(steps: u64, ms: u64) -> Value {
    json!({
        "assistant_id": "agent",
        "input": {
            "messages": [{ "role": "human", "content": "foo" }],
            "sleep": { "steps": steps, "ms": ms },
        },
        "stream_mode": ["custom", "values"],
    })
}

async fn begin(server: &Server, thread: &str, body: Value) -> String {
    let run = post(server, &format!("threads/{thread}/runs"), body).await;
    run["run_id"].as_str().unwrap().to_owned()
}

async fn status(server: &Server, thread: &str, run: &str) -> String {
    let run = get(server, &format!("threads/{thread}/runs/{run}")).await;
    run["status"].as_str().unwrap().to_owned()
}

async fn running(server: &Server, thread: &str, run: &str) {
    let seen = until(|| status(server, thread, run), |seen| seen == "running").await;
    assert_eq!(seen, "running");
}

/// The words of the messages that a thread's values hold.
fn words(values: &Value) -> Vec<&str> {
    let messages = values["messages"].as_array().unwrap();
    let words = messages.iter();
    words.filter_map(|one| one["content"].as_str()).collect()
}

const ANSWERED: [&str; 4] = ["foo", "begin", "tool_call__begin", "end"];

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    id: String,
    name: String,
    data: String,
}

/// A run's stream as a client reads it.
struct Stream {
    answer: Response,
    text: String,
}

impl Stream {
    async fn open(server: &Server, thread: &str, run: &str, last: Option<&str>) -> Self {
        let url = format!("{}/threads/{thread}/runs/{run}/stream", server.url);
        let mut request = reqwest::Client::new().get(url);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Self {
            answer,
            text: String::new(),
        }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| {
                    let lines = block.lines();
                    let mut values = lines.filter_map(|line| line.strip_prefix(name));
                    values.next().map(str::to_owned)
                };
                if let (Some(id), Some(name), Some(data)) =
                    (field("id: "), field("event: "), field("data: "))
                {
                    return Some(Event { id, name, data });
                }
                continue;
            }
            let bytes = tokio::time::timeout(LEASE, self.answer.chunk()).await;
            let bytes = bytes.unwrap().unwrap()?;
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// Reads until so many steps are told.
    async fn steps(&mut self, mut wanted: usize) -> Vec<Event> {
        let mut all = Vec::new();
        while wanted > 0 {
            let event = self.next().await.unwrap();
            wanted -= usize::from(event.name == "custom");
            all.push(event);
        }
        all
    }

    async fn rest(mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_streamed_joined_and_resumed_at_the_server_that_does_not_run_it() {
    let (_database, one, two) = pair();
    let thread = thread(&one).await;
    let run = begin(&one, &thread, slow(20, 200)).await;
    let mut stream = Stream::open(&two, &thread, &run, None).await;
    let mut read = stream.steps(3).await;
    assert_eq!(read[0].name, "metadata", "{read:?}");
    // It is told while it goes on, and the thread is taken at either server.
    assert_eq!(status(&two, &thread, &run).await, "running");
    let mut other = slow(1, 1);
    other["multitask_strategy"] = json!("reject");
    let path = format!("threads/{thread}/runs");
    let refused = call(&two, Method::POST, &path, other).await;
    assert_eq!(refused.status(), 422);
    let state = json!({ "values": { "keyOne": 1 } });
    let path = format!("threads/{thread}/state");
    assert_eq!(call(&two, Method::POST, &path, state).await.status(), 409);

    // The connection is lost, and the client goes on where it was.
    drop(stream);
    let last = read.last().unwrap().id.clone();
    read.extend(
        Stream::open(&two, &thread, &run, Some(&last))
            .await
            .rest()
            .await,
    );
    let whole = Stream::open(&one, &thread, &run, Some("-1"))
        .await
        .rest()
        .await;
    assert_eq!(read, whole);
    let steps = whole.iter().filter(|event| event.name == "custom").count();
    assert_eq!(steps, 20, "{whole:?}");

    let joined = get(&two, &format!("threads/{thread}/runs/{run}/join")).await;
    assert_eq!(words(&joined), ANSWERED);
    let mine = get(&one, &format!("threads/{thread}/runs/{run}/join")).await;
    assert_eq!(joined, mine);
    let kept = get(&two, &format!("threads/{thread}")).await;
    assert_eq!(kept["status"], "idle");
    // Of what is gone nothing is told.
    let gone = call(
        &two,
        Method::DELETE,
        &format!("threads/{thread}"),
        Value::Null,
    )
    .await;
    assert_eq!(gone.status(), 204);
    let path = format!("threads/{thread}/runs/{run}/stream");
    assert_eq!(
        call(&two, Method::GET, &path, Value::Null).await.status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_thread_take_turns_between_servers_and_are_stopped_from_either() {
    let (_database, one, two) = pair();
    let thread = thread(&one).await;
    let long = begin(&one, &thread, slow(1_000, 200)).await;
    running(&one, &thread, &long).await;
    let next = begin(&two, &thread, slow(1, 1)).await;
    assert_eq!(status(&one, &thread, &next).await, "pending");

    let began = Instant::now();
    let path = format!("threads/{thread}/runs/{long}/cancel?wait=true");
    let stopped = call(&two, Method::POST, &path, json!({})).await;
    assert_eq!(stopped.status(), 204);
    assert_eq!(status(&one, &thread, &long).await, "interrupted");
    assert!(began.elapsed() < LEASE / 2, "{:?}", began.elapsed());
    let joined = get(&one, &format!("threads/{thread}/runs/{next}/join")).await;
    assert!(words(&joined).ends_with(&["end"]), "{joined}");
    assert_eq!(status(&two, &thread, &next).await, "success");

    // A strategy of a run at one server stops the run at the other.
    let long = begin(&two, &thread, slow(1_000, 200)).await;
    running(&one, &thread, &long).await;
    let mut taking = slow(1, 1);
    taking["multitask_strategy"] = json!("interrupt");
    let taken = begin(&one, &thread, taking).await;
    let joined = get(&two, &format!("threads/{thread}/runs/{taken}/join")).await;
    assert!(words(&joined).ends_with(&["end"]), "{joined}");
    assert_eq!(status(&two, &thread, &long).await, "interrupted");
    let kept = get(&one, &format!("threads/{thread}")).await;
    assert_eq!(kept["status"], "idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_a_killed_server_goes_on_at_the_other() {
    let (_database, one, two) = pair();
    let thread = thread(&one).await;
    let run = begin(&one, &thread, slow(10, 300)).await;
    let mut stream = Stream::open(&two, &thread, &run, None).await;
    let read = stream.steps(3).await;
    let join = format!("threads/{thread}/runs/{run}/join");
    let (began, _dir) = (Instant::now(), one.kill());
    let (joined, rest) = tokio::join!(get(&two, &join), stream.rest());
    assert_eq!(words(&joined), ANSWERED);
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert_eq!(status(&two, &thread, &run).await, "success");
    let kept = get(&two, &format!("threads/{thread}")).await;
    assert_eq!(kept["status"], "idle");
    // Who was reading goes on under the same run: its second attempt, and no number twice.
    let again = rest.iter().find(|event| event.name == "metadata").unwrap();
    let again: Value = serde_json::from_str(&again.data).unwrap();
    assert_eq!(again, json!({ "run_id": run, "attempt": 2 }));
    let all: Vec<_> = read.iter().chain(&rest).collect();
    let ids: BTreeSet<u64> = all.iter().map(|event| event.id.parse().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "{all:?}");
    // The thread is free.
    let path = format!("threads/{thread}/runs/wait");
    let values = post(&two, &path, slow(1, 1)).await;
    assert!(words(&values).ends_with(&["end"]), "{values}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_in_order_hands_its_run_over_at_once() {
    let (_database, one, two) = pair();
    let thread = thread(&one).await;
    let run = begin(&one, &thread, slow(5, 300)).await;
    running(&two, &thread, &run).await;
    one.signal("TERM");
    let join = format!("threads/{thread}/runs/{run}/join");
    let joined = get(&two, &join).await;
    assert_eq!(words(&joined), ANSWERED);
    let (code, errors, _) = one.wait();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(status(&two, &thread, &run).await, "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_one_key_is_done_once_among_the_servers() {
    let (_database, one, two) = pair();
    let body = json!({"topic": "Gravity", "explanation": "Mass attracts mass.", "session_id": "s"});
    let client = reqwest::Client::new();
    let sent = (0..8).map(|n| {
        let server = if n % 2 == 0 { &one } else { &two };
        let request = client.post(format!("{}/chat", server.url));
        let request = request.header("Idempotency-Key", "k").json(&body);
        async move {
            let answer = request.send().await.unwrap();
            let is_replayed = answer.headers().contains_key("idempotency-replayed");
            (answer.status(), is_replayed, answer.text().await.unwrap())
        }
    });
    let answers = join_all(sent).await;
    assert!(answers.iter().all(|one| one.0 == 200), "{answers:?}");
    let first: Vec<_> = answers.iter().filter(|one| !one.1).collect();
    assert_eq!(first.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|one| one.2 == first[0].2), "{answers:?}");
    let more = json!({"topic": "Gravity", "explanation": "So apples fall.", "session_id": "s"});
    let answer = post(&two, "chat", more).await;
    let told = answer["short_term_memory"].as_array().unwrap().len();
    assert_eq!(told, 4, "one turn was stored: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_and_durable_streams_are_found_at_the_other_server() {
    let (_database, one, two) = pair();
    let asked = json!({ "model": "feynman", "input": "Mass attracts mass." });
    let response = post(&one, "v1/responses", asked).await;
    let id = response["id"].as_str().unwrap();
    let kept = get(&two, &format!("v1/responses/{id}")).await;
    assert_eq!(kept["output"], response["output"], "{kept}");

    let body = json!({
        "topic": "Gravity", "explanation": "Mass attracts mass.", "session_id": "s",
        "durable": true,
    });
    let told = call(&one, Method::POST, "chat/stream", body).await;
    let place = told.headers()["content-location"]
        .to_str()
        .unwrap()
        .to_owned();
    let told = told.text().await.unwrap();
    let again = call(
        &two,
        Method::GET,
        place.trim_start_matches('/'),
        Value::Null,
    )
    .await;
    assert_eq!(again.status(), 200);
    let events = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("data: "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(events(&again.text().await.unwrap()), events(&told));
}
