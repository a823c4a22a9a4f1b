//! The OpenAPI document: what routes say of themselves, and the shapes of the vendors' APIs.
//!
//! Invariant: every reference to a shape has one. The vendors' shapes are files because they
//! are the vendors': types here know what is acted on, and let the rest pass.

use bytes::Bytes;
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

/// Shapes by name, each file those of one API.
const VENDORS: [&str; 3] = [
    include_str!("vendors/openai.json"),
    include_str!("vendors/responses.json"),
    include_str!("vendors/anthropic.json"),
];

/// How the names of conversations, tenants and users are written, as [`lyceum_core::SessionId`] reads
/// them. What describes a route takes literals alone, so `NAME` stands there in its place.
const NAME: &str = r"^(?!\.{1,2}$)[A-Za-z0-9._:@-]+$";

/// Writes the document, in which a server that needs keys says so. One built from types always
/// serialises, and the files are checked by the tests; an empty document would fail them.
pub(crate) fn write(routes: &OpenApi, needs_key: bool) -> Bytes {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    complete(&mut document, needs_key);
    if let Some(Value::Object(shapes)) = document.pointer_mut("/components/schemas") {
        for file in VENDORS {
            shapes.extend(serde_json::from_str::<Map<String, Value>>(file).unwrap_or_default());
        }
    }
    name(&mut document);
    document.to_string().into()
}

/// Writes [`NAME`] where its name stands for it.
fn name(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(text) if key == "pattern" && text == "NAME" => {
                        NAME.clone_into(text);
                    }
                    field => name(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(name),
        _ => {}
    }
}

/// Says that a body is needed where one is described, and takes away that routes that know keys
/// answer without one.
fn complete(document: &mut Value, needs_key: bool) {
    let paths = document
        .pointer_mut("/paths")
        .and_then(Value::as_object_mut);
    let operations = paths.into_iter().flat_map(Map::values_mut);
    for operation in operations
        .filter_map(Value::as_object_mut)
        .flat_map(Map::values_mut)
    {
        if let Some(Value::Object(body)) = operation.get_mut("requestBody") {
            body.insert("required".to_owned(), true.into());
        }
        if needs_key && let Some(Value::Array(ways)) = operation.get_mut("security") {
            ways.retain(|way| way.as_object().is_none_or(|way| !way.is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    found.insert(to.clone());
                }
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    fn patterns(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(pattern)) = fields.get("pattern") {
                    found.push(pattern.clone());
                }
                fields.values().for_each(|field| patterns(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| patterns(item, found)),
            _ => {}
        }
    }

    #[test]
    fn names_have_one_pattern() {
        let (_, routes) = crate::routes::all().split_for_parts();
        let document: Value = serde_json::from_slice(&write(&routes, false)).unwrap();
        let mut found = Vec::new();
        patterns(&document, &mut found);
        assert!(found.iter().all(|pattern| pattern != "NAME"));
        let of = |place: &str| document.pointer(place).and_then(Value::as_str);
        for place in [
            "/components/schemas/ChatInput/properties/session_id/pattern",
            "/paths/~1sessions~1{id}/get/parameters/0/schema/pattern",
        ] {
            assert_eq!(of(place), Some(NAME), "{place}");
        }
        // Those that say the same in their own words would be missed when it changes.
        let names = found.iter().filter(|pattern| pattern.contains("._:@-]+"));
        assert!(names.clone().count() > 10 && names.clone().all(|one| one == NAME));
    }

    #[test]
    fn every_shape_is_named_and_a_server_with_keys_wants_one() {
        let (_, routes) = crate::routes::all().split_for_parts();
        let document: Value = serde_json::from_slice(&write(&routes, false)).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let shapes = document["components"]["schemas"].as_object().unwrap();
        let chat = "/paths/~1chat/post/security";
        assert_eq!(document.pointer(chat).unwrap().as_array().unwrap().len(), 3);
        let keyed: Value = serde_json::from_slice(&write(&routes, true)).unwrap();
        assert_eq!(keyed.pointer(chat).unwrap().as_array().unwrap().len(), 2);
        for name in shapes.keys() {
            let named = found.contains(&format!("#/components/schemas/{name}"));
            assert!(named, "{name} is named nowhere");
        }
    }
}
