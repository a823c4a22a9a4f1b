//! OpenAI's responses over a scripted model and a store in memory.

use std::sync::Arc;

use futures_util::stream;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason,
    MemoryRecords, ReasoningSeal, ToolCallDelta,
};
use lyceum_gateway::{ApiKey, AuthConfig, Catalog, GatewayConfig, KeyRules, ServerConfig};
use lyceum_observe::Health;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Running, Scripted, lending, listen, request};

/// A model that says the same each time, and breaks where it has no end.
#[derive(Debug)]
struct Fixed(Vec<ChatEvent>);

impl ChatModel for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }

    fn stream(&self, _: CallContext, _: Arc<ChatRequest>) -> ChatStream {
        let mut events: Vec<_> = self.0.iter().cloned().map(Ok).collect();
        if !matches!(self.0.last(), Some(ChatEvent::Finished(_))) {
            events.push(Err(ChatError::Truncated));
        }
        Box::pin(stream::iter(events))
    }
}

async fn server(events: Vec<ChatEvent>) -> Running {
    let key = |name: &str| ApiKey {
        name: name.to_owned(),
        tenant: "school".parse().unwrap(),
        user: name.parse().unwrap(),
        sha256: Sha256::digest(name).into(),
        replaced: None,
        rules: KeyRules::default(),
    };
    let config = GatewayConfig {
        auth: AuthConfig {
            keys: vec![key("alice"), key("bob")],
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    };
    let catalog = Catalog::default().with_model("m", "test", Arc::new(Fixed(events)));
    let gateway = lending(catalog, Scripted::thorough(), &config, Health::default())
        .with_responses(Arc::new(MemoryRecords::new()));
    listen(gateway, ServerConfig::default()).await
}

async fn send(server: &Running, who: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let bearer = format!("Bearer {who}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let reply = server
        .send(request(method, path, &headers, body.as_bytes()))
        .await;
    (reply.status, reply.body)
}

/// The events of a stream, whose numbers have no gaps.
async fn events(said: Vec<ChatEvent>) -> Vec<Value> {
    let server = server(said).await;
    let body = json!({"model": "m", "input": "hello", "stream": true}).to_string();
    let (status, body) = send(&server, "alice", "POST", "/v1/responses", &body).await;
    assert_eq!(status, 200, "{body}");
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], at, "{event}");
    }
    events
}

fn piece(index: u32, first: bool, arguments: &str) -> ChatEvent {
    ChatEvent::ToolCall(ToolCallDelta {
        index,
        id: first.then(|| format!("call-{index}")),
        name: first.then(|| format!("tool-{index}")),
        arguments: arguments.to_owned(),
        ..ToolCallDelta::default()
    })
}

#[tokio::test]
async fn calls_that_a_provider_interleaves_are_whole_and_done_once() {
    let events = events(vec![
        ChatEvent::Reasoning("hm".into()),
        ChatEvent::ReasoningEnd(ReasoningSeal::Signature("s".into())),
        piece(0, true, "{\"a\""),
        piece(1, true, "{\"b\""),
        piece(0, false, ":1}"),
        piece(1, false, ":2}"),
        ChatEvent::Finished(FinishReason::ToolCalls),
    ])
    .await;
    let done: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .map(|event| &event["item"])
        .collect();
    assert_eq!(done[0]["encrypted_content"], "signature:s");
    let calls: Vec<_> = done[1..]
        .iter()
        .map(|item| (item["call_id"].as_str(), item["arguments"].as_str()))
        .collect();
    let expected = [("call-0", "{\"a\":1}"), ("call-1", "{\"b\":2}")];
    assert_eq!(
        calls,
        expected.map(|(id, arguments)| (Some(id), Some(arguments)))
    );
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(json!(done), last["response"]["output"]);
}

#[tokio::test]
async fn the_end_says_how_it_went() {
    let text = || ChatEvent::Text("half".into());
    let cut = events(vec![text()]).await;
    let failed = cut.last().unwrap();
    assert_eq!(failed["type"], "response.failed", "{failed}");
    assert_eq!(failed["response"]["error"]["code"], "server_error");
    assert_eq!(failed["response"]["store"], false);
    let short = events(vec![text(), ChatEvent::Finished(FinishReason::Length)]).await;
    let incomplete = short.last().unwrap();
    assert_eq!(incomplete["type"], "response.incomplete");
    let reason = &incomplete["response"]["incomplete_details"]["reason"];
    assert_eq!(reason, "max_output_tokens");
}

#[tokio::test]
async fn a_response_reaches_only_the_user_who_made_it() {
    let said = vec![
        ChatEvent::Text("hi".into()),
        ChatEvent::Finished(FinishReason::Stop),
    ];
    let server = server(said).await;
    let ask = json!({"model": "m", "input": "hello"}).to_string();
    let (_, made) = send(&server, "alice", "POST", "/v1/responses", &ask).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/responses/{id}");
    let items = format!("{path}/input_items");
    for (who, expected) in [("bob", 404), ("alice", 200)] {
        assert_eq!(send(&server, who, "GET", &path, "").await.0, expected);
        assert_eq!(send(&server, who, "GET", &items, "").await.0, expected);
        let more = json!({"model": "m", "input": "more", "previous_response_id": id}).to_string();
        let (status, _) = send(&server, who, "POST", "/v1/responses", &more).await;
        assert_eq!(status == 200, expected == 200);
        assert_eq!(send(&server, who, "DELETE", &path, "").await.0, expected);
    }
    assert_eq!(send(&server, "alice", "GET", &path, "").await.0, 404);
}
