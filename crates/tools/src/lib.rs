#![doc = include_str!("../README.md")]

mod calculator;
mod clock;
mod documents;
mod limited;
pub mod metrics;
mod recall;
mod web_search;

pub use calculator::Calculator;
pub use clock::Clock;
pub use documents::{Documents, DocumentsError};
pub use limited::{Limited, Limits};
pub use recall::Recall;
pub use web_search::{WebSearch, WebSearchError};

use lyceum_core::{ToolError, ToolSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The most characters of a result that go back to a model.
const MAX_RESULT_CHARS: usize = 4_000;

fn spec(name: &str, description: &str, parameters: Value) -> ToolSpec {
    ToolSpec::new(name, description, parameters)
}

/// Reads arguments, in words that let a model correct itself.
fn arguments<T: DeserializeOwned>(value: Value) -> Result<T, ToolError> {
    serde_json::from_value(value).map_err(|error| ToolError::Arguments {
        detail: error.to_string(),
    })
}

/// Cuts a text at a character boundary and says so.
fn cap(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
