//! Anthropic's messages where a provider's events come in an unusual order.

use std::sync::Arc;

use futures_util::stream;
use lyceum_core::{
    CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason, ToolCallDelta,
};
use lyceum_gateway::{Catalog, GatewayConfig, ServerConfig};
use lyceum_observe::Health;
use serde_json::{Value, json};

use crate::support::{Scripted, lending, listen};

/// A model that says the same each time.
#[derive(Debug)]
struct Fixed(Vec<ChatEvent>);

impl ChatModel for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }

    fn stream(&self, _: CallContext, _: Arc<ChatRequest>) -> ChatStream {
        Box::pin(stream::iter(self.0.clone().into_iter().map(Ok)))
    }
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

/// The blocks of a streamed message: how each starts, with all that its deltas add.
/// Fails where a block is grown that is not the open one.
async fn blocks(mut events: Vec<ChatEvent>) -> Vec<(Value, String)> {
    events.push(ChatEvent::Finished(FinishReason::ToolCalls));
    let catalog = Catalog::default().with_model("m", "test", Arc::new(Fixed(events)));
    let student = Scripted::thorough();
    let gateway = lending(
        catalog,
        student,
        &GatewayConfig::default(),
        Health::default(),
    );
    let server = listen(gateway, ServerConfig::default()).await;
    let body = json!({"model": "m", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "hello"}]});
    let reply = server.post("/v1/messages", body.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let (mut blocks, mut open) = (Vec::<(Value, String)>::new(), None);
    let mut last = Value::Null;
    for line in reply.body.lines() {
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let event: Value = serde_json::from_str(data).unwrap();
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!((open, index), (None, Some(blocks.len() as u64)), "{event}");
                open = index;
                blocks.push((event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(open, index, "{event}");
                let delta = &event["delta"];
                let text = delta["partial_json"].as_str().or(delta["text"].as_str());
                blocks.last_mut().unwrap().1.push_str(text.unwrap());
            }
            "content_block_stop" => assert_eq!(open.take(), index, "{event}"),
            kind => last = kind.into(),
        }
    }
    assert_eq!((open, last), (None, json!("message_stop")));
    blocks
}

fn tool(index: u32, arguments: &str) -> (Value, String) {
    let start = json!({"type": "tool_use", "id": format!("call-{index}"),
        "name": format!("tool-{index}"), "input": {}});
    (start, arguments.to_owned())
}

#[tokio::test]
async fn interleaved_tool_calls_are_blocks_one_behind_the_other() {
    let events = vec![
        piece(0, true, ""),
        piece(1, true, ""),
        piece(2, true, "{"),
        piece(0, false, r#"{"a":"#),
        piece(1, false, r#"{"b""#),
        piece(0, false, "1}"),
        ChatEvent::Text("Both.".into()),
        piece(2, false, "}"),
        piece(1, false, ":2}"),
        piece(0, false, " "),
    ];
    let text = (json!({"type": "text", "text": ""}), "Both.".to_owned());
    let found = blocks(events).await;
    assert_eq!(found.len(), 4, "{found:?}");
    let wanted = [
        tool(0, r#"{"a":1} "#),
        tool(1, r#"{"b":2}"#),
        tool(2, "{}"),
        text,
    ];
    for block in wanted {
        assert!(found.contains(&block), "{block:?} in {found:?}");
    }
}

#[tokio::test]
async fn tool_calls_in_order_keep_their_order_with_text_between() {
    let events = vec![
        ChatEvent::Text("First".into()),
        piece(0, true, r#"{"a":"#),
        piece(0, false, "1}"),
        ChatEvent::Text("then".into()),
        piece(1, true, "{}"),
        // A complete call takes no more.
        piece(0, false, "\n"),
        piece(2, true, ""),
    ];
    let text = |text: &str| (json!({"type": "text", "text": ""}), text.to_owned());
    let wanted = [
        text("First"),
        tool(0, r#"{"a":1}"#),
        text("then"),
        tool(1, "{}"),
        tool(2, ""),
    ];
    assert_eq!(blocks(events).await, wanted);
}
