//! The panel: `/panel`, `/panel/stream`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures_util::StreamExt;
use lyceum_core::{Panel, PanelEvent};

use super::student::{Who, call, json, place, streamed};
use crate::{
    body,
    dto::{BusyOutput, ErrorOutput, PanelInput, PanelOutput, StreamEvent, refusals},
    error::ApiError,
    gateway::{App, Shared},
    streams::Asker,
};

/// Have a position discussed and get the report.
#[utoipa::path(
    post,
    path = "/panel",
    tag = "panel",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = PanelInput, example = json!({
        "topic": "tides",
        "text": "The moon pulls on the sea. That is why there are two tides a day."
    })),
    responses(
        (status = 200, description = "The report and everything that was said", body = PanelOutput),
        (status = 400, description = "The body is no JSON", body = ErrorOutput),
        (status = 404, description = "The server has no panel", body = ErrorOutput),
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
pub(crate) async fn panel(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let input: PanelInput = body::object(request, &app.limits).await?;
    let discussion = input.check(&app.limits)?;
    let panel = find(&app)?;
    let call = call(who, Some(&discussion.session), app.limits.request);
    let mut events = panel.discuss(call, discussion);
    while let Some(event) = events.next().await {
        if let PanelEvent::Finished(report) = event.map_err(ApiError::Student)? {
            return json(&PanelOutput::from(*report));
        }
    }
    Err(ApiError::Cut)
}

/// Have a position discussed and watch.
///
/// Server-Sent Events, each named and with a JSON object: `round` is `{"round"}`; `text` and
/// `spoke` are `{"agent", "round", "text"}`, a piece of an agent's words and all of them; agents
/// speak at the same time. `queued`, `result` (what `/panel` answers) and `error` as in
/// `/chat/stream`. The last event's data is `"[END_OF_STREAM]"`. `durable` as there.
#[utoipa::path(
    post,
    path = "/panel/stream",
    tag = "panel",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = PanelInput, example = json!({
        "topic": "tides",
        "text": "The moon pulls on the sea. That is why there are two tides a day."
    })),
    responses(
        (status = 200, description = "The discussion as it happens", content_type = "text/event-stream", body = StreamEvent),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "Another site sent the request to a server without keys", body = ErrorOutput),
        (status = 404, description = "The server has no panel", body = ErrorOutput),
        (status = 503, description = "Too many streams are open; come back after Retry-After with the `queue_token` in x-queue-token", body = BusyOutput),
        refusals::Body,
    )
)]
pub(crate) async fn panel_stream(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let (asker, place) = (Asker::of(&request), place(&request));
    let input: PanelInput = body::object(request, &app.limits).await?;
    let is_durable = input.is_durable();
    let discussion = input.check(&app.limits)?;
    let panel = find(&app)?;
    let caller = who.0.0.clone();
    let call = call(who, Some(&discussion.session), app.limits.stream);
    let durable = is_durable.then_some((&caller, place));
    streamed(&app, asker, durable, || panel.discuss(call, discussion)).await
}

fn find(app: &App) -> Result<Arc<dyn Panel>, ApiError> {
    app.panel.get().cloned().ok_or(ApiError::NotFound)
}
