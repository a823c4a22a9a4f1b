//! A value that follows a JSON schema.
//!
//! Covers what tools and structured answers use: objects, arrays, strings, numbers,
//! `enum`, `const`, `anyOf`/`oneOf`/`allOf`, local `$ref`, bounds of length. Deliberately
//! absent: `pattern`, `format`, conditions; a schema that needs them gets a value of the
//! right type.

use serde_json::{Map, Value, json};

/// References and nesting deeper than this end in `null`.
const MAX_DEPTH: usize = 16;

/// A value of the schema in which free strings are `words`.
pub(crate) fn of_schema(schema: &Value, words: &str) -> Value {
    Example {
        root: schema,
        words,
    }
    .value(schema, 0)
}

struct Example<'a> {
    root: &'a Value,
    words: &'a str,
}

impl Example<'_> {
    fn value(&self, schema: &Value, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let pointer = reference.strip_prefix('#').unwrap_or_default();
            return self
                .root
                .pointer(pointer)
                .map_or(Value::Null, |target| self.value(target, depth + 1));
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(value) = schema["enum"].as_array().and_then(|all| all.first()) {
            return value.clone();
        }
        for alternatives in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema[alternatives].as_array().and_then(|all| all.first()) {
                return self.value(first, depth + 1);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => Value::String(self.string(schema)),
            "integer" | "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
            "boolean" => json!(true),
            _ => Value::Null,
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let Some(properties) = schema["properties"].as_object() else {
            return Value::Object(Map::new());
        };
        let members = properties
            .iter()
            .map(|(name, property)| (name.clone(), self.value(property, depth + 1)));
        Value::Object(members.collect())
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let length = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 8);
        let item = schema
            .get("items")
            .map_or(Value::Null, |items| self.value(items, depth + 1));
        Value::Array(vec![item; usize::try_from(length).unwrap_or(1)])
    }

    fn string(&self, schema: &Value) -> String {
        let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
        let kept = self
            .words
            .chars()
            .take(usize::try_from(most).unwrap_or(usize::MAX));
        kept.collect()
    }
}

/// The schema's type: the first that is not `null` where several are allowed.
fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_follows_the_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "gaps": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/gap"}},
                "note": {"type": ["null", "string"], "maxLength": 3},
                "score": {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "null"}]},
                "sure": {"type": "boolean"},
            },
            "$defs": {"gap": {"type": "object", "properties": {
                "kind": {"enum": ["vague_word", "other"]},
                "quote": {"type": "string"},
            }}},
        });
        let gap = json!({"kind": "vague_word", "quote": "你好吗 x"});
        let expected = json!({"gaps": [gap, gap], "note": "你好吗", "score": 5, "sure": true});
        assert_eq!(of_schema(&schema, "你好吗 x"), expected);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        let depth = of_schema(&schema, "").to_string().matches("next").count();
        assert!(depth <= MAX_DEPTH, "{depth}");
    }
}
