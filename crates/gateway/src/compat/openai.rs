//! OpenAI's chat completions, embeddings and responses.
//!
//! Source: OpenAI API reference, "Chat". Fields that Lyceum does not know are sent on as
//! they are and come back as they are.

mod answer;
mod chunks;
mod content;
mod embeddings;
mod request;
pub(crate) mod responses;

pub(crate) use answer::completion;
pub(crate) use chunks::Chunks;
pub(crate) use embeddings::{EmbedIn, embeddings};
pub(crate) use request::{ChatIn, Options, allow, check_messages, most, within};

use lyceum_core::FinishReason;

/// The reason's name.
fn finish_name(reason: &FinishReason) -> &str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Other(other) => other,
        _ => "stop",
    }
}

/// Whether a field of an answer is Lyceum's own.
fn is_own(name: &str) -> bool {
    matches!(
        name,
        "id" | "object" | "created" | "model" | "choices" | "usage"
    )
}
