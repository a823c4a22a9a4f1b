//! What is kept of a user: `/sessions`, `/memories`, `/export`.
//!
//! Invariant: everything is looked up in the caller's own scope, so what belongs to somebody
//! else is not found, and nothing tells it from what never was.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use futures_util::TryStreamExt;
use http::{StatusCode, header};
use lyceum_core::{Archive, Moment, Notebook, SessionId};
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

use super::student::{Who, call, json};
use crate::{
    body,
    dto::{
        ErasedOutput, ErrorOutput, FoundOutput, MEMORY_BYTES, MemoriesOutput, MemoryEdit,
        MemoryOutput, MemoryQuery, QUERY_BYTES, SessionsOutput, TranscriptOutput, refusals,
    },
    error::ApiError,
    gateway::{App, Shared},
    streams::Asker,
};

/// The largest part of a list.
const MOST: usize = 200;

/// A part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// At most so many, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200, nullable = false)]
    limit: Option<usize>,
    /// Where to go on: the `next` of a list.
    #[param(
        max_length = 150,
        pattern = r"^-?[0-9]{1,18}\.[A-Za-z0-9._:@-]{1,128}$",
        nullable = false
    )]
    before: Option<String>,
}

/// A part of a conversation.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TranscriptPart {
    /// At most so many, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200, nullable = false)]
    limit: Option<usize>,
    /// Where to go on: the `next_before` of a conversation.
    #[param(minimum = 0, nullable = false)]
    before: Option<i64>,
}

/// How many of a list are wanted.
fn most(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(50) {
        limit @ 1..=MOST => Ok(limit),
        other => Err(ApiError::Invalid {
            path: "limit".to_owned(),
            detail: format!("it is {other}: 1 to {MOST} are allowed"),
        }),
    }
}

/// A part of the list of memories.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MemoryPart {
    /// At most so many, 1 to 200; default 50.
    #[param(minimum = 1, maximum = 200, nullable = false)]
    limit: Option<usize>,
    /// Where to go on: the `next` of a list.
    #[param(
        max_length = 150,
        pattern = r"^-?[0-9]{1,18}\.[A-Za-z0-9._:@-]{1,128}$",
        nullable = false
    )]
    before: Option<String>,
    /// Only what was the case at this moment, in RFC 3339; default all that is stored, or now
    /// where `known_at` is given.
    #[param(format = DateTime, nullable = false)]
    as_of: Option<String>,
    /// As far as it was known at this moment, in RFC 3339; default now.
    #[param(format = DateTime, nullable = false)]
    known_at: Option<String>,
}

/// The point on both axes of time that a request names, where it names one.
fn moment(as_of: Option<&str>, known_at: Option<&str>) -> Result<Option<Moment>, ApiError> {
    if as_of.is_none() && known_at.is_none() {
        return Ok(None);
    }
    let now = OffsetDateTime::now_utc();
    let read = |path: &str, text: Option<&str>| {
        let time = text.map_or(Ok(now), |text| OffsetDateTime::parse(text, &Rfc3339));
        let time = time.map_err(|error| ApiError::Invalid {
            path: path.to_owned(),
            detail: format!("it is no time in RFC 3339, such as 2026-01-31T12:00:00Z: {error}"),
        })?;
        Ok((time.unix_timestamp_nanos() / 1_000_000) as i64)
    };
    Ok(Some(Moment {
        valid_ms: read("as_of", as_of)?,
        known_ms: read("known_at", known_at)?,
    }))
}

fn part<P>(query: Result<Query<P>, QueryRejection>) -> Result<P, ApiError> {
    let Query(part) = query.map_err(|error| ApiError::Invalid {
        path: "query".to_owned(),
        detail: error.body_text(),
    })?;
    Ok(part)
}

fn no_cursor() -> ApiError {
    ApiError::Invalid {
        path: "before".to_owned(),
        detail: "it is no `next` of a list: leave it out to begin at the newest".to_owned(),
    }
}

fn session(id: Result<Path<String>, PathRejection>) -> Result<SessionId, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoSession)?;
    SessionId::new(id).map_err(|_| ApiError::NoSession)
}

fn archive(app: &App) -> Result<Arc<dyn Archive>, ApiError> {
    app.archive.get().cloned().ok_or(ApiError::NoPart)
}

fn notebook(app: &App) -> Result<Arc<dyn Notebook>, ApiError> {
    app.notebook.get().cloned().ok_or(ApiError::NoPart)
}

fn done(is_there: bool, missing: ApiError) -> Result<Response, ApiError> {
    match is_there {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(missing),
    }
}

/// The conversations, newest first.
#[utoipa::path(
    get,
    path = "/sessions",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(Part),
    responses(
        (status = 200, description = "A part of the list", body = SessionsOutput),
        (status = 422, description = "A parameter is wrong", body = ErrorOutput),
        refusals::Reading,
    )
)]
pub(crate) async fn sessions(
    State(app): State<Shared>,
    who: Who,
    query: Result<Query<Part>, QueryRejection>,
) -> Result<Response, ApiError> {
    let part = part(query)?;
    let scope = &who.0.0.scope;
    let archive = archive(&app)?;
    let page = archive
        .sessions(scope, part.before.as_deref(), most(part.limit)?)
        .await;
    let page = page.map_err(ApiError::Student)?;
    json(&SessionsOutput::from(page.ok_or_else(no_cursor)?))
}

/// A conversation with its last messages.
#[utoipa::path(
    get,
    path = "/sessions/{id}",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME"), TranscriptPart),
    responses(
        (status = 200, description = "The conversation", body = TranscriptOutput),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        (status = 422, description = "A parameter is wrong", body = ErrorOutput),
        refusals::Reading,
    )
)]
pub(crate) async fn transcript(
    State(app): State<Shared>,
    who: Who,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<TranscriptPart>, QueryRejection>,
) -> Result<Response, ApiError> {
    let (session, part) = (session(id)?, part(query)?);
    let before = part.before.map(u64::try_from).transpose();
    let before = before.map_err(|_| no_cursor())?;
    let scope = &who.0.0.scope;
    let found = archive(&app)?
        .transcript(scope, &session, before, most(part.limit)?)
        .await
        .map_err(ApiError::Student)?;
    json(&TranscriptOutput::from(found.ok_or(ApiError::NoSession)?))
}

/// Delete a conversation and what the student knows of it. What was remembered from it stays
/// until it is deleted under `/memories`.
#[utoipa::path(
    delete,
    path = "/sessions/{id}",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn delete_session(
    State(app): State<Shared>,
    who: Who,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let (session, archive) = (session(id)?, archive(&app)?);
    let call = call(who, Some(&session), app.limits.request);
    let gone = archive.delete(call, &session).await;
    done(gone.map_err(ApiError::Student)?, ApiError::NoSession)
}

/// Mark a conversation as completed: it is removed when it has been idle for a while. A further
/// turn opens it again.
#[utoipa::path(
    post,
    path = "/sessions/{id}/complete",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The conversation", min_length = 1, max_length = 128, pattern = "NAME")),
    responses(
        (status = 204, description = "It is completed"),
        (status = 404, description = "The caller has no such conversation", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn complete(
    State(app): State<Shared>,
    who: Who,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let (session, archive) = (session(id)?, archive(&app)?);
    let known = archive.complete(&who.0.0.scope, &session).await;
    done(known.map_err(ApiError::Student)?, ApiError::NoSession)
}

/// What is remembered across conversations, newest first.
#[utoipa::path(
    get,
    path = "/memories",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(MemoryPart),
    responses(
        (status = 200, description = "A part of the list", body = MemoriesOutput),
        (status = 422, description = "A parameter is wrong", body = ErrorOutput),
        refusals::Reading,
    )
)]
pub(crate) async fn memories(
    State(app): State<Shared>,
    who: Who,
    query: Result<Query<MemoryPart>, QueryRejection>,
) -> Result<Response, ApiError> {
    let MemoryPart {
        limit,
        before,
        as_of,
        known_at,
    } = part(query)?;
    let then = moment(as_of.as_deref(), known_at.as_deref())?;
    let scope = &who.0.0.scope;
    let page = notebook(&app)?
        .memories(scope, then, before.as_deref(), most(limit)?)
        .await;
    let page = page.map_err(ApiError::Student)?;
    json(&MemoriesOutput::from(page.ok_or_else(no_cursor)?))
}

/// Find what is remembered.
#[utoipa::path(
    post,
    path = "/memories/search",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = MemoryQuery, example = json!({ "query": "photosynthesis" })),
    responses(
        (status = 200, description = "What was found, best first", body = FoundOutput),
        refusals::Body,
        refusals::Writing,
    )
)]
pub(crate) async fn search(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let input: MemoryQuery = body::object(request, &app.limits).await?;
    check("query", &input.query, QUERY_BYTES)?;
    let limit = match input.limit.unwrap_or(10) {
        limit @ 1..=100 => limit as usize,
        other => {
            return Err(ApiError::Invalid {
                path: "limit".to_owned(),
                detail: format!("it is {other}: 1 to 100 are allowed"),
            });
        }
    };
    let then = moment(input.as_of.as_deref(), input.known_at.as_deref())?;
    let found = notebook(&app)?
        .search(&who.0.0.scope, then, &input.query, limit)
        .await;
    json(&FoundOutput::from(found.map_err(ApiError::Student)?))
}

/// Put another text in the place of a memory, which gets a new id.
#[utoipa::path(
    put,
    path = "/memories/{id}",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The memory")),
    request_body(content = MemoryEdit, example = json!({ "text": "Chlorophyll absorbs red light." })),
    responses(
        (status = 200, description = "The memory in its place", body = MemoryOutput),
        (status = 404, description = "The caller has no such memory", body = ErrorOutput),
        refusals::Body,
        refusals::Writing,
    )
)]
pub(crate) async fn edit(
    State(app): State<Shared>,
    who: Who,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoMemory)?;
    let input: MemoryEdit = body::object(request, &app.limits).await?;
    check("text", &input.text, MEMORY_BYTES)?;
    let edited = notebook(&app)?.edit(&who.0.0.scope, &id, input.text).await;
    let edited = edited.map_err(ApiError::Student)?;
    json(&MemoryOutput::from(edited.ok_or(ApiError::NoMemory)?))
}

/// Delete a memory.
#[utoipa::path(
    delete,
    path = "/memories/{id}",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The memory")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "The caller has no such memory", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn forget(
    State(app): State<Shared>,
    who: Who,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoMemory)?;
    let gone = notebook(&app)?.forget(&who.0.0.scope, &id).await;
    done(gone.map_err(ApiError::Student)?, ApiError::NoMemory)
}

/// The conversations and memories of the caller, as JSON Lines.
///
/// An object a line, named by its `type`: a `session` followed by its `message`s, then
/// `memory`s. An export that breaks off in the middle ends the connection without an end.
#[utoipa::path(
    get,
    path = "/export",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    responses(
        (status = 200, description = "The lines", content_type = "application/x-ndjson", body = String),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 503, description = "Too many streams are open, of which this is one", body = ErrorOutput),
    )
)]
pub(crate) async fn export(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let archive = archive(&app)?;
    let open = app.streams.open(Asker::of(&request))?;
    let lines = archive.export(who.0.0.scope);
    let lines = lines.inspect_err(move |error| {
        let _open = &open;
        tracing::warn!(%error, "an export broke off");
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"lyceum-export.jsonl\"",
        ),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// That everything is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Confirmation {
    /// `erase`.
    #[param(inline)]
    #[expect(dead_code, reason = "that it is there says all")]
    confirm: Confirmed,
}

/// The one word that erases.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Confirmed {
    Erase,
}

/// Erase what is kept of the caller: conversations, what the student knows, memories, durable
/// streams. It cannot be undone, and may be repeated where it broke off.
///
/// Not erased: what was stored under `/v1/responses` and in the LangGraph API, which have
/// deletions of their own, and answers to an `Idempotency-Key`, which are kept for a day.
#[utoipa::path(
    delete,
    path = "/export",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(Confirmation),
    responses(
        (status = 200, description = "What was erased", body = ErasedOutput),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "Another site sent the request to a server without keys", body = ErrorOutput),
        (status = 408, description = "It took too long: repeat it", body = ErrorOutput),
        (status = 422, description = "It is not confirmed", body = ErrorOutput),
        (status = 503, description = "Not now; what was erased until then stays erased", body = ErrorOutput),
    )
)]
pub(crate) async fn erase(
    State(app): State<Shared>,
    who: Who,
    query: Result<Query<Confirmation>, QueryRejection>,
) -> Result<Response, ApiError> {
    query.map_err(|_| ApiError::Invalid {
        path: "confirm".to_owned(),
        detail: "everything would be erased: send ?confirm=erase to have that".to_owned(),
    })?;
    let archive = archive(&app)?;
    app.hub.erase(&who.0.0.scope).await?;
    let erased = archive.erase(call(who, None, app.limits.request)).await;
    let erased = erased.map_err(ApiError::Student)?;
    json(&ErasedOutput {
        sessions: erased.sessions,
        memories: erased.memories,
    })
}

fn check(path: &str, text: &str, most: usize) -> Result<(), ApiError> {
    let detail = match text.len() {
        _ if text.trim().is_empty() => "it is blank".to_owned(),
        bytes if bytes > most => format!("it has {bytes} bytes: at most {most} are allowed"),
        _ => return Ok(()),
    };
    Err(ApiError::Invalid {
        path: path.to_owned(),
        detail,
    })
}
