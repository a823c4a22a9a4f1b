//! What requests may say, and how lists are shown.

use serde_json::{Value, json};

use crate::client::{Api, Gated, hi, serve};

async fn open() -> Api {
    serve(Gated::open(), &[]).await
}

async fn status(api: &Api, method: &str, path: &str, body: Value) -> u16 {
    api.call("", method, path, body).await.status
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

#[tokio::test]
async fn a_run_that_cannot_be_meant_is_refused_before_it_is_kept() {
    let api = open().await;
    let thread = api.thread("").await;
    let resume = json!({ "resume": 1 });
    for route in ["runs", "runs/stream", "runs/wait"] {
        let path = format!("/threads/{thread}/{route}");
        for body in [
            with(hi(), "command", resume.clone()),
            with(hi(), "stream_mode", json!(["nonsense"])),
            with(hi(), "on_disconnect", json!("stay")),
            with(hi(), "durability", json!("never")),
            with(hi(), "multitask_strategy", json!("wait")),
            with(hi(), "after_seconds", json!(1e30)),
            with(hi(), "webhook", json!("https://example.org/hook")),
            json!({ "input": {} }),
        ] {
            assert_eq!(
                status(&api, "POST", &path, body.clone()).await,
                422,
                "{route} {body}"
            );
        }
        let elsewhere = with(hi(), "checkpoint_id", json!("nothing"));
        assert_eq!(status(&api, "POST", &path, elsewhere).await, 404);
    }
    let cron = json!({ "assistant_id": "talk", "schedule": "0 0 1 1 *", "stream_mode": "x" });
    assert_eq!(status(&api, "POST", "/runs/crons", cron).await, 422);
    let runs = format!("/threads/{thread}/runs");
    assert_eq!(api.ok("GET", &runs, Value::Null).await, json!([]));
}

#[tokio::test]
async fn a_page_sends_an_empty_input_beside_its_answer() {
    let api = open().await;
    let path = format!("/threads/{}/runs/wait", api.thread("").await);
    let mut asks = hi();
    asks["input"]["waits"] = true.into();
    let values = api.ok("POST", &path, asks).await;
    assert_eq!(
        values["__interrupt__"][0]["value"], "who is there?",
        "{values}"
    );
    let answer = json!({ "assistant_id": "talk", "input": {}, "command": { "resume": "me" } });
    let values = api.ok("POST", &path, answer).await;
    assert_eq!(values["messages"][1]["content"], "hello, local", "{values}");
}

#[tokio::test]
async fn without_checkpoints_during_a_run_its_last_one_is_kept() {
    let api = open().await;
    let mut counts = Vec::new();
    for during in [true, false] {
        let thread = api.thread("").await;
        let body = with(hi(), "checkpoint_during", during.into());
        api.ok("POST", &format!("/threads/{thread}/runs/wait"), body)
            .await;
        let path = format!("/threads/{thread}/history");
        let history = api.ok("POST", &path, json!({})).await;
        counts.push(history.as_array().unwrap().len());
    }
    assert!(counts[1] < counts[0], "{counts:?}");
}

#[tokio::test]
async fn a_list_says_how_many_there_are_and_where_it_goes_on() {
    let api = open().await;
    let mut ids = Vec::new();
    for at in 0..3 {
        let body = json!({ "metadata": { "at": at } });
        let made = api.ok("POST", "/threads", body).await;
        ids.push(made["thread_id"].clone());
    }
    let page = json!({ "limit": 2, "sort_by": "created_at", "sort_order": "asc" });
    let reply = api.call("", "POST", "/threads/search", page).await;
    assert_eq!(reply.header("x-pagination-total"), Some("3"));
    assert_eq!(reply.header("x-pagination-next"), Some("2"));
    let found = reply.json();
    assert_eq!(
        [&found[0]["thread_id"], &found[1]["thread_id"]],
        [&ids[0], &ids[1]]
    );
    let last = json!({ "limit": 2, "offset": 2, "select": ["thread_id"],
        "extract": { "at": "metadata.at", "none": "values.messages[-1]" } });
    let reply = api.call("", "POST", "/threads/search", last).await;
    assert_eq!(reply.header("x-pagination-next"), None);
    let expected = json!([{ "thread_id": ids[0], "extracted": { "at": 0, "none": null } }]);
    assert_eq!(reply.json(), expected);
    for wrong in [
        json!({ "limit": 0 }),
        json!({ "limit": 1_001 }),
        json!({ "limit": -1 }),
        json!({ "offset": "a" }),
        json!({ "status": "asleep" }),
        json!({ "extract": { "a": "" } }),
    ] {
        let refused = status(&api, "POST", "/threads/search", wrong.clone()).await;
        assert_eq!(refused, 422, "{wrong}");
    }
}

#[tokio::test]
async fn a_state_shows_the_fields_that_were_asked_for() {
    let api = open().await;
    let thread = api.thread("").await;
    api.ok("POST", &format!("/threads/{thread}/runs/wait"), hi())
        .await;
    let path = format!("/threads/{thread}/state?select=next&select=values.messages");
    let state = api.ok("GET", &path, Value::Null).await;
    let names: Vec<_> = state.as_object().unwrap().keys().collect();
    assert_eq!(names, ["next", "values"]);
    let names: Vec<_> = state["values"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["messages"]);
}

#[tokio::test]
async fn an_assistant_goes_with_its_threads_where_that_is_asked_for() {
    let api = open().await;
    let mut left = Vec::new();
    for flag in ["", "?delete_threads=true"] {
        let made = json!({ "graph_id": "talk" });
        let made = api.ok("POST", "/assistants", made).await;
        let id = made["assistant_id"].as_str().unwrap().to_owned();
        let thread = api.thread("").await;
        let run = with(hi(), "assistant_id", json!(id));
        api.ok("POST", &format!("/threads/{thread}/runs/wait"), run)
            .await;
        api.ok("DELETE", &format!("/assistants/{id}{flag}"), Value::Null)
            .await;
        left.push(status(&api, "GET", &format!("/threads/{thread}"), Value::Null).await);
    }
    assert_eq!(left, [200, 404]);
}

#[tokio::test]
async fn a_copy_has_the_history_of_its_thread() {
    let api = open().await;
    let thread = api.thread("").await;
    api.ok("POST", &format!("/threads/{thread}/runs/wait"), hi())
        .await;
    let mut of = Vec::new();
    let mut id = thread.clone();
    for _ in 0..3 {
        let history = format!("/threads/{id}/history");
        let history = api.ok("GET", &history, Value::Null).await;
        of.push(history.to_string().replace(&id, &thread));
        let copy = format!("/threads/{id}/copy");
        let copy = api.ok("POST", &copy, Value::Null).await;
        id = copy["thread_id"].as_str().unwrap().to_owned();
    }
    assert!(of[0].contains("\"name\":\"greet\""), "{}", of[0]);
    assert_eq!(of[0], of[1]);
    assert_eq!(of[0], of[2], "a copy of a copy");
}
