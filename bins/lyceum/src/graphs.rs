//! The graphs that clients of the LangGraph API find: the student, and a small agent without
//! a model to try a client with.
//!
//! Invariant: `agent` answers the same every time. Deliberately absent: graphs of users.

use std::sync::Arc;

use anyhow::Result;
use futures_util::StreamExt as _;
use lyceum_core::{CallContext, Explanation, SessionId, Student, TeachEvent};
use lyceum_gateway::langgraph::{Invocation, Messages, Served, add_messages, text};
use lyceum_graph::{Context, END, GraphBuilder, NodeError, START, State};
use serde_json::{Value, json};

type Ctx = Context<Invocation, Value>;

/// What a conversation with the student holds.
#[derive(State, Clone, Debug, Default)]
struct Lesson {
    #[state(fold = add_messages)]
    messages: Messages,
    topic: Option<String>,
    gaps: Value,
    questions: Vec<String>,
}

/// What the small agent holds.
#[derive(State, Clone, Debug, Default)]
struct Agent {
    #[state(fold = add_messages)]
    messages: Messages,
    interrupt: bool,
    sleep: Option<f64>,
}

/// All graphs.
///
/// # Errors
///
/// When one does not compile.
pub(crate) fn all(student: Arc<dyn Student>) -> Result<Vec<Served>> {
    Ok(vec![feynman(student)?, agent()?])
}

fn feynman(student: Arc<dyn Student>) -> Result<Served> {
    let graph = GraphBuilder::<Lesson, Invocation, Value>::new()
        .node("student", move |lesson: Arc<Lesson>, ctx: Ctx| {
            listen(student.clone(), lesson, ctx)
        })
        .edge(START, "student")
        .edge("student", END)
        .compile()?;
    Ok(Served::new("feynman", graph))
}

async fn listen(
    student: Arc<dyn Student>,
    lesson: Arc<Lesson>,
    ctx: Ctx,
) -> Result<LessonUpdate, NodeError> {
    let said = lesson.messages.last_text().to_owned();
    let session = SessionId::new(&ctx.shared().thread_id).map_err(NodeError::permanent)?;
    let first = lesson.messages.0.first().and_then(text).unwrap_or_default();
    let topic = lesson.topic.clone();
    let topic = topic.unwrap_or_else(|| first.chars().take(80).collect());
    let explanation = Explanation {
        topic,
        text: said,
        session,
        short_term_memory: Vec::new(),
        tone: None,
    };
    let call = CallContext::new(ctx.shared().scope.clone());
    let mut events = student.teach(call, explanation);
    let mut message = ctx.message("questions");
    let mut answer = String::new();
    while let Some(event) = events.next().await {
        match event.map_err(|error| match error.is_retryable() {
            true => NodeError::transient(error),
            false => NodeError::permanent(error),
        })? {
            TeachEvent::Text(piece) => {
                answer.push_str(&piece);
                message.send(piece.into()).await;
            }
            TeachEvent::Node(node) => ctx.emit(json!({ "node": node })).await,
            TeachEvent::Finished(lesson) => {
                if answer.is_empty() {
                    answer = lesson.questions.join("\n");
                }
                let messages = Messages::ai(message.id(), &answer);
                return Ok(LessonUpdate::new()
                    .messages(messages)
                    .gaps(json!(lesson.gaps))
                    .questions(lesson.questions));
            }
            _ => {}
        }
    }
    Err(NodeError::transient("the student ended without a result"))
}

/// `agent` says "begin", calls a tool, and says "end".
fn agent() -> Result<Served> {
    let graph = GraphBuilder::<Agent, Invocation, Value>::new()
        .node("agent", speak)
        .node("tool", async |agent: Arc<Agent>, _: Ctx| {
            let said = format!("tool_call__{}", agent.messages.last_text());
            Ok(AgentUpdate::new().messages(Messages::tool(&said, "tool_call_id")))
        })
        .edge(START, "agent")
        .route("agent", ["tool", END], |agent: &Agent| {
            if agent.messages.last_text() == "end" {
                END
            } else {
                "tool"
            }
        })
        .edge("tool", "agent")
        .compile()?;
    Ok(Served::new("agent", graph))
}

async fn speak(agent: Arc<Agent>, ctx: Ctx) -> Result<AgentUpdate, NodeError> {
    if agent.interrupt {
        let _answer: Value = ctx.interrupt("ask", "i want to interrupt").await?;
    }
    let last = agent.messages.0.last();
    let kind = last
        .and_then(|last| last.get("type"))
        .and_then(Value::as_str);
    if let (Some(seconds), Some("human")) = (agent.sleep, kind) {
        let pause = std::time::Duration::try_from_secs_f64(seconds);
        tokio::time::sleep(pause.map_err(NodeError::permanent)?).await;
    }
    let words = if kind == Some("tool") { "end" } else { "begin" };
    let mut message = ctx.message("answer");
    for letter in words.chars() {
        message.send(letter.to_string().into()).await;
    }
    Ok(AgentUpdate::new()
        .messages(Messages::ai(message.id(), words))
        .interrupt(false))
}
