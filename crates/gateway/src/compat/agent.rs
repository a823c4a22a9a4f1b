//! Agents as models. The student here, the panel beside it: the last message is the explanation, the ones before it are
//! the conversation, and the answer is the student's questions.
//!
//! Deliberately absent: tools, images and sampling of the client, which an agent that has
//! its own does not take.

mod panel;

use std::sync::Arc;

use async_stream::try_stream;
use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Explanation, Extra,
    ExtraPlace, FinishReason, Lesson, ResponseFormat, Role, SessionId, Student, TeachError,
    TeachEvent, ToolChoice, Turn,
};
use serde_json::{Map, Value, json};

use crate::{
    catalog::FEYNMAN,
    compat::{Asked, invalid},
    config::Limits,
    dto::{ChatGap, convert},
    error::ApiError,
};

pub(crate) use panel::PanelModel;

/// The fields that agents add to a model's answer: what it has no place for.
pub(crate) fn fields(
    extra: &Map<String, Value>,
) -> impl Iterator<Item = (String, Value)> + use<'_> {
    let added = |name: &str| Some((name.to_owned(), extra.get(name)?.clone()));
    ["lesson", "discussion"].into_iter().filter_map(added)
}

/// Refuses what an agent would not do and whose client could not use the answer.
pub(crate) fn check(asked: &Asked, limits: &Limits) -> Result<(), ApiError> {
    let request = &asked.request;
    let wants = |name: &str| request.extra.get(name) == Some(&Value::Bool(true));
    if asked.choices > 1 {
        return Err(invalid("n", "an agent gives one answer: leave it out"));
    }
    if wants("logprobs") {
        return Err(invalid(
            "logprobs",
            "an agent has no probabilities: leave it out",
        ));
    }
    if request.response_format != ResponseFormat::Text {
        let detail = "an agent answers in its own words: leave it out";
        return Err(invalid("response_format", detail));
    }
    if matches!(
        request.tool_choice,
        ToolChoice::Required | ToolChoice::Named(_)
    ) {
        return Err(invalid(
            "tool_choice",
            "an agent calls its own tools only: leave it out",
        ));
    }
    let said = request.messages.last();
    let bytes = said.map_or(0, |message| message.content.text().len());
    let most = limits.explanation_bytes;
    if bytes > most {
        let detail = format!("the last one has {bytes} bytes: an agent hears {most} at most");
        return Err(invalid("messages", &detail));
    }
    Ok(())
}

/// The longest topic, in characters.
const TOPIC: usize = 200;

/// Teaches a student what a client says to a model.
#[derive(Debug)]
pub(crate) struct StudentModel(Arc<dyn Student>);

impl StudentModel {
    pub(crate) fn new(student: Arc<dyn Student>) -> Self {
        Self(student)
    }
}

impl ChatModel for StudentModel {
    fn name(&self) -> &str {
        FEYNMAN
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let student = Arc::clone(&self.0);
        Box::pin(try_stream! {
            let asked = asked(&call, &request)?;
            let mut lesson = student.teach(call, Explanation {
                topic: asked.topic,
                text: asked.text,
                session: asked.session,
                short_term_memory: asked.before,
                tone: None,
            });
            let mut spoke = false;
            while let Some(event) = lesson.next().await {
                match event.map_err(failure)? {
                    TeachEvent::Queued(place) => yield ChatEvent::Queued(place),
                    TeachEvent::Text(text) => {
                        spoke |= !text.is_empty();
                        yield ChatEvent::Text(text);
                    }
                    TeachEvent::Finished(lesson) => {
                        if !spoke {
                            yield ChatEvent::Text(lesson.questions.join("\n"));
                        }
                        yield ChatEvent::Usage(lesson.usage);
                        yield ChatEvent::Extra(details(*lesson));
                        yield ChatEvent::Finished(FinishReason::Stop);
                        return;
                    }
                    _ => {}
                }
            }
            Err(ChatError::Truncated)?;
        })
    }
}

/// What a client says to an agent.
struct Said {
    topic: String,
    text: String,
    session: SessionId,
    before: Vec<Turn>,
}

/// The last message and the conversation before it. The topic is `metadata.topic`, else the
/// beginning of the conversation.
fn asked(call: &CallContext, request: &ChatRequest) -> Result<Said, ChatError> {
    let mut turns: Vec<Turn> = request
        .messages
        .iter()
        .filter(|message| matches!(message.role, Role::User | Role::Assistant))
        .map(|message| Turn {
            role: message.role,
            content: message.content.text(),
        })
        .filter(|turn| !turn.content.trim().is_empty())
        .collect();
    let metadata = request.extra.get("metadata");
    let topic = metadata
        .and_then(|metadata| metadata.get("topic"))
        .and_then(Value::as_str)
        .filter(|topic| !topic.trim().is_empty());
    let first = turns.first().map_or("", |turn| turn.content.trim());
    let topic = topic.unwrap_or_else(|| first.lines().next().unwrap_or_default());
    let topic = topic.chars().take(TOPIC).collect();
    match turns.pop() {
        Some(turn) if turn.role == Role::User => Ok(Said {
            topic,
            text: turn.content,
            session: call.scope.session.clone().unwrap_or_else(SessionId::random),
            before: turns,
        }),
        _ => Err(ChatError::Rejected {
            status: 400,
            message: "the last message is not the user's words".to_owned(),
        }),
    }
}

/// What a model has no place for.
fn details(lesson: Lesson) -> Extra {
    let gaps: Vec<ChatGap> = convert(lesson.gaps);
    let details = json!({
        "session_id": lesson.session.as_str(),
        "questions": lesson.questions,
        "gaps": gaps,
        "degraded": lesson.degraded,
    });
    Extra {
        place: ExtraPlace::Answer,
        fields: Map::from_iter([("lesson".to_owned(), details)]),
    }
}

fn failure(error: TeachError) -> ChatError {
    match error {
        TeachError::Model(error) => error,
        error if error.is_retryable() => ChatError::Unavailable {
            status: 503,
            retry_after: error.retry_after(),
            message: error.to_string(),
        },
        error => ChatError::Local {
            detail: error.to_string(),
        },
    }
}
