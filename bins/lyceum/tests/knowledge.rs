//! What the student knows, through the real server: taught, asked, examined, written out; kept
//! over a crash, and nobody else's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Reply, Server, key_lines, send};

const FIRST: &str = "Plants use sunlight to make food. The chlorophyll somehow turns light into energy, so the plant always grows.";
const SECOND: &str = "Chlorophyll is a green pigment. It absorbs light because its electrons take up the energy of the photons.";
const ROUTES: [(Method, &str); 6] = [
    (Method::GET, "knowledge"),
    (Method::GET, "review"),
    (Method::GET, "notes"),
    (Method::POST, "teach-back"),
    (Method::POST, "exam"),
    (Method::POST, "gaps/5/dismiss"),
];

async fn teach(server: &Server, key: &str, text: &str) -> Value {
    let body = json!({"topic": "Photosynthesis", "explanation": text, "session_id": "s-1"});
    send(server, key, Method::POST, "chat", body).await.json()
}

async fn get(server: &Server, key: &str, what: &str) -> Reply {
    let path = format!("sessions/s-1/{what}");
    send(server, key, Method::GET, &path, Value::Null).await
}

async fn ask(server: &Server, key: &str, what: &str, body: Value) -> Value {
    let path = format!("sessions/s-1/{what}");
    send(server, key, Method::POST, &path, body).await.json()
}

fn gaps(map: &Value, status: &str) -> Vec<u64> {
    let nodes = map["nodes"].as_array().unwrap().iter();
    nodes
        .filter(|node| node["kind"] == "gap" && node["status"] == status)
        .map(|node| node["id"].as_u64().unwrap())
        .collect()
}

/// Two people of one school, and one of another.
fn config(dir: &std::path::Path) -> String {
    let keys = [("alice", "school"), ("bob", "school"), ("alice", "other")];
    let key = |(user, tenant)| key_lines(&format!("{user}@{tenant}"), tenant, user, "");
    let text = keys.map(key).concat();
    let file = dir.join("lyceum.toml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn knowledge_is_kept_over_a_crash_and_belongs_to_one_person() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path());
    let flags = ["--provider", "offline", "--config", &file];
    let server = Server::start_in(dir, &flags, &[]);
    let me = "alice@school";
    teach(&server, me, FIRST).await;
    let before = get(&server, me, "knowledge").await.json();
    assert!(gaps(&before, "answered").is_empty(), "{before}");
    assert!(!gaps(&before, "asked").is_empty(), "{before}");
    teach(&server, me, SECOND).await;
    let map = get(&server, me, "knowledge").await.json();
    assert!(!gaps(&map, "answered").is_empty(), "{map}");
    let chlorophyll = |map: &Value| {
        let all = map["mastery"].as_array().unwrap();
        let found = all.iter().find(|it| it["name"] == "chlorophyll");
        found.unwrap()["mastery"].as_f64().unwrap()
    };
    assert!(chlorophyll(&map) > chlorophyll(&before));

    // A crash loses nothing.
    let server = Server::start_in(server.kill(), &flags, &[]);
    assert_eq!(get(&server, me, "knowledge").await.json(), map);

    let open = gaps(&map, "asked")[0];
    let what = format!("gaps/{open}/dismiss");
    let map = ask(&server, me, &what, Value::Null).await;
    assert_eq!(gaps(&map, "dismissed"), [open]);
    let server = Server::start_in(server.kill(), &flags, &[]);
    assert_eq!(get(&server, me, "knowledge").await.json(), map);

    let told = ask(&server, me, "teach-back", json!({"tone": "examiner"})).await;
    let text = told["text"].as_str().unwrap();
    assert!(
        text.starts_with("Statements on record") && text.contains("[?"),
        "{text}"
    );
    let answer = ask(
        &server,
        me,
        "exam",
        json!({"question": "What is chlorophyll?"}),
    )
    .await;
    assert_eq!(answer["verdict"], "answered", "{answer}");
    let answer = ask(
        &server,
        me,
        "exam",
        json!({"question": "What is a mitochondrion?"}),
    )
    .await;
    assert_eq!(answer["verdict"], "not_taught", "{answer}");
    let review = get(&server, me, "review").await.json();
    assert!(
        review["review"][0]["due_at_ms"].as_u64().unwrap() > 0,
        "{review}"
    );
    let notes = get(&server, me, "notes").await;
    assert!(
        notes.text.contains("Chlorophyll is a green pigment"),
        "{}",
        notes.text
    );
    let written = get(&server, me, "knowledge?format=markdown").await;
    assert!(
        written.text.starts_with("# What the student knows"),
        "{}",
        written.text
    );
    assert_eq!(
        get(&server, me, "knowledge?format=pdf").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );

    // Somebody else, in the same school or not, sees no difference to a session that never was.
    for other in ["bob@school", "alice@other"] {
        for (method, what) in ROUTES {
            let body = json!({"question": "What is chlorophyll?"});
            let path = format!("sessions/s-1/{what}");
            let reply = send(&server, other, method.clone(), &path, body.clone()).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{other} {what}");
            let path = format!("sessions/s-9/{what}");
            let never = send(&server, other, method, &path, body).await;
            assert_eq!((reply.status, reply.text), (never.status, never.text));
        }
    }
    let stranger = get(&server, "nobody", "knowledge").await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    teach(
        &server,
        "bob@school",
        "Bananas are yellow because they ripen.",
    )
    .await;
    assert_eq!(get(&server, me, "knowledge").await.json(), map);
}

#[tokio::test]
async fn the_tone_is_chosen_by_request_or_configuration() {
    let server = Server::start(
        &["--provider", "offline"],
        &[("LYCEUM_STUDENT__TONE", "examiner")],
    );
    let client = reqwest::Client::new();
    let mut asked = Vec::new();
    for tone in [None, Some("sceptical_peer"), Some("curious_child")] {
        let body = json!({"topic": "Photosynthesis", "explanation": FIRST, "tone": tone});
        let request = client.post(format!("{}/chat", server.url)).json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        asked.push(answer["questions"][0].as_str().unwrap().to_owned());
    }
    assert!(asked[0].starts_with("State precisely: "), "{asked:?}");
    assert!(
        asked[1].starts_with("I am not convinced yet. "),
        "{asked:?}"
    );
    assert!(
        asked[0].ends_with(&asked[2]) && asked[1].ends_with(&asked[2]),
        "{asked:?}"
    );
}
