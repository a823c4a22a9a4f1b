//! What balancers and operators ask: is it alive, is it ready, how is it.
//!
//! Invariant: `/livez` asks nothing but the process itself, so a broken dependency never
//! restarts a healthy one; details are for callers with a key, or on a server without keys.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use axum::{
    body::Body,
    extract::{Extension, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use lyceum_observe::{CheckReport, Lifecycle, Report, Status};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::student::json;
use crate::{
    auth::Caller,
    error::ApiError,
    gateway::{App, Shared},
};

/// Health in the shape of `application/health+json`, and the figures of the last minute.
/// Callers without a key, where keys are configured, get the first three fields only.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HealthOutput {
    /// `pass`, `warn` (something is missing) or `fail`.
    #[schema(examples("pass"))]
    status: &'static str,
    /// When this was written, RFC 3339.
    timestamp: String,
    /// `starting`, `ready` or `draining`.
    lifecycle: &'static str,
    #[serde(flatten)]
    #[schema(inline)]
    detail: HealthDetail,
}

/// What only callers with a key see.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HealthDetail {
    /// The program's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Which replica answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_id: Option<String>,
    /// Who answers the learners: a provider's name, or `offline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// The model, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<HealthMetrics>,
    /// One list per check, keyed `name:responseTime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<BTreeMap<String, Vec<CheckOutput>>>,
}

/// The process and its last minute.
#[derive(Debug, Serialize, ToSchema)]
struct HealthMetrics {
    requests: RequestMetrics,
    response_time: ResponseTime,
    /// The share of answers with a status of 500 or more, 0 to 1.
    error_rate: f64,
    /// CPU in use, as a share of all cores, 0 to 1.
    cpu: f64,
    memory: MemoryMetrics,
    /// Open client connections.
    connections: usize,
    /// Seconds since the start.
    uptime_seconds: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct RequestMetrics {
    /// Requests being answered now, open streams included.
    active: usize,
    /// Model calls that wait for their turn.
    queued: u64,
    /// Requests per second.
    rps: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct ResponseTime {
    /// In milliseconds.
    average_ms: f64,
    /// In milliseconds, at most 41 % too high.
    p95_ms: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct MemoryMetrics {
    /// Resident memory of the process, in bytes.
    resident_bytes: u64,
    /// What it may use, in bytes.
    limit_bytes: u64,
    /// The one divided by the other, 0 to 1.
    share: f64,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CheckOutput {
    status: &'static str,
    /// How long the dependency took to answer.
    observed_value: f64,
    /// Always `ms`.
    observed_unit: &'static str,
    /// When it was asked, RFC 3339.
    time: String,
    /// Why it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// Further figures of the check.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    values: BTreeMap<&'static str, f64>,
}

/// How the server and all it depends on are.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operation",
    responses(
        (status = 200, description = "It works", body = HealthOutput, content_type = "application/health+json"),
        (status = 503, description = "It does not work", body = HealthOutput, content_type = "application/health+json"),
    )
)]
pub(crate) async fn health(
    State(app): State<Shared>,
    caller: Option<Extension<Caller>>,
) -> Result<Response, ApiError> {
    let report = app.services.health.report().await;
    let output = HealthOutput {
        status: report.status.as_str(),
        timestamp: rfc3339(OffsetDateTime::now_utc()),
        lifecycle: report.lifecycle.as_str(),
        detail: caller.map(|_| detail(&app, &report)).unwrap_or_default(),
    };
    let mut response = json(&output)?;
    *response.status_mut() = status_code(report.status != Status::Fail);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/health+json"),
    );
    Ok(response)
}

/// The same as `/health`.
#[utoipa::path(
    get,
    path = "/api/health",
    tag = "operation",
    responses(
        (status = 200, description = "It works", body = HealthOutput, content_type = "application/health+json"),
        (status = 503, description = "It does not work", body = HealthOutput, content_type = "application/health+json"),
    )
)]
pub(crate) async fn api_health(
    state: State<Shared>,
    caller: Option<Extension<Caller>>,
) -> Result<Response, ApiError> {
    health(state, caller).await
}

/// A probe's answer.
#[derive(Debug, Serialize, ToSchema)]
struct ProbeOutput {
    /// `pass` or `fail`.
    #[schema(examples("pass"))]
    status: &'static str,
    /// `starting`, `ready` or `draining`.
    lifecycle: &'static str,
}

/// Whether the process lives. It asks nothing else.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operation",
    responses((status = 200, description = "It lives", body = ProbeOutput))
)]
pub(crate) async fn livez(State(app): State<Shared>) -> Result<Response, ApiError> {
    probe(&app, true)
}

/// Whether traffic should be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (status = 200, description = "It is ready", body = ProbeOutput),
        (status = 503, description = "It starts, drains, is in maintenance, or lacks something it cannot do without", body = ProbeOutput),
    )
)]
pub(crate) async fn readyz(State(app): State<Shared>) -> Result<Response, ApiError> {
    let report = app.services.health.report().await;
    let is_open = !app.maintenance.load(Ordering::Relaxed);
    probe(&app, report.is_ready() && is_open)
}

/// Whether the start is over.
#[utoipa::path(
    get,
    path = "/startupz",
    tag = "operation",
    responses(
        (status = 200, description = "It has started", body = ProbeOutput),
        (status = 503, description = "It starts", body = ProbeOutput),
    )
)]
pub(crate) async fn startupz(State(app): State<Shared>) -> Result<Response, ApiError> {
    probe(&app, app.services.health.lifecycle() != Lifecycle::Starting)
}

/// All metrics in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    responses(
        (status = 200, description = "The metrics", content_type = "text/plain", body = String),
        (status = 401, description = "The key is missing or not known", body = crate::dto::ErrorOutput),
    )
)]
pub(crate) async fn metrics(State(app): State<Shared>) -> Response {
    let text = (app.services.metrics)();
    let headers = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (headers, Body::from(text)).into_response()
}

/// The same as `/metrics`.
#[utoipa::path(
    get,
    path = "/api/metrics",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    responses(
        (status = 200, description = "The metrics", content_type = "text/plain", body = String),
        (status = 401, description = "The key is missing or not known", body = crate::dto::ErrorOutput),
    )
)]
pub(crate) async fn api_metrics(state: State<Shared>) -> Response {
    metrics(state).await
}

fn probe(app: &App, passes: bool) -> Result<Response, ApiError> {
    let mut response = json(&ProbeOutput {
        status: if passes { "pass" } else { "fail" },
        lifecycle: app.services.health.lifecycle().as_str(),
    })?;
    *response.status_mut() = status_code(passes);
    Ok(response)
}

fn status_code(passes: bool) -> StatusCode {
    match passes {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn detail(app: &App, report: &Report) -> HealthDetail {
    let info = app.services.info.clone();
    let queued = report.checks.iter().flat_map(|check| &check.values);
    let queued = queued
        .filter(|(name, _)| *name == "queued")
        .map(|(_, value)| value);
    let minute = app.minute();
    let process = app.services.process.stats();
    let limit = process.memory_limit_bytes;
    HealthDetail {
        version: Some(info.version),
        service_id: Some(info.service_id),
        provider: Some(info.provider),
        model: info.model,
        metrics: Some(HealthMetrics {
            requests: RequestMetrics {
                active: app.active.load(Ordering::Relaxed),
                queued: queued.sum::<f64>() as u64,
                rps: minute.requests_per_second,
            },
            response_time: ResponseTime {
                average_ms: minute.average.as_secs_f64() * 1_000.0,
                p95_ms: minute.p95.as_secs_f64() * 1_000.0,
            },
            error_rate: minute.error_rate,
            cpu: process.cpu_share,
            memory: MemoryMetrics {
                resident_bytes: process.resident_bytes,
                limit_bytes: limit,
                share: process.resident_bytes as f64 / limit.max(1) as f64,
            },
            connections: app.connections.load(Ordering::Relaxed),
            uptime_seconds: app.uptime().as_secs(),
        }),
        checks: Some(report.checks.iter().map(check).collect()),
    }
}

fn check(check: &CheckReport) -> (String, Vec<CheckOutput>) {
    let output = CheckOutput {
        status: check.effect().as_str(),
        observed_value: check.took.as_secs_f64() * 1_000.0,
        observed_unit: "ms",
        time: rfc3339(OffsetDateTime::now_utc() - check.age),
        output: check.detail.clone(),
        values: check.values.iter().copied().collect(),
    };
    (format!("{}:responseTime", check.name), vec![output])
}

fn rfc3339(time: OffsetDateTime) -> String {
    // The years that RFC 3339 cannot write are far away.
    time.format(&Rfc3339).unwrap_or_default()
}
