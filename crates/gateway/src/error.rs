//! What a client is told when something fails, and with which status.
//!
//! Invariant: the text of an [`ApiError`] is public and says what to do; what failed
//! inside goes to the log, under the request id that the client gets too.

mod words;

use std::{error::Error, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use lyceum_core::{ChatError, EmbedError, TeachError};

use crate::{
    auth::TokenError,
    compat::problem::Problem,
    dto::BusyOutput,
    streams::{Place, QUEUE_TOKEN},
};

/// The advice when nobody said when to come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How to authenticate.
const REALM: &str = "Bearer realm=\"lyceum\"";

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{detail}")]
    Malformed { detail: String },
    #[error("{path}: {detail}")]
    Invalid { path: String, detail: String },
    #[error("the body is larger than {limit_bytes} bytes: send less")]
    TooLarge { limit_bytes: usize },
    #[error("{detail}")]
    MediaType { detail: &'static str },
    #[error("the body's Content-Encoding is not understood: send it with gzip, or as it is")]
    Encoding,
    #[error("the Idempotency-Key was used with another request: choose a new one for this request")]
    KeyReused,
    #[error("the request was not answered within {} s: try again, or use /chat/stream", .after.as_secs_f32())]
    Timeout { after: Duration },
    #[error("the body did not arrive within {} s: send it faster", .after.as_secs_f32())]
    SlowBody { after: Duration },
    #[error("an API key is needed: send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"")]
    KeyMissing,
    #[error("the API key is not known: check it, or ask the operator for one")]
    KeyUnknown,
    #[error("the API key has expired: ask the operator for a new one")]
    KeyExpired,
    #[error("{0}")]
    Token(TokenError),
    #[error("the key that signed the token is not one of the issuer's")]
    TokenKey,
    #[error(
        "the issuer's keys cannot be had, so that no token can be verified: try again in a few seconds"
    )]
    IssuerKeys,
    #[error("the ticket is not known, was used, or is too old: get another one from /ws/ticket")]
    Ticket,
    #[error("the API key does not open this part of the API: ask the operator for another")]
    KeyScope,
    #[error(
        "more than {limit} requests in 60 s from this {by}: try again in {} s",
        .after.as_millis().div_ceil(1_000)
    )]
    RateLimited {
        by: &'static str,
        limit: u32,
        after: Duration,
    },
    #[error("{limit} {} with this key at once are all that it may have: wait for one to end", .what.trim_start_matches("key-"))]
    AtOnce { what: &'static str, limit: u32 },
    #[error("the Host header names another machine: without API keys only localhost is served")]
    ForeignHost,
    #[error(
        "the request comes from another site: without API keys only this server's own page may send it"
    )]
    ForeignOrigin,
    #[error("there is nothing here: see /docs for what there is")]
    NotFound,
    #[error("you have no such conversation: teach something under this session id first")]
    NoSession,
    #[error("there is no model {name:?} here: see /v1/models for what there is")]
    NoModel { name: String },
    #[error("there is no such response here: it was not stored, is forgotten, or another user's")]
    NoResponse,
    #[error("thread: threads are not kept here: send the whole conversation without it")]
    NoThreads,
    #[error("the method is not allowed here: see /docs for what is")]
    MethodNotAllowed,
    #[error("the server is in maintenance and takes no new work: try again in a minute")]
    Maintenance,
    #[error("the server is busy: try again in a few seconds")]
    Busy,
    #[error("as many streams are open as the server serves: {}", line(.place.as_ref()))]
    StreamsBusy { place: Option<Place> },
    #[error("this is for a WebSocket: connect with one, over HTTP/1.1")]
    NoUpgrade,
    #[error("this server was set up without this part")]
    NoPart,
    #[error("you have no such memory: see /memories for what there is")]
    NoMemory,
    #[error(
        "there is no such stream here: it was not durable, ended a while ago, or is another user's"
    )]
    NoStream,
    #[error("the stream was cancelled")]
    Cancelled,
    #[error("the answer is too long to be kept: ask for less, or without `durable`")]
    TooLong,
    #[error("the server is going away: try again")]
    Closing,
    #[error("the model did not answer in time: try again")]
    StreamTimeout,
    #[error("the answer was cut short: try again")]
    Cut,
    #[error("{}", words::student(.0))]
    Student(#[source] TeachError),
    #[error("{}", words::embedder(.0))]
    Embed(#[source] EmbedError),
    #[error("the server failed: the request id leads the operator to the cause")]
    Internal { what: &'static str },
}

impl ApiError {
    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed { .. } | Self::NoThreads => StatusCode::BAD_REQUEST,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType { .. } | Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::KeyReused => StatusCode::CONFLICT,
            Self::Timeout { .. } | Self::SlowBody { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::KeyMissing
            | Self::KeyUnknown
            | Self::KeyExpired
            | Self::Token(_)
            | Self::TokenKey
            | Self::Ticket => StatusCode::UNAUTHORIZED,
            Self::ForeignHost | Self::ForeignOrigin | Self::KeyScope => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } | Self::AtOnce { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound
            | Self::NoSession
            | Self::NoModel { .. }
            | Self::NoResponse
            | Self::NoStream
            | Self::NoMemory
            | Self::NoPart => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Maintenance
            | Self::Busy
            | Self::StreamsBusy { .. }
            | Self::IssuerKeys
            | Self::Closing => StatusCode::SERVICE_UNAVAILABLE,
            Self::StreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::NoUpgrade => StatusCode::UPGRADE_REQUIRED,
            Self::Cut | Self::TooLong => StatusCode::BAD_GATEWAY,
            // Told in a stream only.
            Self::Cancelled => StatusCode::CONFLICT,
            Self::Student(TeachError::Model(error)) => status_of(error),
            Self::Student(TeachError::Storage {
                retryable: true, ..
            }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Student(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Embed(EmbedError::Call(error)) => status_of(error),
            Self::Embed(EmbedError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Embed(_) => StatusCode::BAD_GATEWAY,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the client may send the same again.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::SlowBody { .. }
            | Self::RateLimited { .. }
            | Self::AtOnce { .. }
            | Self::IssuerKeys
            | Self::Maintenance
            | Self::Busy
            | Self::StreamsBusy { .. }
            | Self::Closing
            | Self::StreamTimeout
            | Self::Cut => true,
            // A shed call must not be repeated by a layer inside, but by the client later.
            Self::Student(TeachError::Model(
                ChatError::Shed { .. } | ChatError::BreakerOpen { .. },
            )) => true,
            Self::Student(error) => error.is_retryable(),
            Self::Embed(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// What became of the model's call, where that is what failed.
    pub(crate) fn model_error(&self) -> Option<&ChatError> {
        match self {
            Self::Student(TeachError::Model(error)) => Some(error),
            Self::Embed(EmbedError::Call(error)) => Some(error),
            _ => None,
        }
    }

    /// The status where another vendor's API is spoken: refusals of the provider are told
    /// as what they are, because the client's own SDK acts on them.
    pub(crate) fn compat_status(&self) -> StatusCode {
        match (self, self.model_error()) {
            (Self::Invalid { .. }, _) => StatusCode::BAD_REQUEST,
            (_, Some(error)) => match error {
                ChatError::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
                ChatError::Rejected { status: 413, .. } => StatusCode::PAYLOAD_TOO_LARGE,
                ChatError::Rejected { .. } | ChatError::ContextTooLong { .. } => {
                    StatusCode::BAD_REQUEST
                }
                _ => self.status(),
            },
            _ => self.status(),
        }
    }

    /// The code that programs act on where another vendor's API is spoken.
    pub(crate) fn code(&self) -> &'static str {
        match (self, self.model_error()) {
            (
                Self::KeyMissing
                | Self::KeyUnknown
                | Self::KeyExpired
                | Self::Token(_)
                | Self::TokenKey,
                _,
            ) => "invalid_api_key",
            (Self::KeyScope, _) => "permission_denied",
            (Self::RateLimited { .. } | Self::AtOnce { .. }, _) => "rate_limit_exceeded",
            (Self::NoModel { .. }, _) => "model_not_found",
            (Self::Invalid { .. } | Self::NoThreads, _) => "invalid_value",
            (_, Some(error)) => match error {
                ChatError::RateLimited { .. } => "rate_limit_exceeded",
                ChatError::OverBudget { .. } => "insufficient_quota",
                ChatError::ContextTooLong { .. } => "context_length_exceeded",
                ChatError::Shed { .. } => "server_overloaded",
                error => error.label(),
            },
            _ => self.label(),
        }
    }

    /// When to come back, for answers that say "not now".
    fn retry_after(&self) -> Option<Duration> {
        let known = match self {
            Self::RateLimited { after, .. } => Some(*after),
            // Nobody knows when one ends; asking costs nothing.
            Self::AtOnce { .. } => Some(Duration::from_secs(1)),
            Self::Maintenance => Some(Duration::from_secs(60)),
            Self::StreamsBusy { place } => place.map(|place| place.come_back),
            Self::Student(error) => error.retry_after(),
            Self::Embed(error) => error.retry_after(),
            _ => None,
        };
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => Some(known.unwrap_or(RETRY_AFTER)),
            StatusCode::TOO_MANY_REQUESTS => known,
            _ => None,
        }
    }

    /// What to authenticate with (RFC 6750, section 3): who came with nothing is told no error.
    fn challenge(&self, detail: &str) -> Option<HeaderValue> {
        let error = match self {
            Self::KeyMissing => return Some(HeaderValue::from_static(REALM)),
            Self::KeyScope => "insufficient_scope",
            _ if self.status() == StatusCode::UNAUTHORIZED => "invalid_token",
            _ => return None,
        };
        // A quoted text holds neither quotes nor backslashes unescaped.
        let detail = detail.replace(['"', '\\'], "'");
        HeaderValue::try_from(format!(
            "{REALM}, error=\"{error}\", error_description=\"{detail}\""
        ))
        .ok()
    }

    /// A bounded name for logs.
    fn label(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Invalid { .. } => "invalid",
            Self::TooLarge { .. } => "too_large",
            Self::MediaType { .. } => "media_type",
            Self::Encoding => "encoding",
            Self::KeyReused => "idempotency_key_reused",
            Self::Timeout { .. } => "timeout",
            Self::SlowBody { .. } => "slow_body",
            Self::KeyMissing => "key_missing",
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired => "key_expired",
            Self::KeyScope => "key_scope",
            Self::Token(_) => "token",
            Self::TokenKey => "token_key",
            Self::IssuerKeys => "issuer_keys",
            Self::Ticket => "ticket",
            Self::AtOnce { .. } => "at_once",
            Self::RateLimited { .. } => "rate_limited",
            Self::ForeignHost => "foreign_host",
            Self::ForeignOrigin => "foreign_origin",
            Self::NotFound => "not_found",
            Self::NoSession => "no_session",
            Self::NoModel { .. } => "no_model",
            Self::NoResponse => "not_found",
            Self::NoThreads => "no_threads",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Maintenance => "maintenance",
            Self::Busy => "busy",
            Self::StreamsBusy { .. } => "streams_busy",
            Self::NoUpgrade => "no_upgrade",
            Self::NoStream => "not_found",
            Self::NoMemory => "no_memory",
            Self::NoPart => "no_part",
            Self::Cancelled => "cancelled",
            Self::TooLong => "too_long",
            Self::Closing => "closing",
            Self::StreamTimeout => "stream_timeout",
            Self::Cut => "cut",
            Self::Student(error) => error.label(),
            Self::Embed(error) => error.label(),
            Self::Internal { what } => what,
        }
    }

    /// Tells the operator, once, at the boundary. Refusals of bad input are in the
    /// request's own log line and need no second one.
    pub(crate) fn log(&self) {
        let reason = self.label();
        match self {
            Self::Student(error) => {
                let error = error as &(dyn Error + 'static);
                tracing::warn!(reason, error, "student failed");
            }
            Self::Embed(error) => {
                let error = error as &(dyn Error + 'static);
                tracing::warn!(reason, error, "embedding failed");
            }
            Self::Internal { .. } => tracing::error!(reason, "request failed inside"),
            _ if self.status().is_server_error() => tracing::warn!(reason, "request failed"),
            _ => tracing::debug!(reason, "request refused"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let detail = self.to_string();
        let challenge = self.challenge(&detail);
        let body = match &self {
            Self::StreamsBusy { place: Some(place) } => BusyOutput::new(detail, place).to_json(),
            _ => serde_json::json!({ "detail": detail }).to_string(),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        response.extensions_mut().insert(Problem::of(&self));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(after) = self.retry_after() {
            let seconds = after.as_millis().div_ceil(1_000).clamp(1, 86_400) as u64;
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        match self {
            // RFC 9110, section 15.5.16.
            Self::Encoding => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            }
            Self::StreamsBusy { place: Some(place) } => {
                if let Some(token) = place.token {
                    let token = HeaderValue::from_str(&token.to_string());
                    headers.extend(token.ok().map(|token| (QUEUE_TOKEN, token)));
                }
            }
            // RFC 9110, section 15.5.22.
            Self::NoUpgrade => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            // The vendors' SDKs would try again, and again in vain.
            Self::KeyReused => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            _ => {}
        }
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn status_of(error: &ChatError) -> StatusCode {
    match error {
        ChatError::RateLimited { .. }
        | ChatError::Unavailable { .. }
        | ChatError::Connect { .. }
        | ChatError::BreakerOpen { .. }
        | ChatError::Shed { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ChatError::OverBudget { .. } => StatusCode::TOO_MANY_REQUESTS,
        ChatError::Cancelled => StatusCode::CONFLICT,
        ChatError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        ChatError::Authentication { .. }
        | ChatError::Rejected { .. }
        | ChatError::Protocol { .. }
        | ChatError::Interrupted { .. }
        | ChatError::Truncated => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn line(place: Option<&Place>) -> String {
    match place {
        None => "try again later".to_owned(),
        Some(Place {
            token, position, ..
        }) => {
            let how = token.map_or("", |_| ", with the queue token");
            format!("you are number {position} in line, come back after Retry-After{how}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_internal_is_public() {
        let secret = "sk-secret at /srv/app.rs:1";
        let errors = [
            ChatError::Authentication {
                status: 401,
                message: secret.into(),
            },
            ChatError::Rejected {
                status: 400,
                message: secret.into(),
            },
            ChatError::Local {
                detail: secret.into(),
            },
        ];
        for error in errors {
            let text = ApiError::Student(TeachError::Model(error)).to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_shed_call_may_be_sent_again_by_the_client() {
        let shed = ApiError::Student(TeachError::Model(ChatError::Shed {
            retry_after: Duration::from_millis(1_200),
        }));
        assert!(shed.is_retryable());
        let response = shed.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }
}
