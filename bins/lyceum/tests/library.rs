//! What is kept of a user, through the real server: seen, changed, exported, erased by its owner
//! and by nobody else; and what an operator sees and does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Server, key_lines, send};

async fn teach(server: &Server, key: &str, session: &str, text: &str) {
    let body = json!({"topic": "Photosynthesis", "explanation": text, "session_id": session});
    send(server, key, Method::POST, "chat", body).await.json();
}

async fn get(server: &Server, key: &str, path: &str) -> Value {
    send(server, key, Method::GET, path, Value::Null)
        .await
        .json()
}

async fn status(server: &Server, key: &str, method: Method, path: &str) -> u16 {
    let reply = send(server, key, method, path, Value::Null).await;
    reply.status.as_u16()
}

/// Two learners of one school and an operator.
fn config(dir: &std::path::Path) -> String {
    let keys = [
        ("alice", ""),
        ("bob", ""),
        ("operator", "scopes = [\"operator\"]"),
    ];
    let keys = keys.map(|(user, scopes)| key_lines(user, "school", user, scopes));
    let text = keys.concat();
    let file = dir.join("lyceum.toml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn start() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path());
    Server::start_in(dir, &["--provider", "offline", "--config", &file], &[])
}

#[tokio::test]
async fn a_user_sees_changes_exports_and_erases_what_is_kept_and_nobody_elses() {
    let server = start();
    let me = "alice";
    for (session, text) in [
        ("s-1", "Plants use sunlight to make sugar in their leaves."),
        (
            "s-2",
            "Chlorophyll absorbs red light because its electrons take the energy.",
        ),
        ("s-3", "Roots take up water, which rises in the xylem."),
    ] {
        teach(&server, me, session, text).await;
    }
    teach(&server, "bob", "s-1", "Bob explains the tides.").await;

    let first = get(&server, me, "sessions?limit=2").await;
    let names = |page: &Value| -> Vec<String> {
        let all = page["sessions"].as_array().unwrap().iter();
        all.map(|one| one["session_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["s-3", "s-2"]);
    let next = first["next"].as_str().unwrap();
    let second = get(&server, me, &format!("sessions?limit=2&before={next}")).await;
    assert_eq!(
        (names(&second), &second["next"]),
        (vec!["s-1".to_owned()], &Value::Null)
    );

    let whole = get(&server, me, "sessions/s-2").await;
    assert_eq!(whole["messages"], 2);
    assert_eq!(whole["conversation"][0]["role"], "user");
    assert!(
        whole["conversation"][0]["content"]
            .as_str()
            .unwrap()
            .starts_with("Chlorophyll")
    );
    let last = get(&server, me, "sessions/s-2?limit=1").await;
    assert_eq!(
        (&last["conversation"][0]["seq"], &last["next_before"]),
        (&json!(2), &json!(2))
    );

    let query = json!({"query": "what absorbs red light"});
    let found = send(&server, me, Method::POST, "memories/search", query.clone())
        .await
        .json();
    let hit = &found["memories"][0];
    assert!(
        hit["text"].as_str().unwrap().contains("Chlorophyll"),
        "{found}"
    );
    let path = format!("memories/{}", hit["id"].as_str().unwrap());
    for (method, path) in [
        (Method::DELETE, path.as_str()),
        (Method::GET, "sessions/s-2"),
        (Method::DELETE, "sessions/s-2"),
        (Method::POST, "sessions/s-2/complete"),
        (Method::GET, "sessions/s-2/knowledge"),
    ] {
        assert_eq!(
            status(&server, "bob", method.clone(), path).await,
            404,
            "{method} {path}"
        );
    }
    let edit = json!({"text": "Chlorophyll absorbs red and blue light."});
    let theirs = send(&server, "bob", Method::PUT, &path, edit.clone()).await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
    let edited = send(&server, me, Method::PUT, &path, edit).await.json();
    let found = send(&server, me, Method::POST, "memories/search", query.clone())
        .await
        .json();
    assert_eq!(found["memories"][0]["id"], edited["id"], "{found}");
    assert_eq!(status(&server, me, Method::DELETE, &path).await, 404);

    let lines = send(&server, me, Method::GET, "export", Value::Null)
        .await
        .text;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("session"), of("message")), (3, 6));
    assert!(of("memory") >= 3, "{lines:?}");
    assert!(lines.iter().all(|line| !line.to_string().contains("tides")));

    assert_eq!(
        status(&server, me, Method::POST, "sessions/s-1/complete").await,
        204
    );
    assert_eq!(get(&server, me, "sessions/s-1").await["completed"], true);
    assert_eq!(
        status(&server, me, Method::DELETE, "sessions/s-1").await,
        204
    );
    assert_eq!(status(&server, me, Method::GET, "sessions/s-1").await, 404);
    assert_eq!(
        status(&server, me, Method::GET, "sessions/s-1/knowledge").await,
        404
    );

    assert_eq!(status(&server, me, Method::DELETE, "export").await, 422);
    let erased = send(
        &server,
        me,
        Method::DELETE,
        "export?confirm=erase",
        Value::Null,
    )
    .await
    .json();
    assert_eq!(erased["sessions"], 2);
    for (path, list) in [("sessions", "sessions"), ("memories", "memories")] {
        assert_eq!(get(&server, me, path).await[list], json!([]));
    }
    assert_eq!(
        get(&server, "bob", "sessions").await["sessions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for (path, wrong) in [
        ("sessions?limit=0", 422),
        ("sessions?limit=x", 422),
        ("sessions?before=x", 422),
        ("memories?before=x", 422),
        ("sessions/%FF", 404),
    ] {
        assert_eq!(
            status(&server, me, Method::GET, path).await,
            wrong,
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_operator_sees_the_server_and_puts_it_into_maintenance() {
    let server = start();
    let (alice, operator) = ("alice", "operator");
    assert_eq!(
        status(&server, alice, Method::GET, "api/operator").await,
        403
    );
    assert_eq!(
        status(&server, operator, Method::GET, "sessions").await,
        403
    );
    let seen = get(&server, operator, "api/operator").await;
    assert_eq!(
        (&seen["maintenance"], &seen["streams"]["open"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(seen["degraded"], json!([]), "{seen}");

    let ready = || status(&server, operator, Method::GET, "readyz");
    let switch = async |on: bool| {
        let path = "api/operator/maintenance";
        let switched = send(&server, operator, Method::POST, path, json!({"on": on})).await;
        assert_eq!(switched.status, StatusCode::NO_CONTENT, "{}", switched.text);
    };
    assert_eq!(ready().await, 200);
    let log =
        async |body: Value| send(&server, operator, Method::POST, "api/operator/log", body).await;
    let changed = log(json!({"filter": "info,lyceum_gateway=debug", "minutes": 1})).await;
    assert_eq!(changed.json()["filter"], "info,lyceum_gateway=debug");
    let refused = log(json!({"filter": "lyceum=shout"})).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text.contains("filter"), "{}", refused.text);
    assert_eq!(log(json!({})).await.json()["filter"], "info");
    let path = "api/operator/log";
    let not_theirs = send(&server, alice, Method::POST, path, json!({})).await;
    assert_eq!(not_theirs.status, StatusCode::FORBIDDEN);

    switch(true).await;
    assert_eq!(ready().await, 503);
    let body = json!({"topic": "t", "explanation": "Plants grow.", "session_id": "s"});
    let refused = send(&server, alice, Method::POST, "chat", body.clone()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text.contains("maintenance"), "{}", refused.text);
    assert_eq!(get(&server, alice, "sessions").await["sessions"], json!([]));
    // What is refused for a while is no failure.
    assert_eq!(
        get(&server, operator, "api/operator").await["errors"],
        json!([])
    );
    switch(false).await;
    assert_eq!(ready().await, 200);
    send(&server, alice, Method::POST, "chat", body)
        .await
        .json();
}

#[tokio::test]
async fn a_later_summary_supersedes_the_earlier_and_the_past_is_asked_for() {
    let (server, me) = (start(), "alice");
    let mut stored = Vec::new();
    for text in [
        "Tides follow the moon.",
        "Tides follow the moon and the sun.",
    ] {
        let body = json!({
            "topic": "Tides",
            "session_id": "sea",
            "conversation_history": [{ "role": "user", "content": text }],
        });
        let made = send(&server, me, Method::POST, "memorize", body)
            .await
            .json();
        stored.push(made["memory_id"].as_str().unwrap().to_owned());
    }
    let all = get(&server, me, "memories").await;
    let one = |id: &str| {
        let all = all["memories"].as_array().unwrap().iter();
        all.clone().find(|one| one["id"] == id).unwrap().clone()
    };
    let (old, new) = (one(&stored[0]), one(&stored[1]));
    assert_eq!(old["superseded_by"], json!(stored[1]), "{all}");
    assert_eq!(old["valid_to"], new["valid_from"], "{all}");
    assert_eq!(new["superseded_by"], Value::Null, "{all}");
    let ids = |page: &Value| -> Vec<String> {
        let all = page["memories"].as_array().unwrap().iter();
        all.map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let query = json!({ "query": "tides moon" });
    let found = send(&server, me, Method::POST, "memories/search", query)
        .await
        .json();
    assert_eq!(ids(&found), [stored[1].clone()], "only what holds now");
    let then = old["recorded_at"].as_str().unwrap();
    let past = get(
        &server,
        me,
        &format!("memories?as_of={then}&known_at={then}"),
    )
    .await;
    assert_eq!(ids(&past), [stored[0].clone()]);
    let query = json!({ "query": "tides moon", "as_of": then, "known_at": then });
    let found = send(&server, me, Method::POST, "memories/search", query)
        .await
        .json();
    assert_eq!(ids(&found), [stored[0].clone()]);
    let earlier = get(&server, me, "memories?as_of=2001-01-01T00:00:00Z").await;
    assert_eq!(ids(&earlier), Vec::<String>::new());
    let wrong = status(&server, me, Method::GET, "memories?as_of=yesterday").await;
    assert_eq!(wrong, 422);
}
