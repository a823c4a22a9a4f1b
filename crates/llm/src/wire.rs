//! What both dialects' JSON has in common.

use lyceum_core::ChatError;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};

/// Asks for JSON of a schema in words, where the provider has no field for it.
pub(crate) fn schema_instruction(schema: &Value) -> String {
    let text = include_str!("../prompts/json_schema.md").trim();
    text.replace("{schema}", &schema.to_string())
}

/// Asks for any JSON object in words.
pub(crate) fn object_instruction() -> &'static str {
    include_str!("../prompts/json_object.md").trim()
}

/// Writes fields that Lyceum does not know, except those it writes itself.
pub(crate) fn extra_fields<M: SerializeMap>(
    map: &mut M,
    fields: &Map<String, Value>,
    own: impl Fn(&str) -> bool,
) -> Result<(), M::Error> {
    for (name, value) in fields.iter().filter(|(name, _)| !own(name)) {
        map.serialize_entry(name, value)?;
    }
    Ok(())
}

/// A request that has no JSON form. No request of this crate's types is known to be one.
#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
pub(crate) fn unwritable(error: serde_json::Error) -> ChatError {
    ChatError::Rejected {
        status: 400,
        message: format!("the request has no JSON form: {error}"),
    }
}

/// An unknown reason for the end, cut to a length fit for logs.
pub(crate) fn unknown_reason(reason: &str) -> String {
    reason.chars().take(64).collect()
}
