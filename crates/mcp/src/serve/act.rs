//! What a call of a tool does.

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, Discussion, Explanation, Lesson, PanelEvent, Paper, SessionId, TeachError,
    TeachEvent, Tone, ToolOutput,
};
use rmcp::{
    ErrorData,
    model::{CallToolRequestParams, CallToolResult, ContentBlock},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Served,
    offer::{DISCUSS, EXAM, KNOWLEDGE, NOTES, REVIEW, TEACH, TEACH_BACK},
};

/// The longest topic and the longest other text of one argument, in bytes: what is longer could
/// not be kept.
const MAX_TOPIC: usize = 800;
const MAX_TEXT: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Teach {
    topic: String,
    explanation: String,
    session: Option<SessionId>,
    tone: Option<Tone>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfLesson {
    session: SessionId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TeachBack {
    session: SessionId,
    tone: Option<Tone>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exam {
    session: SessionId,
    question: String,
    tone: Option<Tone>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discuss {
    topic: String,
    text: String,
    rounds: Option<u32>,
}

/// Why a call gives no result.
enum Refusal {
    /// The arguments are wrong, in words for the client's model.
    Arguments(String),
    /// The caller has no such lesson.
    NoLesson,
    Failed(TeachError),
}

impl From<TeachError> for Refusal {
    fn from(error: TeachError) -> Self {
        Self::Failed(error)
    }
}

/// Calls a tool. What a model can set right is a result that says so.
pub(super) async fn call(
    served: &Served,
    call: CallContext,
    asked: CallToolRequestParams,
) -> Result<CallToolResult, ErrorData> {
    let given = Value::Object(asked.arguments.unwrap_or_default());
    let name: &str = &asked.name;
    let result = match name {
        TEACH => teach(served, call, given).await,
        KNOWLEDGE => knowledge(served, call, given).await,
        EXAM => exam(served, call, given).await,
        TEACH_BACK => teach_back(served, call, given).await,
        REVIEW => review(served, call, given).await,
        NOTES => notes(served, call, given).await,
        DISCUSS => discuss(served, call, given).await,
        _ => {
            let others = served.others();
            let Some(tool) = others.iter().find(|tool| tool.spec().name == name) else {
                return Err(ErrorData::invalid_params("there is no such tool", None));
            };
            return Ok(match tool.call(&call, given).await {
                Ok(output) => CallToolResult::success(vec![ContentBlock::text(words(output))]),
                Err(error) => failure(error.to_string()),
            });
        }
    };
    Ok(result.unwrap_or_else(|refusal| match refusal {
        Refusal::Arguments(what) => failure(what),
        Refusal::NoLesson => failure("you have no such lesson".to_owned()),
        Refusal::Failed(error) => {
            tracing::warn!(error = %error, label = error.label(), tool = name, "a call failed");
            let again = match error.is_retryable() {
                true => "; try again later",
                false => "",
            };
            failure(format!("the call failed ({}){again}", error.label()))
        }
    }))
}

fn failure(words: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(words)])
}

fn words(output: ToolOutput) -> String {
    let mut text = output.content;
    if output.degraded {
        text.insert_str(0, "(An older or a default result.)\n");
    }
    if !output.sources.is_empty() {
        text.push_str("\nsources: ");
        text.push_str(&output.sources.join(" "));
    }
    text
}

fn read<T: DeserializeOwned>(given: Value) -> Result<T, Refusal> {
    serde_json::from_value(given).map_err(|error| Refusal::Arguments(error.to_string()))
}

fn checked(name: &str, text: &str) -> Result<(), Refusal> {
    let most = match name {
        "topic" => MAX_TOPIC,
        _ => MAX_TEXT,
    };
    if text.trim().is_empty() {
        return Err(Refusal::Arguments(format!(
            "{name} is empty: say something"
        )));
    }
    if text.len() > most {
        return Err(Refusal::Arguments(format!(
            "{name} has {} bytes: at most {most} are allowed",
            text.len()
        )));
    }
    Ok(())
}

/// Words for a model, and the same as data.
fn told(text: String, data: Value) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(data);
    result
}

async fn teach(
    served: &Served,
    call: CallContext,
    given: Value,
) -> Result<CallToolResult, Refusal> {
    let Teach {
        topic,
        explanation,
        session,
        tone,
    } = read(given)?;
    checked("topic", &topic)?;
    checked("explanation", &explanation)?;
    let explanation = Explanation {
        topic,
        text: explanation,
        session: session.unwrap_or_else(SessionId::random),
        short_term_memory: Vec::new(),
        tone,
    };
    let mut events = served.student.teach(call, explanation);
    while let Some(event) = events.next().await {
        if let TeachEvent::Finished(lesson) = event? {
            return Ok(lesson_told(&lesson));
        }
    }
    Err(Refusal::Failed(TeachError::Workflow {
        source: "the lesson did not end".into(),
    }))
}

fn lesson_told(lesson: &Lesson) -> CallToolResult {
    let questions = lesson.questions.iter().enumerate();
    let mut text: String = questions
        .map(|(at, question)| format!("{}. {question}\n", at + 1))
        .collect();
    text.push_str(&format!("session: {}", lesson.session));
    if !lesson.degraded.is_empty() {
        text.push_str(&format!(
            "\nmissing while answering: {}",
            lesson.degraded.join(", ")
        ));
    }
    let data = json!({
        "session": lesson.session,
        "questions": lesson.questions,
        "gaps": lesson.gaps,
        "provider": lesson.provider,
        "degraded": lesson.degraded,
    });
    told(text, data)
}

async fn knowledge(
    served: &Served,
    call: CallContext,
    given: Value,
) -> Result<CallToolResult, Refusal> {
    let OfLesson { session } = read(given)?;
    let known = served
        .pupil
        .knowledge(call.clone(), session.clone())
        .await?;
    let known = known.ok_or(Refusal::NoLesson)?;
    let text = served.pupil.paper(call, session, Paper::Knowledge).await?;
    Ok(told(text.ok_or(Refusal::NoLesson)?, json!(known)))
}

async fn exam(served: &Served, call: CallContext, given: Value) -> Result<CallToolResult, Refusal> {
    let Exam {
        session,
        question,
        tone,
    } = read(given)?;
    checked("question", &question)?;
    let answer = served.pupil.exam(call, session, question, tone).await?;
    let answer = answer.ok_or(Refusal::NoLesson)?;
    let data = json!({
        "verdict": answer.verdict,
        "claims": answer.claims,
        "not_taught": answer.not_taught,
    });
    Ok(told(answer.text, data))
}

async fn teach_back(
    served: &Served,
    call: CallContext,
    given: Value,
) -> Result<CallToolResult, Refusal> {
    let TeachBack { session, tone } = read(given)?;
    let said = served.pupil.teach_back(call, session, tone).await?;
    let said = said.ok_or(Refusal::NoLesson)?;
    let holes: Vec<Value> = said
        .holes
        .iter()
        .map(|hole| json!({"gap": hole.gap, "kind": hole.kind, "quote": hole.quote, "reason": hole.reason}))
        .collect();
    let data = json!({"claims": said.claims, "holes": holes});
    Ok(told(said.text, data))
}

async fn review(
    served: &Served,
    call: CallContext,
    given: Value,
) -> Result<CallToolResult, Refusal> {
    let OfLesson { session } = read(given)?;
    let items = served.pupil.review(call, session).await?;
    let items = items.ok_or(Refusal::NoLesson)?;
    let list: Vec<Value> = items
        .iter()
        .map(|item| {
            json!({
                "concept": item.concept, "name": item.name, "mastery": item.mastery,
                "is_due": item.is_due, "due_at_ms": item.review.due_at_ms, "task": item.task,
            })
        })
        .collect();
    let tasks: Vec<&str> = items.iter().map(|item| item.task.as_str()).collect();
    Ok(told(tasks.join("\n"), json!({"items": list})))
}

async fn notes(
    served: &Served,
    call: CallContext,
    given: Value,
) -> Result<CallToolResult, Refusal> {
    let OfLesson { session } = read(given)?;
    let notes = served.pupil.paper(call, session, Paper::Notes).await?;
    let notes = notes.ok_or(Refusal::NoLesson)?;
    Ok(CallToolResult::success(vec![ContentBlock::text(notes)]))
}

async fn discuss(
    served: &Served,
    call: CallContext,
    given: Value,
) -> Result<CallToolResult, Refusal> {
    let Discuss {
        topic,
        text,
        rounds,
    } = read(given)?;
    checked("topic", &topic)?;
    checked("text", &text)?;
    let discussion = Discussion {
        topic,
        text,
        session: SessionId::random(),
        rounds,
    };
    let mut events = served.panel.discuss(call, discussion);
    while let Some(event) = events.next().await {
        if let PanelEvent::Finished(report) = event? {
            let data = json!({
                "consensus": report.consensus, "dissent": report.dissent, "rounds": report.rounds,
                "turns": report.turns, "provider": report.provider, "degraded": report.degraded,
            });
            return Ok(told(report.report, data));
        }
    }
    Err(Refusal::Failed(TeachError::Workflow {
        source: "the discussion did not end".into(),
    }))
}
