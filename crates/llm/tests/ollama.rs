//! Finding an Ollama, after its API documentation, "List Local Models".

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use lyceum_llm::{OllamaModel, ollama_models};
use serde_json::json;
use support::{Server, Step, plain};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn models_are_listed_in_their_order() {
    let tags = json!({"models": [
        {"name": "qwen3:8b", "model": "qwen3:8b", "size": 5_200_000_000_u64, "digest": "x",
            "details": {"family": "qwen3", "parameter_size": "8.2B"}},
        {"name": "all-minilm:latest", "size": 45_000_000, "details": {"family": "bert"}},
        {"name": "nomic-embed-text:latest", "details": {"family": null}},
    ]});
    let mut server = Server::saying(plain("200 OK", "", &tags.to_string())).await;
    for suffix in ["", "/", "/v1", "/v1/"] {
        let url = format!("{}{suffix}", server.url);
        let models = ollama_models(&url, SECOND).await.unwrap();
        let first = OllamaModel {
            name: "qwen3:8b".into(),
            size_bytes: 5_200_000_000,
            embeds_only: false,
        };
        assert_eq!(models[0], first);
        assert!(models[1].embeds_only && models[2].embeds_only);
        let head = server.requests.recv().await.unwrap().head;
        assert!(head.starts_with("get /api/tags "), "{head}");
    }
}

#[tokio::test]
async fn whatever_else_is_there_is_an_error() {
    let label =
        async |server: &Server, limit| ollama_models(&server.url, limit).await.unwrap_err().label();
    let other = Server::saying(plain("404 Not Found", "", "no such page")).await;
    assert_eq!(label(&other, 10 * SECOND).await, "rejected");
    let page = Server::saying(plain("200 OK", "", "<html>")).await;
    assert_eq!(label(&page, 10 * SECOND).await, "protocol");
    let silent = Server::start(vec![vec![Step::Hang]]).await;
    assert_eq!(label(&silent, SECOND / 5).await, "timeout");
    let head = Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    let endless = Server::start(vec![vec![head, Step::Flood(vec![b' '; 1 << 16])]]).await;
    assert_eq!(label(&endless, 10 * SECOND).await, "protocol");
}
