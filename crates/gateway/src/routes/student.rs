//! Teaching the student: `/chat`, `/chat/stream`, `/memorize`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Extension, Request, State},
    response::Response,
};
use futures_util::StreamExt;
use http::{HeaderValue, header};
use lyceum_core::{CallContext, Lesson, RequestId, SessionId, TeachEvent, TeachStream};
use serde::Serialize;
use tracing::Span;

use crate::{
    auth::Caller,
    body,
    dto::{
        BusyOutput, ChatInput, ChatOutput, ErrorOutput, MemorizeInput, MemorizeOutput, StreamEvent,
        refusals,
    },
    edge::holding::Hold,
    error::ApiError,
    gateway::{App, Shared},
    sse::{self, Pace, Source, Wire},
    streams::{self, Asker},
};

pub(crate) type Who = (Extension<Caller>, Extension<RequestId>);

/// Explain something and get the student's questions.
#[utoipa::path(
    post,
    path = "/chat",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = ChatInput, example = json!({
        "topic": "photosynthesis",
        "explanation": "Plants turn light into sugar.",
        "session_id": "lesson-1"
    })),
    responses(
        (status = 200, description = "The student's questions", body = ChatOutput),
        (status = 400, description = "The body is no JSON", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 409, description = "The conversation was deleted while the call waited, or another request with this Idempotency-Key is under way", body = ErrorOutput),
        (status = 413, description = "The body is too large", body = ErrorOutput),
        (status = 415, description = "The body is not declared as JSON", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        (status = 502, description = "The model provider failed", body = ErrorOutput),
        (status = 504, description = "The model did not answer in time", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn chat(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let input: ChatInput = body::object(request, &app.limits).await?;
    let explanation = input.check(&app.limits)?;
    let call = call(who, Some(&explanation.session), app.limits.request);
    let lesson = finish(app.services.student.teach(call, explanation)).await?;
    json(&ChatOutput::from(lesson))
}

/// Explain something and watch the student think.
///
/// Server-Sent Events. Text is an unnamed event whose data is a JSON string; `queued`, `node`,
/// `tool`, `gaps`, `result` and `error` are named events whose data is a JSON object; `result` is
/// what `/chat` answers, `error` is `{"detail", "retryable"}`. The last event's data is
/// `"[END_OF_STREAM]"`. With `durable` the work goes on when the connection is lost, and
/// `GET` of the answer's `Content-Location` with `Last-Event-ID` gives the rest; without it
/// the work ends with the connection.
#[utoipa::path(
    post,
    path = "/chat/stream",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = ChatInput, example = json!({
        "topic": "photosynthesis",
        "explanation": "Plants turn light into sugar.",
        "session_id": "lesson-1"
    })),
    responses(
        (status = 200, description = "The lesson as it happens", content_type = "text/event-stream", body = StreamEvent),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "Another site sent the request to a server without keys", body = ErrorOutput),
        (status = 503, description = "Too many streams are open; come back after Retry-After with the `queue_token` in x-queue-token", body = BusyOutput),
        refusals::Body,
    )
)]
pub(crate) async fn chat_stream(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let (asker, place) = (Asker::of(&request), place(&request));
    let input: ChatInput = body::object(request, &app.limits).await?;
    let is_durable = input.is_durable();
    let explanation = input.check(&app.limits)?;
    let caller = who.0.0.clone();
    let call = call(who, Some(&explanation.session), app.limits.stream);
    let durable = is_durable.then_some((&caller, place));
    streamed(&app, asker, durable, || {
        app.services.student.teach(call, explanation)
    })
    .await
}

/// Have a conversation summarised and remembered.
#[utoipa::path(
    post,
    path = "/memorize",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = MemorizeInput, example = json!({
        "topic": "photosynthesis",
        "conversation_history": [
            { "role": "user", "content": "Plants turn light into sugar." },
            { "role": "assistant", "content": "How does light become sugar?" }
        ]
    })),
    responses(
        (status = 200, description = "The stored summary", body = MemorizeOutput),
        (status = 400, description = "The body is no JSON", body = ErrorOutput),
        (status = 408, description = "No answer in time", body = ErrorOutput),
        (status = 413, description = "The body is too large", body = ErrorOutput),
        (status = 415, description = "The body is not declared as JSON", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
        (status = 500, description = "The server failed", body = ErrorOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn memorize(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let input: MemorizeInput = body::object(request, &app.limits).await?;
    let conversation = input.check(&app.limits)?;
    let call = call(who, conversation.session.as_ref(), app.limits.request);
    let memorized = app.services.student.memorize(call, conversation).await;
    json(&MemorizeOutput::from(memorized.map_err(ApiError::Student)?))
}

pub(crate) fn call(
    (Extension(caller), Extension(request)): Who,
    session: Option<&SessionId>,
    within: Duration,
) -> CallContext {
    if let Some(session) = session {
        Span::current().record("session", session.as_str());
    }
    CallContext {
        request,
        deadline: Instant::now().checked_add(within),
        ..CallContext::new(caller.scope)
    }
}

/// A request's place among what its key has at once, for work that outlives the request.
pub(super) fn place(request: &Request) -> Option<Arc<Hold>> {
    request.extensions().get().cloned()
}

/// Answers with the events of a source, which is asked for them only where a stream is free.
/// A durable stream, whose user is named, goes on without its client and says where to go on
/// with it; it counts as open until its work is done.
pub(super) async fn streamed<E: Wire + 'static>(
    app: &App,
    asker: Asker,
    durable: Option<(&Caller, Option<Arc<Hold>>)>,
    source: impl FnOnce() -> Source<E>,
) -> Result<Response, ApiError> {
    // Only after the body was read: who sends it slowly must not keep others from streaming.
    let open = Arc::new(app.streams.open(asker)?);
    let told = sse::written(source(), Pace::of(app), app.closing.clone());
    let Some((caller, place)) = durable else {
        return Ok(streams::answer(open, told.map(|said| said.to_sse())));
    };
    let held = (Arc::clone(&open), app.cache.turn(caller), place);
    let journal = app.hub.begin(caller.scope.clone(), true, told, held);
    app.hub.announced(&journal).await;
    let place = HeaderValue::try_from(format!("/streams/{}", journal.id));
    let journal = streams::Source::Here(journal);
    let told = app
        .hub
        .read(journal, 0, app.heartbeat(), app.closing.clone());
    let mut response = streams::answer(open, told.map(|said| said.to_sse()));
    if let Ok(place) = place {
        response
            .headers_mut()
            .insert(header::CONTENT_LOCATION, place);
    }
    Ok(response)
}

async fn finish(mut lesson: TeachStream) -> Result<Lesson, ApiError> {
    while let Some(event) = lesson.next().await {
        if let TeachEvent::Finished(lesson) = event.map_err(ApiError::Student)? {
            return Ok(*lesson);
        }
    }
    Err(ApiError::Cut)
}

/// Answers with JSON. Values made of strings and numbers always serialise.
pub(super) fn json(value: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value);
    let body = body.map_err(|_| ApiError::Internal { what: "serialise" })?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
