//! Every route.
//!
//! Invariant: what is not in [`OPEN`] needs a key wherever keys are configured.

mod anthropic;
pub(crate) mod document;
mod embeddings;
mod health;
mod library;
mod openai;
mod operator;
mod pages;
mod panel;
mod pupil;
mod responses;
mod socket;
mod streams;
pub(crate) mod student;
mod usage;

use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::gateway::Shared;

/// Routes without secrets: the pages, and what balancers ask.
const OPEN: [&str; 12] = [
    "/",
    "/operator",
    "/assets/{file}",
    "/docs",
    "/openapi.json",
    "/health",
    "/api/health",
    "/livez",
    "/readyz",
    "/startupz",
    "/ok",
    "/info",
];

/// Routes that machines ask every few seconds: not worth a log line each, and no part
/// of the figures about people's requests.
const PROBES: [&str; 7] = [
    "/health",
    "/api/health",
    "/livez",
    "/readyz",
    "/startupz",
    "/metrics",
    "/api/metrics",
];

/// Whether a route answers without a key.
pub(crate) fn is_open(endpoint: &str) -> bool {
    OPEN.contains(&endpoint)
}

/// Whether a route is asked by machines only.
pub(crate) fn is_probe(endpoint: &str) -> bool {
    PROBES.contains(&endpoint)
}

/// A part of the API, as keys open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Needs no key.
    Open,
    /// Needs a key, whatever it opens: what is told is the caller's own.
    Own,
    /// The student and the panel.
    Student,
    /// The compatible APIs.
    Models,
    /// The LangGraph server's API.
    Graphs,
    /// The figures.
    Metrics,
    /// What operators see and do.
    Operator,
}

/// To which part of the API a route belongs. What is not known is the student's.
pub(crate) fn family(endpoint: &str) -> Family {
    if is_open(endpoint) {
        return Family::Open;
    }
    let mut parts = endpoint.split('/').skip(1);
    match parts.next().unwrap_or_default() {
        "usage" => Family::Own,
        "ws" if endpoint == "/ws/ticket" => Family::Own,
        "v1" => Family::Models,
        "metrics" => Family::Metrics,
        "api" => match parts.next() {
            Some("metrics") => Family::Metrics,
            Some("operator") => Family::Operator,
            _ => Family::Student,
        },
        "assistants" | "threads" | "runs" | "store" => Family::Graphs,
        _ => Family::Student,
    }
}

/// All routes and their description.
pub(crate) fn all() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(student::chat))
        .routes(routes!(student::chat_stream))
        .routes(routes!(streams::resume, streams::cancel))
        .routes(routes!(socket::connect))
        .routes(routes!(socket::ticket))
        .routes(routes!(student::memorize))
        .routes(routes!(library::sessions))
        .routes(routes!(library::transcript, library::delete_session))
        .routes(routes!(library::complete))
        .routes(routes!(library::memories))
        .routes(routes!(library::search))
        .routes(routes!(library::edit, library::forget))
        .routes(routes!(library::export, library::erase))
        .routes(routes!(pupil::knowledge))
        .routes(routes!(pupil::review))
        .routes(routes!(pupil::notes))
        .routes(routes!(pupil::teach_back))
        .routes(routes!(pupil::exam))
        .routes(routes!(pupil::dismiss))
        .routes(routes!(openai::chat_completions))
        .routes(routes!(openai::models))
        .routes(routes!(embeddings::embeddings))
        .routes(routes!(responses::respond))
        .routes(routes!(responses::response, responses::forget))
        .routes(routes!(responses::input_items))
        .routes(routes!(anthropic::messages))
        .routes(routes!(anthropic::count_tokens))
        .routes(routes!(openai::model))
        .routes(routes!(panel::panel))
        .routes(routes!(panel::panel_stream))
        .routes(routes!(health::health))
        .routes(routes!(health::api_health))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::startupz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::api_metrics))
        .routes(routes!(operator::operator))
        .routes(routes!(operator::maintenance))
        .routes(routes!(usage::usage))
        .routes(routes!(usage::tenants))
        .routes(routes!(usage::users))
        .routes(routes!(operator::log))
        .routes(routes!(pages::openapi))
        .routes(routes!(pages::docs))
        .routes(routes!(pages::index))
        .routes(routes!(pages::operator))
        .routes(routes!(pages::asset))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lyceum",
        description = "An AI student that you teach, and that finds the gaps in your explanation. \
            Where the server has API keys, send one as a bearer token or in x-api-key; where it \
            trusts an issuer, a token of that as a bearer token. \
            Every answer carries x-request-id."
    ),
    tags(
        (name = "student", description = "Teach and be asked"),
        (name = "openai", description = "As OpenAI's clients speak"),
        (name = "panel", description = "Have a position discussed"),
        (name = "anthropic", description = "As Anthropic's clients speak"),
        (name = "operation", description = "Health and metrics"),
        (name = "pages", description = "For people"),
    ),
    modifiers(&Security)
)]
struct Description;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "bearer",
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
        );
        components.add_security_scheme(
            "x-api-key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key"))),
        );
    }
}
