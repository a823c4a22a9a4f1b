//! The server from start to stop: answers, keeps, drains, survives being killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::Server;

fn lesson(session: &str, text: &str) -> Value {
    json!({"topic": "Gravity", "explanation": text, "session_id": session})
}

async fn chat(server: &Server, body: &Value) -> Value {
    let response = reqwest::Client::new()
        .post(format!("{}/chat", server.url))
        .json(body)
        .send()
        .await
        .unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn questions(answer: &Value) -> Vec<String> {
    answer["questions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|q| q.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn two_explanations_give_different_questions_that_quote_them() {
    let server = Server::offline();
    let first = chat(
        &server,
        &lesson(
            "a",
            "Things fall because mass somehow attracts mass, so the moon always falls.",
        ),
    )
    .await;
    let second = chat(
        &server,
        &lesson("b", "重力就是让东西掉下来的力，因此所有东西永远往下掉。"),
    )
    .await;
    assert_eq!(first["provider"], "offline");
    let (first, second) = (questions(&first), questions(&second));
    assert!((1..=5).contains(&first.len()), "{first:?}");
    assert!(first.iter().all(|question| !second.contains(question)));
    assert!(
        first.iter().any(|question| question.contains("somehow")),
        "{first:?}"
    );
    assert!(
        second
            .iter()
            .any(|question| question.contains("永远") || question.contains("所有")),
        "{second:?}"
    );
}

#[tokio::test]
async fn the_conversation_is_kept_across_restart_and_kill() {
    let server = Server::offline();
    chat(
        &server,
        &lesson(
            "kept",
            "The moon is a planet. It pulls the sea towards itself.",
        ),
    )
    .await;
    let dir = server.kill();
    let server = Server::start_in(dir, &["--provider", "offline"], &[]);
    // The contradiction can only be seen by who remembers the first explanation.
    let answer = chat(&server, &lesson("kept", "The moon is not a planet.")).await;
    let memory = answer["short_term_memory"].as_array().unwrap();
    assert_eq!(memory.len(), 4, "{answer}");
    let kinds: Vec<&str> = answer["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|gap| gap["kind"].as_str())
        .collect();
    assert!(kinds.contains(&"contradiction"), "{answer}");
}

#[tokio::test]
async fn a_stop_signal_ends_with_code_zero_after_the_running_request() {
    for signal in ["INT", "TERM"] {
        let server = Server::offline();
        chat(&server, &lesson("s", "Mass attracts mass.")).await;
        server.signal(signal);
        let (code, errors, _) = server.wait();
        assert_eq!(code, Some(0), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

#[tokio::test]
async fn memorize_stores_a_simplified_summary_without_a_model() {
    let server = Server::offline();
    let body = json!({"topic": "Gravity", "conversation_history": [
        {"role": "user", "content": "Mass attracts mass."},
        {"role": "assistant", "content": "How?"},
    ]});
    let response = reqwest::Client::new()
        .post(format!("{}/memorize", server.url))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["provider"], "offline");
    assert!(
        answer["summary"].as_str().unwrap().contains("Gravity"),
        "{answer}"
    );
    assert!(
        answer["memory_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty())
    );
}
