//! The graphs that clients of the LangGraph API find: the student, a small agent without a
//! model to try a client with, and, where that is configured, further samples.
//!
//! Invariant: a sample answers the same every time. Deliberately absent: graphs of users.

mod agent;
mod classic;
mod streaming;

use std::sync::Arc;

use anyhow::Result;
use futures_util::StreamExt as _;
use lyceum_core::{CallContext, Explanation, SessionId, Student, TeachEvent};
use lyceum_gateway::langgraph::{Invocation, Messages, Served, add_messages, text};
use lyceum_graph::{Context, END, GraphBuilder, NodeError, START, State};
use serde_json::{Value, json};

use crate::config::Samples;

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

/// All graphs.
///
/// # Errors
///
/// When one does not compile.
pub(crate) fn all(student: Arc<dyn Student>, samples: Samples) -> Result<Vec<Served>> {
    let mut all = vec![feynman(student)?];
    all.extend(match samples {
        Samples::Off => vec![agent::agent()?],
        Samples::Classic => classic::all()?,
        Samples::Streaming => streaming::all()?,
    });
    Ok(all)
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
