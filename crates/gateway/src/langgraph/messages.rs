//! Chat messages as a channel: a list in which a message replaces the one of its id.
//!
//! Invariant: every message has an id and a type. Deliberately absent: what providers make
//! of them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The type that removes the message of its id.
const REMOVE: &str = "remove";
/// The id that stands for all messages, in a message that removes.
const ALL: &str = "__remove_all__";

/// Chat messages, oldest first. Each is an object with `id`, `type` and `content`; it is
/// read from such an object, from one with a `role`, or from a plain text.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Messages(pub Vec<Value>);

impl Messages {
    /// The text of the last message.
    #[must_use]
    pub fn last_text(&self) -> &str {
        self.0.last().and_then(text).unwrap_or_default()
    }

    /// One message of a person's.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(vec![message(text.into())])
    }

    /// One message of the model's.
    #[must_use]
    pub fn ai(id: &str, content: &str) -> Self {
        Self(vec![message(json!({
            "type": "ai", "id": id, "content": content, "tool_calls": [], "invalid_tool_calls": [],
        }))])
    }

    /// One result of a tool.
    #[must_use]
    pub fn tool(content: &str, call: &str) -> Self {
        Self(vec![message(json!({
            "type": "tool", "content": content, "tool_call_id": call,
        }))])
    }
}

/// The text of a message, where it is one text.
#[must_use]
pub fn text(message: &Value) -> Option<&str> {
    match message.get("content")? {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.iter().find_map(|part| part.get("text")?.as_str()),
        _ => None,
    }
}

/// Merges messages by id: the reducer of a channel of messages, for
/// `#[state(fold = add_messages)]`.
pub fn add_messages(messages: &mut Messages, written: Messages) {
    for message in written.0 {
        let id = message.get("id").cloned();
        let place = messages
            .0
            .iter()
            .position(|old| old.get("id") == id.as_ref());
        let removes = message.get("type").and_then(Value::as_str) == Some(REMOVE);
        match place {
            _ if removes && id == Some(ALL.into()) => messages.0.clear(),
            Some(place) if removes => {
                messages.0.remove(place);
            }
            Some(place) => messages.0[place] = message,
            None if removes => {}
            None => messages.0.push(message),
        }
    }
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = match Value::deserialize(deserializer)? {
            Value::Array(many) => many,
            Value::Null => Vec::new(),
            one => vec![one],
        };
        Ok(Self(read.into_iter().map(message).collect()))
    }
}

/// A message with everything that clients read.
fn message(given: Value) -> Value {
    let mut fields = match given {
        Value::Object(fields) => fields,
        Value::Array(pair) if pair.len() == 2 => {
            let mut pair = pair.into_iter();
            let mut fields = Map::new();
            fields.insert("role".to_owned(), pair.next().unwrap_or_default());
            fields.insert("content".to_owned(), pair.next().unwrap_or_default());
            fields
        }
        other => Map::from_iter([("content".to_owned(), other)]),
    };
    let role = fields.remove("role");
    let kind = fields.get("type").cloned().or(role);
    let kind = match kind.as_ref().and_then(Value::as_str) {
        Some("user") | None => "human",
        Some("assistant") => "ai",
        Some("developer") => "system",
        Some(other) => other,
    };
    fields.insert("type".to_owned(), kind.into());
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".to_owned(), Uuid::new_v4().to_string().into());
    }
    for name in ["additional_kwargs", "response_metadata"] {
        fields.entry(name).or_insert_with(|| json!({}));
    }
    fields.entry("content").or_insert_with(|| "".into());
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_replaces_the_one_of_its_id_and_others_follow() {
        let read = |value| serde_json::from_value::<Messages>(value).unwrap();
        let mut messages = read(json!([{ "role": "user", "content": "a", "id": "1" }]));
        add_messages(&mut messages, read(json!({ "type": "ai", "content": "b" })));
        add_messages(
            &mut messages,
            read(json!([["human", "c"], { "type": "human", "content": "A", "id": "1" }])),
        );
        let texts: Vec<_> = messages.0.iter().filter_map(text).collect();
        assert_eq!(texts, ["A", "b", "c"]);
        add_messages(&mut messages, read(json!({ "type": "remove", "id": "1" })));
        assert_eq!(messages.0.len(), 2);
        add_messages(&mut messages, read(json!({ "type": "remove", "id": ALL })));
        assert_eq!(messages, Messages::default());
    }
}
