//! For operators: `/api/operator`.

use std::{sync::atomic::Ordering, time::Duration};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use lyceum_observe::Status;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::student::json;
use crate::{
    body,
    dto::ErrorOutput,
    error::ApiError,
    gateway::Shared,
    operator::{Failure, Parts},
    whole,
};

/// The server at a glance.
#[derive(Debug, Serialize, ToSchema)]
struct OperatorOutput {
    /// Which of several replicas it is.
    service_id: String,
    /// The program's version.
    version: String,
    /// Who answers.
    provider: String,
    /// The model, where there is one.
    model: Option<String>,
    /// Seconds since the start.
    uptime_seconds: u64,
    /// Whether new work is refused.
    maintenance: bool,
    /// The machine's load average of the last minute.
    load_average: f64,
    /// Streams to clients.
    streams: StreamsOutput,
    /// Requests of the last minute.
    requests: MinuteOutput,
    /// Checks that do not pass.
    degraded: Vec<String>,
    /// The last requests that failed, the newest first.
    errors: Vec<Failure>,
    /// The parts behind the gateway.
    #[serde(flatten)]
    parts: Parts,
}

/// Streams to clients.
#[derive(Debug, Serialize, ToSchema)]
struct StreamsOutput {
    /// How many are open.
    open: usize,
    /// How many may be.
    limit: usize,
    /// How many places in the line are taken.
    waiting: usize,
}

/// Requests of the last minute.
#[derive(Debug, Serialize, ToSchema)]
struct MinuteOutput {
    /// Under way now.
    active: usize,
    /// Answered in a second.
    per_second: f64,
    /// The average time to an answer, in milliseconds.
    average_ms: f64,
    /// The time that 95 of 100 do not exceed, in milliseconds.
    p95_ms: f64,
    /// The share of failures, 0 to 1.
    error_rate: f64,
}

/// The server at a glance, for operators. A key needs the scope `operator` for it.
#[utoipa::path(
    get,
    path = "/api/operator",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    responses(
        (status = 200, description = "The server at this moment", body = OperatorOutput),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "The key is not an operator's", body = ErrorOutput),
    )
)]
pub(crate) async fn operator(State(app): State<Shared>) -> Result<Response, ApiError> {
    let (minute, info) = (app.minute(), app.services.info.clone());
    let report = app.services.health.report().await;
    let failing = report
        .checks
        .iter()
        .filter(|check| check.effect() != Status::Pass);
    let (open, waiting) = app.streams.count();
    json(&OperatorOutput {
        service_id: info.service_id,
        version: info.version,
        provider: info.provider,
        model: info.model,
        uptime_seconds: app.uptime().as_secs(),
        maintenance: app.maintenance.load(Ordering::Relaxed),
        load_average: app.services.process.stats().load_average,
        streams: StreamsOutput {
            open,
            limit: app.limits.streams,
            waiting,
        },
        requests: MinuteOutput {
            active: app.active.load(Ordering::Relaxed),
            per_second: minute.requests_per_second,
            average_ms: minute.average.as_secs_f64() * 1_000.0,
            p95_ms: minute.p95.as_secs_f64() * 1_000.0,
            error_rate: minute.error_rate,
        },
        degraded: failing.map(|check| check.name.clone()).collect(),
        errors: app.failures.all(),
        parts: app
            .operator
            .get()
            .map(|operator| operator.parts())
            .unwrap_or_default(),
    })
}

/// Whether new work is to be refused.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MaintenanceInput {
    on: bool,
}

/// Begin or end maintenance. While it lasts new work gets 503 and `/readyz` fails; what is
/// under way goes on, and reading, health and this route answer.
#[utoipa::path(
    post,
    path = "/api/operator/maintenance",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = MaintenanceInput, example = json!({ "on": true })),
    responses(
        (status = 204, description = "It is so"),
        (status = 400, description = "The body is no JSON", body = ErrorOutput),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "The key is not an operator's", body = ErrorOutput),
        (status = 415, description = "The body is not declared as JSON", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
    )
)]
pub(crate) async fn maintenance(
    State(app): State<Shared>,
    request: Request,
) -> Result<Response, ApiError> {
    let MaintenanceInput { on } = body::object(request, &app.limits).await?;
    if app.maintenance.swap(on, Ordering::Relaxed) != on {
        tracing::warn!(on, "maintenance");
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What is to be logged.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct LogInput {
    /// A filter such as `info,lyceum_llm=debug`; absent: the configured one, at once.
    filter: Option<String>,
    /// After which the configured one is back: 1 to 1440, by default 15.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 1440)]
    minutes: Option<u64>,
}

/// What is logged.
#[derive(Debug, Serialize, ToSchema)]
struct LogOutput {
    /// The filter in force.
    filter: String,
}

/// Change what this server logs, for a while. Other servers behind the same balancer go on as
/// they are.
#[utoipa::path(
    post,
    path = "/api/operator/log",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = LogInput, example = json!({ "filter": "info,lyceum_llm=debug", "minutes": 15 })),
    responses(
        (status = 200, description = "What is logged now", body = LogOutput),
        (status = 400, description = "The body is no JSON", body = ErrorOutput),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "The key is not an operator's", body = ErrorOutput),
        (status = 404, description = "This server's log cannot be changed", body = ErrorOutput),
        (status = 415, description = "The body is not declared as JSON", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
    )
)]
pub(crate) async fn log(State(app): State<Shared>, request: Request) -> Result<Response, ApiError> {
    let LogInput { filter, minutes } = body::object(request, &app.limits).await?;
    let levels = app.log_levels.get().ok_or(ApiError::NotFound)?;
    let invalid = |path: &str, detail: &str| ApiError::Invalid {
        path: path.to_owned(),
        detail: detail.to_owned(),
    };
    let minutes = minutes.unwrap_or(15);
    if !(1..=1_440).contains(&minutes) {
        return Err(invalid("minutes", "must be between 1 and 1440"));
    }
    let lasting = Duration::from_secs(minutes * 60);
    levels.set(filter.as_deref(), lasting).map_err(|_| {
        invalid(
            "filter",
            "must be a filter such as \"info,lyceum_llm=debug\"",
        )
    })?;
    let filter = levels.filter();
    tracing::warn!(filter, minutes, "what is logged changed");
    json(&LogOutput { filter })
}
