//! Two users of one tenant, and a user of another, reach nothing of each other.

use serde_json::{Value, json};

use crate::client::{Api, Gated, hi, serve};

const KEYS: [(&str, &str, &str); 3] = [
    ("alice-key", "school", "alice"),
    ("bob-key", "school", "bob"),
    ("carol-key", "club", "alice"),
];

/// What one user made.
struct Made {
    thread: String,
    run: String,
    assistant: String,
    checkpoint: String,
}

async fn make(api: &Api, key: &str) -> Made {
    let assistant = api
        .call(key, "POST", "/assistants", json!({ "graph_id": "talk" }))
        .await
        .json();
    let thread = api.thread(key).await;
    let path = format!("/threads/{thread}/runs/wait");
    let values = api.call(key, "POST", &path, hi()).await;
    assert_eq!(values.status, 200, "{values:?}");
    let runs = format!("/threads/{thread}/runs");
    let runs = api.call(key, "GET", &runs, Value::Null).await.json();
    let state = format!("/threads/{thread}/state");
    let state = api.call(key, "GET", &state, Value::Null).await.json();
    let item = json!({ "namespace": ["notes"], "key": "one", "value": { "of": key } });
    let put = api.call(key, "PUT", "/store/items", item).await;
    assert_eq!(put.status, 204, "{put:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Made {
        thread,
        run: text(&runs[0]["run_id"]),
        assistant: text(&assistant["assistant_id"]),
        checkpoint: text(&state["checkpoint"]["checkpoint_id"]),
    }
}

/// Every route that names something of somebody.
fn routes(made: &Made) -> Vec<(&'static str, String, Value)> {
    let Made {
        thread,
        run,
        assistant,
        checkpoint,
    } = made;
    let of_assistant = |path: &str| format!("/assistants/{assistant}{path}");
    let of_thread = |path: &str| format!("/threads/{thread}{path}");
    let of_run = |path: &str| format!("/threads/{thread}/runs/{run}{path}");
    vec![
        ("GET", of_assistant(""), Value::Null),
        ("PATCH", of_assistant(""), json!({ "name": "mine" })),
        ("GET", of_assistant("/graph"), Value::Null),
        ("GET", of_assistant("/schemas"), Value::Null),
        ("GET", of_assistant("/subgraphs"), Value::Null),
        ("POST", of_assistant("/versions"), json!({})),
        ("POST", of_assistant("/latest"), json!({ "version": 1 })),
        ("DELETE", of_assistant(""), Value::Null),
        ("GET", of_thread(""), Value::Null),
        ("PATCH", of_thread(""), json!({ "metadata": { "a": 1 } })),
        ("POST", of_thread("/copy"), Value::Null),
        ("GET", of_thread("/state"), Value::Null),
        (
            "POST",
            of_thread("/state"),
            json!({ "values": { "messages": [] } }),
        ),
        (
            "POST",
            of_thread("/state/checkpoint"),
            json!({ "checkpoint": { "checkpoint_id": checkpoint } }),
        ),
        (
            "GET",
            of_thread(&format!("/state/{checkpoint}")),
            Value::Null,
        ),
        ("GET", of_thread("/history"), Value::Null),
        ("POST", of_thread("/history"), json!({})),
        ("GET", of_thread("/runs"), Value::Null),
        ("POST", of_thread("/runs"), hi()),
        ("POST", of_thread("/runs/stream"), hi()),
        ("POST", of_thread("/runs/wait"), hi()),
        ("GET", of_run(""), Value::Null),
        ("GET", of_run("/join"), Value::Null),
        ("GET", of_run("/stream"), Value::Null),
        ("POST", of_run("/cancel"), json!({})),
        ("DELETE", of_run(""), Value::Null),
        ("DELETE", of_thread(""), Value::Null),
    ]
}

#[tokio::test]
async fn what_one_user_made_is_not_there_for_another_of_any_tenant() {
    let api = serve(Gated::open(), &KEYS).await;
    let made = make(&api, "alice-key").await;
    for stranger in ["bob-key", "carol-key"] {
        for (method, path, body) in routes(&made) {
            let reply = api.call(stranger, method, &path, body).await;
            assert_eq!(reply.status, 404, "{stranger} {method} {path}: {reply:?}");
        }
    }
    // Nobody changed anything.
    for (method, path, body) in routes(&made) {
        let reply = api.call("alice-key", method, &path, body).await;
        assert!(reply.status < 300, "alice {method} {path}: {reply:?}");
    }
}

#[tokio::test]
async fn nobody_follows_or_answers_the_thread_of_another() {
    let api = serve(Gated::open(), &KEYS).await;
    let made = make(&api, "alice-key").await;
    let of_thread = |path: &str| format!("/threads/{}{path}", made.thread);
    let cron = json!({ "assistant_id": "talk", "schedule": "0 0 1 1 *" });
    let routes = [
        ("GET", of_thread("/stream"), Value::Null),
        (
            "POST",
            of_thread("/stream/events"),
            json!({ "channels": ["values"] }),
        ),
        ("POST", of_thread("/runs/crons"), cron.clone()),
    ];
    for stranger in ["bob-key", "carol-key"] {
        for (method, path, body) in &routes {
            let reply = api.call(stranger, method, path, body.clone()).await;
            assert_eq!(reply.status, 404, "{stranger} {method} {path}: {reply:?}");
        }
        let get = json!({ "id": 1, "method": "state.get", "params": { "namespace": [] } });
        let reply = api
            .call(stranger, "POST", &of_thread("/commands"), get)
            .await;
        assert_eq!(reply.json()["type"], "error", "{reply:?}");
    }
    let made = api.call("alice-key", "POST", "/runs/crons", cron).await;
    let id = made.json()["cron_id"].as_str().unwrap().to_owned();
    let path = format!("/runs/crons/{id}");
    for stranger in ["bob-key", "carol-key"] {
        let count = api
            .call(stranger, "POST", "/runs/crons/count", json!({}))
            .await;
        assert_eq!(count.json(), 0);
        let reply = api.call(stranger, "DELETE", &path, Value::Null).await;
        assert_eq!(reply.status, 404, "{reply:?}");
    }
    let reply = api.call("alice-key", "DELETE", &path, Value::Null).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    let wrong = json!({ "id": 7, "method": "no.such", "params": {} });
    let reply = api
        .call("alice-key", "POST", &of_thread("/commands"), wrong)
        .await;
    assert_eq!(reply.json()["error"], "unknown_command");
    assert_eq!(reply.json()["id"], 7);
    let wrong = json!({ "channels": ["nonsense"] });
    let reply = api
        .call("alice-key", "POST", &of_thread("/stream/events"), wrong)
        .await;
    assert_eq!(reply.status, 422, "{reply:?}");
}

#[tokio::test]
async fn lists_counts_and_sweeps_see_only_what_is_the_callers() {
    let api = serve(Gated::open(), &KEYS).await;
    let made = make(&api, "alice-key").await;
    let count = async |key, path, body| {
        let found = api.call(key, "POST", path, body).await.json();
        match found {
            Value::Array(found) => found.len() as u64,
            Value::Number(count) => count.as_u64().unwrap(),
            Value::Object(found) => {
                let one = found.values().next().unwrap();
                one.as_array().unwrap().len() as u64
            }
            other => panic!("{other}"),
        }
    };
    let lists = [
        ("/threads/search", json!({})),
        ("/threads/count", json!({})),
        (
            "/store/items/search",
            json!({ "namespace_prefix": ["notes"] }),
        ),
        ("/store/namespaces", json!({})),
    ];
    for (path, body) in lists {
        for stranger in ["bob-key", "carol-key"] {
            assert_eq!(count(stranger, path, body.clone()).await, 0, "{path}");
        }
        assert_eq!(count("alice-key", path, body).await, 1, "{path}");
    }
    // The assistants of the server's own graphs are everybody's.
    let assistants = ("/assistants/search", json!({}));
    let theirs = count("bob-key", assistants.0, assistants.1.clone()).await;
    let hers = count("alice-key", assistants.0, assistants.1).await;
    assert_eq!(hers, theirs + 1);
    // Sweeps that name what is another's.
    let prune = json!({ "thread_ids": [made.thread], "strategy": "delete" });
    api.call("bob-key", "POST", "/threads/prune", prune).await;
    let cancel = json!({ "thread_id": made.thread, "run_ids": [made.run] });
    api.call("bob-key", "POST", "/runs/cancel", cancel).await;
    let item = "/store/items?namespace=notes&key=one";
    api.call(
        "bob-key",
        "DELETE",
        item,
        json!({ "namespace": ["notes"], "key": "one" }),
    )
    .await;
    let thread = format!("/threads/{}", made.thread);
    let thread = api.call("alice-key", "GET", &thread, Value::Null).await;
    assert_eq!(thread.status, 200, "{thread:?}");
    let item = api.call("alice-key", "GET", item, Value::Null).await;
    assert_eq!(item.json()["value"]["of"], "alice-key");
}
