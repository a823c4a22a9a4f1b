//! The student with a tool of another program, which it speaks the Model Context Protocol with.
//!
//! ```console
//! cargo run -p lyceum-examples --example mcp_student
//! ```
//!
//! The other program is this one, started again as a server that offers Lyceum's student and a
//! calculator. The model is a script: it checks the learner's sum with the calculator, and finds
//! the gap that the result shows.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use lyceum_agents::{
    Feynman, FeynmanConfig, Mind,
    panel::{Panel, PanelConfig, Seats},
};
use lyceum_core::{
    CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, Explanation, FinishReason, Role,
    Scope, SessionId, Student, TeachEvent, Tool, ToolCallDelta,
};
use lyceum_mcp::{ProcessConfig, Reach, Served, ServerConfig, ServerLimits, Servers};
use lyceum_memory::{InMemory, Memory, MemoryConfig};
use lyceum_tools::Calculator;
use serde_json::json;
use tokio_util::sync::CancellationToken;

fn student(mind: Mind, tools: Vec<Arc<dyn Tool>>) -> anyhow::Result<Arc<Feynman>> {
    let store = Arc::new(InMemory::default());
    let memory = Memory::new(store.clone(), store.clone(), store, MemoryConfig::default());
    let student = Feynman::new(mind, tools, memory, FeynmanConfig::default())?;
    Ok(Arc::new(student))
}

/// Speaks the protocol over standard input and output until the other side leaves.
async fn serve() -> anyhow::Result<()> {
    let student = student(Mind::Offline, Vec::new())?;
    let panel = Panel::new(Seats::all(&Mind::Offline), PanelConfig::default())?;
    let calculator: Vec<Arc<dyn Tool>> = vec![Arc::new(Calculator::default())];
    let served = Served::new(
        student.clone(),
        student,
        Arc::new(panel),
        Arc::new(calculator),
    );
    let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
    served.over(input, output, CancellationToken::new()).await?;
    Ok(())
}

/// Calculates first; then says what the explanation lacks, and asks.
#[derive(Debug)]
struct Scripted;

impl ChatModel for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let has_result = request.messages.iter().any(|it| it.role == Role::Tool);
        let said = match (call.purpose, has_result) {
            ("gaps", false) => ChatEvent::ToolCall(ToolCallDelta {
                index: 0,
                id: Some("call-1".to_owned()),
                name: Some("sums__calculate".to_owned()),
                arguments: json!({"expression": "1.05^2"}).to_string(),
                ..ToolCallDelta::default()
            }),
            ("gaps", true) => {
                let gap = json!({
                    "kind": "missing_step", "quote": "ten percent", "reason": "the tool says 1.1025",
                    "severity": "high",
                });
                ChatEvent::Text(json!({"gaps": [gap]}).to_string())
            }
            _ => ChatEvent::Text(
                "You say \"ten percent\": how do you get there from two years of five?".to_owned(),
            ),
        };
        let finish = match &said {
            ChatEvent::ToolCall(_) => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        };
        Box::pin(stream::iter([Ok(said), Ok(ChatEvent::Finished(finish))]))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    let server = ServerConfig {
        name: "sums".parse()?,
        reach: Reach::Process(ProcessConfig::new(
            env::current_exe()?.display().to_string(),
            vec!["serve".to_owned()],
            Vec::new(), // it inherits no variables
        )?),
        allow: Some(["calculate".to_owned()].into()), // not the student that it offers too
        limits: ServerLimits::default(),
    };
    let servers = Servers::start(vec![server], |tool| tool)?;
    servers.settled(Duration::from_secs(30)).await;
    anyhow::ensure!(servers.servers()[0].status().up, "the server did not start");

    let student = student(Mind::Model(Arc::new(Scripted)), servers.tools())?;
    let explanation = Explanation {
        topic: "compound interest".to_owned(),
        text: "At five percent a year you have ten percent more after two years.".to_owned(),
        session: SessionId::random(),
        short_term_memory: Vec::new(),
        tone: None,
    };
    let mut events = student.teach(CallContext::new(Scope::local()), explanation);
    while let Some(event) = events.next().await {
        if let TeachEvent::Finished(lesson) = event? {
            let trace = &lesson.tools[0];
            println!("{} {} -> {}", trace.tool, trace.arguments, trace.result);
            println!("{}", lesson.questions[0]);
            assert!(trace.result.contains("1.1025"));
            assert_eq!(lesson.gaps[0].quote, "ten percent");
        }
    }
    servers.close().await;
    Ok(())
}
