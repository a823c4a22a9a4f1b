//! JSON Schema (draft 2020-12) of a state and of its update, for clients that are not Rust.
//!
//! Invariant: what a node's update or a snapshot serialises to is valid under its schema.
//! Deliberately absent: untracked channels, which are never serialised.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::State;

/// A state that can say what its JSON looks like; `#[derive(State)]` with
/// `#[state(schema)]` implements it.
///
/// ```
/// use lyceum_graph::{Described, State};
///
/// /// What is written about a topic.
/// #[derive(State, Clone, Default)]
/// #[state(schema)]
/// struct Essay {
///     /// What it is about.
///     topic: String,
///     #[state(append)]
///     notes: Vec<String>,
/// }
///
/// let schema = Essay::state_schema().to_value();
/// assert_eq!(schema["properties"]["topic"]["type"], "string");
/// assert_eq!(schema["required"], serde_json::json!(["topic", "notes"]));
/// ```
pub trait Described: State {
    /// The schema of the whole state: every saved channel is there.
    fn state_schema() -> Schema;

    /// The schema of what a node writes: every channel may be left out.
    fn update_schema() -> Schema;
}

/// Collects the channels of one schema; used by derived code.
#[doc(hidden)]
#[derive(Debug)]
pub struct Fields {
    generator: SchemaGenerator,
    /// In order of declaration, which a JSON object may not keep.
    names: Vec<Value>,
    properties: Map<String, Value>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            generator: SchemaSettings::draft2020_12().into_generator(),
            names: Vec::new(),
            properties: Map::new(),
        }
    }
}

impl Fields {
    pub fn add<T: JsonSchema>(&mut self, name: &str, doc: &str) {
        let mut schema = self.generator.subschema_for::<T>();
        if !doc.is_empty() {
            schema.insert("description".to_owned(), doc.into());
        }
        self.names.push(name.into());
        self.properties.insert(name.to_owned(), schema.to_value());
    }

    #[must_use]
    pub fn finish(mut self, title: &str, doc: &str, all_required: bool) -> Schema {
        let mut schema = Map::new();
        let meta_schema = self.generator.settings().meta_schema.as_deref();
        if let Some(meta_schema) = meta_schema {
            schema.insert("$schema".to_owned(), meta_schema.into());
        }
        schema.insert("title".to_owned(), title.into());
        if !doc.is_empty() {
            schema.insert("description".to_owned(), doc.into());
        }
        schema.insert("type".to_owned(), "object".into());
        if all_required {
            schema.insert("required".to_owned(), self.names.into());
        }
        schema.insert("properties".to_owned(), self.properties.into());
        schema.insert("additionalProperties".to_owned(), false.into());
        let definitions = self.generator.take_definitions(true);
        if !definitions.is_empty() {
            schema.insert("$defs".to_owned(), definitions.into());
        }
        schema.into()
    }
}
