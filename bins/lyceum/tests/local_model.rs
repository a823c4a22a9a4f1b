//! The server with a real local model: a small one, so what is asserted is behaviour, not wit.

mod support;

use serde_json::{Value, json};
use support::{Server, model};

#[tokio::test]
async fn a_real_model_streams_answers_and_stops_when_the_client_leaves() {
    let server = Server::start(
        &["--model", model().to_str().unwrap()],
        &[("CANDLE_NUM_THREADS", "1")],
    );
    assert!(
        server.banner.contains("in this process"),
        "{}",
        server.banner
    );
    let body =
        json!({"topic": "Rain", "explanation": "Rain falls from clouds.", "session_id": "rain"});
    let client = reqwest::Client::new();
    // Leave after the first words …
    let mut leaving = client
        .post(format!("{}/chat/stream", server.url))
        .json(&body)
        .send()
        .await
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("data: \"") {
        seen.push_str(&String::from_utf8_lossy(
            &leaving.chunk().await.unwrap().unwrap(),
        ));
    }
    drop(leaving);
    // … the only inference thread is free for the next one, who hears everything.
    let response = client
        .post(format!("{}/chat/stream", server.url))
        .json(&body)
        .send()
        .await
        .unwrap();
    let text = response.text().await.unwrap();
    let pieces: Vec<String> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    assert_eq!(
        pieces.last().map(String::as_str),
        Some("[END_OF_STREAM]"),
        "{text}"
    );
    // A small model asks one question, which is judged before it is heard.
    assert!(pieces.len() >= 2, "nothing was said: {text}");
    let result = text
        .lines()
        .skip_while(|line| *line != "event: result")
        .nth(1)
        .expect("a result");
    let result: Value = serde_json::from_str(result.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(result["provider"], "local");
    assert!(
        !result["questions"].as_array().unwrap().is_empty(),
        "{result}"
    );
    assert!(
        result["usage"]["output_tokens"].as_u64().unwrap() > 0,
        "{result}"
    );
}
