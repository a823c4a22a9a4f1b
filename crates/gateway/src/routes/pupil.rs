//! What the student knows of a conversation: `/sessions/{id}/...`.
//!
//! Invariant: a conversation is looked up in the caller's own scope, so one of somebody
//! else is not found, and nothing tells it from one that never was.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Query, Request, State},
    response::Response,
};
use http::{HeaderValue, header};
use lyceum_core::{Paper, Pupil, SessionId, Tone};
use serde::Deserialize;

use super::student::{Who, call, json};
use crate::{
    body,
    dto::{
        ErrorOutput, ExamInput, ExamOutput, KnowledgeOutput, ReviewOutput, TeachBackInput,
        TeachBackOutput, refusals,
    },
    error::ApiError,
    gateway::{App, Shared},
};

const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// The form of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Markdown,
}

/// How an answer is to be written.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Written {
    /// `json` (default) or `markdown`.
    #[serde(default)]
    #[param(inline, required = false)]
    format: Format,
}

/// What was taught, as a map: nodes, edges, and how well each concept was explained.
#[utoipa::path(
    get,
    path = "/sessions/{id}/knowledge",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME"), Written),
    responses(
        (status = 200, description = "The map, or the same as Markdown", content(
            (KnowledgeOutput = "application/json"),
            (String = "text/markdown"),
        )),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn knowledge(
    State(app): State<Shared>,
    who: Who,
    Path(id): Path<String>,
    written: Result<Query<Written>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(written) = written.map_err(|_| ApiError::Invalid {
        path: "format".to_owned(),
        detail: "it is json or markdown".to_owned(),
    })?;
    let (session, pupil) = (session(id)?, find(&app)?);
    let call = call(who, Some(&session), app.limits.request);
    if written.format == Format::Markdown {
        let text = pupil.paper(call, session, Paper::Knowledge).await;
        return markdown(found(text)?);
    }
    let known = found(pupil.knowledge(call, session.clone()).await)?;
    json(&KnowledgeOutput::new(session.into(), known))
}

/// What to explain again, and when.
#[utoipa::path(
    get,
    path = "/sessions/{id}/review",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME")),
    responses(
        (status = 200, description = "The concepts, most urgent first", body = ReviewOutput),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn review(
    State(app): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (session, pupil) = (session(id)?, find(&app)?);
    let call = call(who, Some(&session), app.limits.request);
    let items = found(pupil.review(call, session.clone()).await)?;
    json(&ReviewOutput::new(session.into(), items))
}

/// Notes of the conversation: summary, what was taught, open questions, what to explain again.
#[utoipa::path(
    get,
    path = "/sessions/{id}/notes",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME")),
    responses(
        (status = 200, description = "The notes", content_type = "text/markdown", body = String),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn notes(
    State(app): State<Shared>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (session, pupil) = (session(id)?, find(&app)?);
    let call = call(who, Some(&session), app.limits.request);
    markdown(found(pupil.paper(call, session, Paper::Notes).await)?)
}

/// Have the student explain the topic with nothing but what it was taught.
#[utoipa::path(
    post,
    path = "/sessions/{id}/teach-back",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME")),
    request_body(content = TeachBackInput, example = json!({ "tone": "curious_child" })),
    responses(
        (status = 200, description = "The topic as the student understood it", body = TeachBackOutput),
        (status = 400, description = "The body is no JSON", body = ErrorOutput),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 413, description = "The body is too large", body = ErrorOutput),
        (status = 415, description = "The body is not declared as JSON", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        (status = 502, description = "The model provider failed", body = ErrorOutput),
        (status = 504, description = "The model did not answer in time", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn teach_back(
    State(app): State<Shared>,
    who: Who,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (session, pupil) = (session(id)?, find(&app)?);
    let input: TeachBackInput = body::object(request, &app.limits).await?;
    let call = call(who, Some(&session), app.limits.request);
    let tone = input.tone.map(Tone::from);
    let told = found(pupil.teach_back(call, session, tone).await)?;
    json(&TeachBackOutput::from(told))
}

/// Examine the student: it answers from what it was taught, else says what it was not.
#[utoipa::path(
    post,
    path = "/sessions/{id}/exam",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME")),
    request_body(content = ExamInput, example = json!({ "question": "What is chlorophyll?" })),
    responses(
        (status = 200, description = "The answer", body = ExamOutput),
        (status = 400, description = "The body is no JSON", body = ErrorOutput),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 413, description = "The body is too large", body = ErrorOutput),
        (status = 415, description = "The body is not declared as JSON", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        (status = 502, description = "The model provider failed", body = ErrorOutput),
        (status = 504, description = "The model did not answer in time", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn exam(
    State(app): State<Shared>,
    who: Who,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (session, pupil) = (session(id)?, find(&app)?);
    let input: ExamInput = body::object(request, &app.limits).await?;
    let (question, tone) = input.check()?;
    let call = call(who, Some(&session), app.limits.request);
    let answer = found(pupil.exam(call, session, question, tone).await)?;
    json(&ExamOutput::from(answer))
}

/// Have a gap never be asked about again.
#[utoipa::path(
    post,
    path = "/sessions/{id}/gaps/{gap}/dismiss",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME"), ("gap" = u32, Path, description = "The number of the gap's node")),
    responses(
        (status = 200, description = "The map as it is now", body = KnowledgeOutput),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn dismiss(
    State(app): State<Shared>,
    who: Who,
    Path((id, gap)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (session, pupil) = (session(id)?, find(&app)?);
    let gap = gap.parse().map_err(|_| ApiError::NotFound)?;
    let call = call(who, Some(&session), app.limits.request);
    let known = found(pupil.dismiss(call, session.clone(), gap).await)?;
    json(&KnowledgeOutput::new(session.into(), known))
}

fn find(app: &App) -> Result<Arc<dyn Pupil>, ApiError> {
    app.pupil.get().cloned().ok_or(ApiError::NotFound)
}

fn session(id: String) -> Result<SessionId, ApiError> {
    SessionId::new(id).map_err(|error| ApiError::Invalid {
        path: "id".to_owned(),
        detail: error.to_string(),
    })
}

fn found<T>(answer: Result<Option<T>, lyceum_core::TeachError>) -> Result<T, ApiError> {
    answer
        .map_err(ApiError::Student)?
        .ok_or(ApiError::NoSession)
}

fn markdown(text: String) -> Result<Response, ApiError> {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MARKDOWN));
    Ok(response)
}
