#![doc = include_str!("../README.md")]

mod audit;
mod cache;
mod calculator;
mod clock;
mod data;
mod documents;
mod fetch_page;
mod limited;
pub mod metrics;
mod policy;
mod recall;
mod text;
mod translate;
mod typed;
mod upstream;
mod web;
mod web_search;
mod wikipedia;

pub use calculator::Calculator;
pub use clock::Clock;
pub use data::{Data, DataError};
pub use documents::{Documents, DocumentsError};
pub use fetch_page::FetchPage;
pub use limited::{Limited, keep_warm};
pub use policy::{CachePolicy, KeyStrategy, ToolPolicy, WarmPolicy};
pub use recall::Recall;
pub use translate::Translate;
pub use typed::TypedTool;
pub use upstream::UpstreamError;
pub use web::{Resolver, SystemResolver, WebError, WebPost, WebRules};
pub use web_search::{SearchEngine, WebSearch};
pub use wikipedia::Wikipedia;

use lyceum_core::{ToolError, ToolSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::text::cap;

fn spec(name: &str, description: &str, parameters: Value) -> ToolSpec {
    ToolSpec::new(name, description, parameters)
}

/// Reads arguments, in words that let a model correct itself.
fn arguments<T: DeserializeOwned>(value: Value) -> Result<T, ToolError> {
    serde_json::from_value(value).map_err(|error| ToolError::Arguments {
        detail: error.to_string(),
    })
}
