//! The ReAct loop: a model asks for a tool, reads its result, and answers.
//!
//! ```console
//! cargo run -p lyceum-examples --example react
//! ```
//!
//! The model is a script, to show what the loop asks of any `ChatModel`; the calculator is real.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use lyceum_agents::{ReAct, ReActEvent, ReActLimits, Watch};
use lyceum_core::{
    CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason, Message, Role, Scope,
    ToolCallDelta,
};
use lyceum_tools::{Calculator, Limited, ToolPolicy};
use serde_json::json;

/// Calculates first and answers once there is a result.
#[derive(Debug)]
struct Scripted;

impl ChatModel for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn stream(&self, _: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let events = match request.messages.last() {
            Some(last) if last.role == Role::Tool => {
                vec![
                    ChatEvent::Text(format!("The calculator says: {}", last.content.text())),
                    ChatEvent::Finished(FinishReason::Stop),
                ]
            }
            _ => {
                let tool = request.tools.first().map(|tool| tool.name.clone());
                vec![
                    ChatEvent::ToolCall(ToolCallDelta {
                        index: 0,
                        id: Some("call-1".to_owned()),
                        name: tool,
                        arguments: json!({"expression": "90 km/h to m/s"}).to_string(),
                        ..ToolCallDelta::default()
                    }),
                    ChatEvent::Finished(FinishReason::ToolCalls),
                ]
            }
        };
        Box::pin(stream::iter(events.into_iter().map(Ok)))
    }
}

/// Whoever watches the loop sees it in time order.
struct Printer;

#[async_trait]
impl Watch for Printer {
    async fn saw(&self, event: ReActEvent) {
        match event {
            ReActEvent::Tool(trace) => println!(
                "tool {} {} -> {}",
                trace.tool, trace.arguments, trace.result
            ),
            ReActEvent::Text(text) => println!("text {text}"),
            ReActEvent::Queued(place) => println!("number {} in line", place.position),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let calculator = Limited::new(Arc::new(Calculator::default()), ToolPolicy::default());
    let limits = ReActLimits {
        max_steps: 3,
        ..ReActLimits::default()
    };
    let agent = ReAct::new(Arc::new(Scripted), vec![Arc::new(calculator)], limits);

    let question = vec![Message::user("How many metres a second are 90 km/h?")];
    let outcome = agent
        .run(&CallContext::new(Scope::local()), question, &Printer)
        .await?;
    assert!(
        outcome
            .tools
            .iter()
            .all(|trace| trace.ok && trace.result == "25 m / s")
    );
    assert_eq!(outcome.tools.len(), 1);
    assert!(outcome.answer.text.contains("25 m / s"));
    Ok(())
}
