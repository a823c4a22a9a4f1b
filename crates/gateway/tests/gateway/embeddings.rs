//! Embeddings over a scripted embedder.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Embedder, Embeddings, Tokens, Usage,
};
use lyceum_gateway::{Catalog, GatewayConfig, ServerConfig};
use lyceum_observe::Health;
use serde_json::{Value, json};

use crate::support::{Running, Scripted, lending, listen};

/// Gives a text its length and its kind as a vector.
#[derive(Debug)]
struct Lengths;

#[async_trait]
impl Embedder for Lengths {
    fn model(&self) -> &str {
        "lengths"
    }

    fn dimensions(&self) -> usize {
        2
    }

    async fn embed(
        &self,
        _: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        if texts.iter().any(|text| &**text == "refuse me") {
            Err(ChatError::Rejected {
                status: 400,
                message: "no".into(),
            })?;
        }
        let side = if kind == EmbedKind::Query { 1.0 } else { 0.0 };
        let mut vectors: Vec<lyceum_core::Vector> = texts
            .iter()
            .map(|text| [text.len() as f32, side].into())
            .collect();
        if texts.iter().any(|text| &**text == "lose one") {
            vectors.pop();
        }
        Ok(Embeddings {
            vectors,
            usage: Usage {
                input: Tokens(texts.len() as u64),
                ..Usage::default()
            },
        })
    }
}

async fn server() -> Running {
    let catalog = Catalog::default().with_embedder(Arc::new(Lengths));
    let config = GatewayConfig::default();
    let gateway = lending(catalog, Scripted::thorough(), &config, Health::default());
    listen(gateway, ServerConfig::default()).await
}

async fn ask(server: &Running, body: Value) -> (u16, Value) {
    let reply = server.post("/v1/embeddings", body.to_string()).await;
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

#[tokio::test]
async fn vectors_come_in_the_order_of_their_texts() {
    let server = server().await;
    let (status, answer) = ask(
        &server,
        json!({"model": "lengths", "input": ["a", "bcd"], "user": "u"}),
    )
    .await;
    let vector =
        |at, numbers: [f32; 2]| json!({"object": "embedding", "index": at, "embedding": numbers});
    assert_eq!(status, 200, "{answer}");
    let expected = json!({
        "object": "list",
        "data": [vector(0, [1.0, 0.0]), vector(1, [3.0, 0.0])],
        "model": "lengths",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    });
    assert_eq!(answer, expected);
    let body = json!({"model": "lengths", "input": "ab", "input_type": "query",
        "encoding_format": "base64", "dimensions": 2});
    let (_, answer) = ask(&server, body).await;
    // 2.0 and 1.0 as little-endian numbers of 32 bits.
    assert_eq!(answer["data"][0]["embedding"], "AAAAQAAAgD8=");
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_with_the_field() {
    let server = server().await;
    let many = vec!["x"; 2_049];
    for (input, more, param) in [
        (json!([1, 2, 3]), json!({}), "input"),
        (json!([[1], [2]]), json!({}), "input"),
        (json!(many), json!({}), "input"),
        (json!([]), json!({}), "input"),
        (json!({}), json!({}), "input"),
        (json!(""), json!({}), "input[0]"),
        (json!("x"), json!({"dimensions": 1}), "dimensions"),
        (
            json!("x"),
            json!({"encoding_format": "int8"}),
            "encoding_format",
        ),
        (json!("x"), json!({"model": "feynman"}), "model"),
    ] {
        let mut body = json!({"model": "lengths", "input": input});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let (status, answer) = ask(&server, body).await;
        assert_eq!(
            (status, &answer["error"]["param"]),
            (400, &json!(param)),
            "{answer}"
        );
    }
    let (status, answer) = ask(&server, json!({"model": "nothing", "input": "x"})).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("model_not_found"))
    );
}

#[tokio::test]
async fn an_embedder_that_fails_is_told_as_what_it_is() {
    let server = server().await;
    let (status, answer) = ask(&server, json!({"model": "lengths", "input": "refuse me"})).await;
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = ask(&server, json!({"model": "lengths", "input": "lose one"})).await;
    assert_eq!((status, &answer["error"]["code"]), (502, &json!("count")));
}
