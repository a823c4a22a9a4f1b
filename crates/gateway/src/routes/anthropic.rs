//! Anthropic's API: `/v1/messages` and `/v1/messages/count_tokens`.

use axum::{
    extract::{Extension, Request, State},
    response::Response,
};
use serde_json::json;

use super::student::{Who, json};
use crate::{
    auth::Caller,
    body,
    compat::{
        self, Hints,
        anthropic::{Events, MessagesIn, message},
        stream,
    },
    dto::StreamEvent,
    error::ApiError,
    gateway::Shared,
    streams::Asker,
};

/// Ask a model, or an agent, as Anthropic's clients do.
///
/// `model` is one of `/v1/models`. The body, the answers and the stream's events are those
/// of Anthropic's messages; blocks and fields that are not known here go to the provider as
/// they are. Agents and conversations are as at `/v1/chat/completions`.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "anthropic",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = ref("#/components/schemas/MessagesRequest"), example = json!({
        "model": "feynman",
        "max_tokens": 1000,
        "messages": [{ "role": "user", "content": "Plants turn light into sugar." }]
    })),
    responses(
        (status = 200, description = "A message, or the events of one where `stream` is true", content(
            (ref("#/components/schemas/Message") = "application/json"),
            (StreamEvent = "text/event-stream"),
        )),
        (status = "4XX", description = "The request cannot be answered as it is, in Anthropic's form", body = ref("#/components/schemas/AnthropicError")),
        (status = "5XX", description = "The server or the provider failed, in Anthropic's form", body = ref("#/components/schemas/AnthropicError")),
    )
)]
pub(crate) async fn messages(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let hints = Hints::read(request.headers());
    let asker = Asker::of_sdk(&request);
    let input: MessagesIn = body::object(request, &app.limits).await?;
    let (asked, streamed) = input.check(&app.limits)?;
    let opened = compat::open(&app, who, &hints, asked, streamed)?;
    if streamed {
        let events = Events::new(opened.request, &opened.name, hints.queue_events);
        return stream::respond(&app, opened.events, events, asker).await;
    }
    opened.whole(message).await
}

/// About how many input tokens a message has.
///
/// An estimate by length, without asking the provider: one token for four bytes.
#[utoipa::path(
    post,
    path = "/v1/messages/count_tokens",
    tag = "anthropic",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = ref("#/components/schemas/CountTokensRequest"), example = json!({
        "model": "feynman",
        "messages": [{ "role": "user", "content": "Plants turn light into sugar." }]
    })),
    responses(
        (status = 200, description = "The count, in Anthropic's form", body = ref("#/components/schemas/TokenCount")),
        (status = "4XX", description = "The request cannot be counted, in Anthropic's form", body = ref("#/components/schemas/AnthropicError")),
    )
)]
pub(crate) async fn count_tokens(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, ApiError> {
    let input: MessagesIn = body::object(request, &app.limits).await?;
    compat::find(&app, Some(&caller), input.model())?;
    json(&json!({ "input_tokens": input.count(&app.limits)? }))
}
