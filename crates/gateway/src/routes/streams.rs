//! Durable streams, gone on with: `/streams/{id}`.

use axum::{
    extract::{Extension, Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::StatusCode;
use uuid::Uuid;

use crate::{
    auth::Caller,
    dto::{BusyOutput, ErrorOutput, StreamEvent},
    error::ApiError,
    gateway::Shared,
    streams::Asker,
};

/// Go on with a stream after its connection was lost.
///
/// Gives the events after the one that `Last-Event-ID` names, each exactly once, or all of
/// them without it, and then what is told from now on. A stream is found for ten minutes
/// after its end, at every process that shares the store.
#[utoipa::path(
    get,
    path = "/streams/{id}",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(
        ("id" = String, Path, description = "The end of the stream's `Content-Location`"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that arrived", minimum = 0, nullable = false),
    ),
    responses(
        (status = 200, description = "The rest of the stream", content_type = "text/event-stream", body = StreamEvent),
        (status = 400, description = "The Last-Event-ID is no number", body = ErrorOutput),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 404, description = "There is no such stream, or no more", body = ErrorOutput),
        (status = 503, description = "Too many streams are open; come back after Retry-After with the `queue_token` in x-queue-token", body = BusyOutput),
    )
)]
pub(crate) async fn resume(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let id = named(id)?;
    let asker = Asker::of(&request);
    let after = last_event(&request)?;
    let source = app.hub.find(&caller.scope, id).await?;
    let open = app.streams.open(asker)?;
    let told = app
        .hub
        .read(source, after, app.heartbeat(), app.closing.clone());
    Ok(crate::streams::answer(open, told.map(|said| said.to_sse())))
}

/// End the work behind a stream.
#[utoipa::path(
    delete,
    path = "/streams/{id}",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("id" = String, Path, description = "The end of the stream's `Content-Location`")),
    responses(
        (status = 204, description = "It ends, or has ended; its events tell so"),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "Another site sent the request to a server without keys", body = ErrorOutput),
        (status = 404, description = "There is no such stream, or it cannot be ended from this process", body = ErrorOutput),
    )
)]
pub(crate) async fn cancel(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    app.hub.end(&caller.scope, named(id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn named(id: Result<Path<String>, PathRejection>) -> Result<Uuid, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::NoStream)?;
    Uuid::parse_str(&id).map_err(|_| ApiError::NoStream)
}

fn last_event(request: &Request) -> Result<u64, ApiError> {
    let Some(id) = request.headers().get("last-event-id") else {
        return Ok(0);
    };
    let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| ApiError::Malformed {
        detail: "the Last-Event-ID must be the number of an event: leave it out to begin again"
            .to_owned(),
    })
}
