//! What is said of failures behind the gateway: what to do, and nothing from inside.

use lyceum_core::{ChatError, EmbedError, TeachError};

pub(super) fn embedder(error: &EmbedError) -> &'static str {
    match error {
        EmbedError::Call(error) => model(error),
        EmbedError::Closed => "the server is going away: try again",
        _ => {
            "the embedding model's answer is not what was promised: the request id leads the operator to the cause"
        }
    }
}

pub(super) fn student(error: &TeachError) -> &'static str {
    match error {
        TeachError::Model(error) => model(error),
        TeachError::Storage {
            retryable: true, ..
        } => "the conversation cannot be stored now: try again",
        TeachError::Storage { .. } => {
            "the conversation cannot be stored: the request id leads the operator to the cause"
        }
        _ => "the student failed: the request id leads the operator to the cause",
    }
}

fn model(error: &ChatError) -> &'static str {
    match error {
        ChatError::RateLimited { .. } => {
            "the model provider's rate limit is reached: try again later"
        }
        ChatError::Unavailable { .. } => "the model provider is unavailable: try again later",
        ChatError::Connect { .. } => "the model provider cannot be reached: try again later",
        ChatError::BreakerOpen { .. } => "the model provider is unavailable: try again later",
        ChatError::ContextTooLong { .. } => {
            "the conversation is longer than the model's context: send less"
        }
        ChatError::OverBudget { .. } => "the budget for model calls is used up",
        ChatError::Shed { .. } => "too many calls are waiting for the model: try again later",
        ChatError::Cancelled => "the conversation was ended while its call waited",
        ChatError::Timeout { .. } => "the model did not answer in time: try again",
        ChatError::Authentication { .. } => {
            "the model provider refused the key: check the server's configuration"
        }
        ChatError::Rejected { .. } => {
            "the model provider refused the request: the request id leads the operator to the cause"
        }
        ChatError::Protocol { .. } => "the model provider's answer was unreadable: try again",
        ChatError::Interrupted { .. } | ChatError::Truncated => {
            "the model provider's answer was cut short: try again"
        }
        ChatError::Local { .. } => {
            "the local model failed: the request id leads the operator to the cause"
        }
        _ => "the model call failed: the request id leads the operator to the cause",
    }
}
