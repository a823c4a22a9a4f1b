//! Why a request of this API is refused: a status and a text for a person.
//!
//! Invariant: what failed inside goes to the log alone. Deliberately absent: JSON; clients
//! show the body as it is.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lyceum_core::RecordError;
use lyceum_graph::{RunError, SaverError};

use crate::error::ApiError;

/// A refusal.
#[derive(Debug)]
pub(crate) enum Refusal {
    Say(StatusCode, String),
    Api(ApiError),
}

pub(crate) type Answer<T = Response> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn not_found(what: &str) -> Self {
        Self::Say(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    pub(crate) fn conflict(text: &str) -> Self {
        Self::Say(StatusCode::CONFLICT, text.to_owned())
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Say(StatusCode::UNPROCESSABLE_ENTITY, text.into())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        let cause = error.source.as_ref() as &dyn std::error::Error;
        tracing::error!(error = cause, "records cannot be kept");
        Self::Api(if error.retryable {
            ApiError::Busy
        } else {
            ApiError::Internal { what: "records" }
        })
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::invalid(format!("the body is not what is expected here: {error}"))
    }
}

impl From<RunError> for Refusal {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Saver(SaverError::Busy { .. }) => {
                Self::conflict("Thread is busy: wait for its run or cancel it")
            }
            RunError::NoCheckpoint => Self::not_found("Checkpoint"),
            RunError::UnknownInPlan { node, .. } => {
                Self::invalid(format!("the graph has no node {node}"))
            }
            RunError::Refused { source } => {
                Self::invalid(format!("the graph does not take this: {source}"))
            }
            error => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "a graph's thread cannot be used");
                Self::Api(ApiError::Internal { what: "thread" })
            }
        }
    }
}

impl From<SaverError> for Refusal {
    fn from(error: SaverError) -> Self {
        RunError::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Say(status, text) => (status, text).into_response(),
            Self::Api(error) => error.into_response(),
        }
    }
}
