//! The HTTP API of the LangGraph server, for the clients that speak it.
//!
//! Graphs of `lyceum-graph` are [`Served`] by a [`Platform`]: assistants, threads, runs with
//! streams, and the items of a store, all kept in records and checkpoints.
//!
//! Invariant: tenant and user come from the key alone; what another user has is not found.
//! Deliberately absent: graphs that clients bring.

mod adoption;
mod assistants;
mod begin;
mod board;
mod chronicle;
mod commands;
mod copies;
mod crons;
mod due;
mod echo;
mod ending;
mod erased;
mod expiry;
mod extract;
mod follow;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod introspect;
mod items;
mod lanes;
mod log;
mod messages;
mod owner;
mod peers;
mod platform;
mod refusal;
mod removal;
mod request;
mod resources;
mod run_body;
mod runnable;
mod runs;
mod schedule;
mod served;
mod shelf;
mod socket;
mod states;
mod tape;
mod teller;
mod threads;
mod tools;
mod webhooks;
mod wire;
mod worker;

use axum::{
    Extension, Json, Router,
    routing::{get, post},
};
use serde_json::{Value, json};

pub use messages::{Messages, add_messages, text};
pub use platform::Platform;
pub use served::{Invocation, Raised, Served};
pub use shelf::Shelf;
pub use tools::{tool_failed, tool_finished, tool_said, tool_started};
pub use webhooks::{WebhookError, WebhookSender};

use crate::gateway::Shared;

/// All routes of the API.
pub(crate) fn routes(platform: Platform) -> Router<Shared> {
    Router::new()
        .route("/ok", get(ok))
        .route("/info", get(info))
        .route("/assistants", post(assistants::create))
        .route("/assistants/search", post(assistants::search))
        .route("/assistants/count", post(assistants::count))
        .route(
            "/assistants/{id}",
            get(assistants::get)
                .patch(assistants::update)
                .delete(assistants::delete),
        )
        .route("/assistants/{id}/graph", get(introspect::graph))
        .route("/assistants/{id}/schemas", get(introspect::schemas))
        .route("/assistants/{id}/subgraphs", get(introspect::subgraphs))
        .route(
            "/assistants/{id}/subgraphs/{namespace}",
            get(introspect::subgraphs),
        )
        .route("/assistants/{id}/versions", post(assistants::versions))
        .route("/assistants/{id}/latest", post(assistants::latest))
        .route("/threads", post(threads::create))
        .route("/threads/search", post(threads::search))
        .route("/threads/count", post(threads::count))
        .route("/threads/prune", post(threads::prune))
        .route(
            "/threads/{id}",
            get(threads::get)
                .patch(threads::update)
                .delete(threads::delete),
        )
        .route("/threads/{id}/copy", post(copies::copy))
        .route(
            "/threads/{id}/state",
            get(threads::state).post(threads::update_state),
        )
        .route("/threads/{id}/state/checkpoint", post(threads::state_of))
        .route("/threads/{id}/state/{checkpoint}", get(threads::state_at))
        .route(
            "/threads/{id}/history",
            get(threads::history).post(threads::history),
        )
        .route("/threads/{id}/commands", post(commands::commands))
        .route(
            "/threads/{id}/stream/events",
            get(socket::connect).post(commands::events),
        )
        .route("/threads/{id}/runs", get(runs::list).post(runs::create))
        .route("/threads/{id}/stream", get(follow::follow))
        .route("/threads/{id}/runs/crons", post(crons::create_on))
        .route("/threads/{id}/runs/stream", post(runs::stream))
        .route("/threads/{id}/runs/wait", post(runs::wait))
        .route(
            "/threads/{id}/runs/{run}",
            get(runs::get).delete(runs::delete),
        )
        .route("/threads/{id}/runs/{run}/join", get(runs::join))
        .route("/threads/{id}/runs/{run}/stream", get(runs::join_stream))
        .route("/threads/{id}/runs/{run}/cancel", post(runs::cancel))
        .route("/runs", post(runs::create_alone))
        .route("/runs/stream", post(runs::stream_alone))
        .route("/runs/wait", post(runs::wait_alone))
        .route("/runs/{run}/stream", get(runs::join_stream_alone))
        .route("/runs/crons", post(crons::create))
        .route("/runs/crons/search", post(crons::search))
        .route("/runs/crons/count", post(crons::count))
        .route(
            "/runs/crons/{id}",
            axum::routing::patch(crons::update).delete(crons::delete),
        )
        .route("/runs/batch", post(runs::batch))
        .route("/runs/cancel", post(runs::cancel_many))
        .route(
            "/store/items",
            get(items::get).put(items::put).delete(items::delete),
        )
        .route("/store/items/search", post(items::search))
        .route("/store/namespaces", post(items::namespaces))
        .route("/internal/truncate", post(threads::truncate))
        .layer(Extension(platform))
}

async fn ok() -> Json<Value> {
    Json(json!({ "ok": true }))
}

async fn info() -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "flags": { "assistants": true, "crons": true },
        "host": { "kind": "self-hosted" },
    }))
}
