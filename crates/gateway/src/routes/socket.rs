//! Streams over a WebSocket: `/ws`.

use std::sync::Arc;

use axum::{
    extract::{Extension, Request, State},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use yawc::{CompressionLevel, Options, WebSocket};

use super::student::{Who, json};
use crate::{
    auth::{Caller, TICKET_SECONDS, WEBSOCKET_PROTOCOL},
    dto::{ErrorOutput, refusals},
    edge::address::Peer,
    error::ApiError,
    gateway::Shared,
    socket::{Connection, MOST_BYTES},
    streams::Asker,
};

/// Teach, discuss and go on with streams over one WebSocket.
///
/// Frames are JSON texts of at most 100 KB; `permessage-deflate` is agreed to. A client sends
/// `{"type": "teach", "ref", …}` with the fields of `/chat/stream`, `{"type": "panel", "ref", …}`
/// with those of `/panel/stream`, `{"type": "resume", "ref", "stream", "after"}` to go on with
/// a stream after an event, and `{"type": "cancel", "ref", "stream"}`; `ref` is any text of its
/// own that answers repeat. Each stream begins with `{"event": "open", "ref", "stream"}`, then
/// every event is `{"stream", "id", "event", "data"}` as in Server-Sent Events, text being
/// `"text"`. What cannot be done is `{"event": "refused", "ref", "status", "detail"}`, with
/// `queue_token` where all streams are taken: send it as `queue_token` when coming back.
/// Streams that are not `durable` end with the connection. Browsers, which cannot send a key,
/// offer the two protocols that `POST /ws/ticket` gives them. `{"event": "retry"}` says that the
/// server goes away.
#[utoipa::path(
    get,
    path = "/ws",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    responses(
        (status = 101, description = "The protocol is switched"),
        (status = 401, description = "The key is missing or not known, or the ticket was used", body = ErrorOutput),
        (status = 403, description = "Another site opened it on a server without keys", body = ErrorOutput),
        (status = 429, description = "The key has as many open as it may", body = ErrorOutput),
        (status = 503, description = "Too many are open; see Retry-After", body = ErrorOutput),
        (status = 426, description = "The request is not a WebSocket's", body = ErrorOutput),
    )
)]
pub(crate) async fn connect(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let options = Options::default()
        // Above its own limit the library drops the connection; up to there the client is told.
        .with_limits(8 * MOST_BYTES, 16 * MOST_BYTES)
        .with_compression_level(CompressionLevel::fast())
        .with_utf8();
    let asker = Asker::of(&request);
    let place = Arc::clone(&app.socket_places).try_acquire_owned();
    let place = place.map_err(|_| ApiError::Busy)?;
    let own = who.0.0.connect()?;
    let peer = request.extensions().get::<Peer>().copied();
    let client = app
        .proxies
        .client(peer.unwrap_or(Peer::Local), request.headers());
    let upgraded = WebSocket::upgrade_with_options(request, options);
    let (response, upgrade) = upgraded.map_err(|_| ApiError::NoUpgrade)?;
    let sockets = app.sockets.clone();
    sockets.spawn(async move {
        let _places = (place, own);
        match upgrade.await {
            Ok(socket) => {
                Connection::new(app, who, asker, client.into(), socket)
                    .serve()
                    .await;
            }
            Err(error) => tracing::debug!(%error, "a WebSocket did not open"),
        }
    });
    Ok(response.into_response())
}

/// How to open a WebSocket without sending a key.
#[derive(Debug, Serialize, ToSchema)]
struct TicketOutput {
    /// The protocols to offer: `new WebSocket(address, protocols)`.
    #[schema(examples(json!(["lyceum.v1", "lyceum.ticket.0b1c…"])))]
    protocols: [String; 2],
    /// Seconds after which it is too late.
    expires_in: u64,
}

/// Get a ticket for a WebSocket, which browsers cannot send a key with.
///
/// It opens one connection, once, within 30 seconds and at this process, as who asked for it.
/// Never put a key into an address.
#[utoipa::path(
    post,
    path = "/ws/ticket",
    tag = "student",
    security((), ("bearer" = []), ("x-api-key" = [])),
    responses(
        (status = 200, description = "The ticket", body = TicketOutput),
        refusals::Writing,
    )
)]
pub(crate) async fn ticket(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let ticket = app.tickets.issue(caller, app.uptime())?;
    json(&TicketOutput {
        protocols: [WEBSOCKET_PROTOCOL.to_owned(), ticket],
        expires_in: TICKET_SECONDS,
    })
}
