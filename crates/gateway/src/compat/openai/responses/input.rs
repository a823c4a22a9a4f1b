//! Items as messages: what a client says, what it repeats of earlier answers, and what its
//! tools gave.
//!
//! Invariant: calls of functions that stand together are one message, as providers want
//! them, and reasoning belongs to the message behind it.

use lyceum_core::{Content, Message, Part, Reasoning, ReasoningSeal, Role, ToolCall};
use serde_json::{Map, Value};

use crate::{compat::invalid, error::ApiError};

/// Turns items into messages. `path` names them in errors.
pub(crate) fn messages(path: &str, items: &[Value]) -> Result<Vec<Message>, ApiError> {
    let mut all = Messages::default();
    for (at, item) in items.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let Value::Object(item) = item else {
            return Err(invalid(&path, "it must be an item"));
        };
        all.item(&path, item)?;
    }
    Ok(all.messages)
}

#[derive(Default)]
struct Messages {
    messages: Vec<Message>,
    /// Reasoning that waits for its message.
    reasoning: Vec<Reasoning>,
}

impl Messages {
    fn item(&mut self, path: &str, item: &Map<String, Value>) -> Result<(), ApiError> {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let needs = |name: &str| {
            let found = text(name).map(str::to_owned);
            found.ok_or_else(|| invalid(&format!("{path}.{name}"), "the item needs it"))
        };
        let kind = match item.get("type") {
            None | Some(Value::Null) => "message",
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(invalid(&format!("{path}.type"), "it must be a text")),
        };
        match kind {
            "message" => {
                let role = match needs("role")?.as_str() {
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    "system" | "developer" => Role::System,
                    _ => {
                        let roles = "it must be user, assistant, system or developer";
                        return Err(invalid(&format!("{path}.role"), roles));
                    }
                };
                let content = content(&format!("{path}.content"), item.get("content"))?;
                self.add(Message::new(role, content));
            }
            "function_call" => {
                let call = ToolCall::new(needs("call_id")?, needs("name")?, needs("arguments")?);
                match self.messages.last_mut() {
                    Some(last) if last.role == Role::Assistant && self.reasoning.is_empty() => {
                        last.tool_calls.push(call);
                    }
                    _ => {
                        let mut message = Message::assistant("");
                        message.tool_calls.push(call);
                        self.add(message);
                    }
                }
            }
            "function_call_output" => {
                let content = content(&format!("{path}.output"), item.get("output"))?;
                self.add(Message::tool(needs("call_id")?, content));
            }
            "reasoning" => self.reasoning.push(reasoning(item)),
            other => {
                let detail = format!("items of type {other:?} are not understood here");
                return Err(invalid(&format!("{path}.type"), &detail));
            }
        }
        Ok(())
    }

    fn add(&mut self, mut message: Message) {
        let reasoning = std::mem::take(&mut self.reasoning);
        if message.role == Role::Assistant {
            message.reasoning = reasoning;
        }
        self.messages.push(message);
    }
}

fn content(path: &str, content: Option<&Value>) -> Result<Content, ApiError> {
    match content {
        Some(Value::String(text)) => Ok(Content::Text(text.clone())),
        Some(Value::Array(parts)) => {
            let parts = parts.iter().enumerate();
            let parts: Vec<Part> = parts
                .map(|(at, value)| part(&format!("{path}[{at}]"), value))
                .collect::<Result<_, _>>()?;
            Ok(match <[Part; 1]>::try_from(parts) {
                // What every provider understands.
                Ok([Part::Text { text, .. }]) => Content::Text(text),
                Ok([part]) => Content::Parts(vec![part]),
                Err(parts) => Content::Parts(parts),
            })
        }
        _ => Err(invalid(path, "it must be a text or a list of parts")),
    }
}

fn part(path: &str, value: &Value) -> Result<Part, ApiError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let said = |name: &str| {
        let text =
            text(name).ok_or_else(|| invalid(&format!("{path}.{name}"), "it must be a text"));
        let extra = Map::new();
        text.map(|text| Part::Text { text, extra })
    };
    match text("type").as_deref() {
        Some("input_text" | "output_text" | "text") => said("text"),
        Some("refusal") => said("refusal"),
        Some("input_image") => {
            let Some(url) = text("image_url") else {
                let detail = "an image needs its address: files are not kept here";
                return Err(invalid(&format!("{path}.image_url"), detail));
            };
            let detail = value.get("detail").filter(|detail| detail.is_string());
            let detail = detail.map(|detail| ("detail".to_owned(), detail.clone()));
            Ok(Part::Image {
                url,
                extra: detail.into_iter().collect(),
            })
        }
        Some(other) => {
            let detail = format!("parts of type {other:?} are not understood here");
            Err(invalid(&format!("{path}.type"), &detail))
        }
        None => Err(invalid(&format!("{path}.type"), "a part needs it")),
    }
}

fn reasoning(item: &Map<String, Value>) -> Reasoning {
    let texts = |name: &str| {
        let parts = item
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let texts = parts.filter_map(|part| part.get("text")?.as_str());
        texts.collect::<Vec<_>>().join("\n")
    };
    let (summary, content) = (texts("summary"), texts("content"));
    Reasoning {
        text: if content.is_empty() { summary } else { content },
        seal: item
            .get("encrypted_content")
            .and_then(Value::as_str)
            .and_then(unseal),
    }
}

/// A seal as a text that clients carry and do not read.
pub(super) fn seal(seal: &ReasoningSeal) -> String {
    match seal {
        ReasoningSeal::Signature(text) => format!("signature:{text}"),
        ReasoningSeal::Redacted(text) => format!("redacted:{text}"),
    }
}

/// What [`seal`] wrote. Seals of other servers mean nothing here.
fn unseal(text: &str) -> Option<ReasoningSeal> {
    let (kind, text) = text.split_once(':')?;
    match kind {
        "signature" => Some(ReasoningSeal::Signature(text.to_owned())),
        "redacted" => Some(ReasoningSeal::Redacted(text.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(items: &Value) -> Vec<Message> {
        messages("input", items.as_array().unwrap()).unwrap()
    }

    #[test]
    fn calls_that_stand_together_are_one_message() {
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
        let output =
            |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "1"});
        let found = read(&json!([
            {"role": "user", "content": "both"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "signature:s"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
            call("a"), call("b"), output("a"), output("b"), call("c"), output("c"),
        ]));
        let roles: Vec<Role> = found.iter().map(|message| message.role).collect();
        use Role::{Assistant, Tool, User};
        assert_eq!(roles, [User, Assistant, Tool, Tool, Assistant, Tool]);
        let ids: Vec<&str> = found[1].tool_calls.iter().map(|c| &*c.id).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(found[1].content, Content::from("ok"));
        let sealed = ReasoningSeal::Signature("s".into());
        assert_eq!(
            found[1].reasoning,
            [Reasoning {
                text: "hm".into(),
                seal: Some(sealed)
            }]
        );
        assert_eq!(found[3].tool_call_id.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (item, path) in [
            (
                json!({"type": "item_reference", "id": "x"}),
                "input[0].type",
            ),
            (
                json!({"role": "user", "content": [{"type": "input_file"}]}),
                "input[0].content[0].type",
            ),
            (json!({"role": "user"}), "input[0].content"),
            (
                json!({"type": "function_call", "name": "f"}),
                "input[0].call_id",
            ),
            (json!("x"), "input[0]"),
        ] {
            let error = messages("input", &[item]).unwrap_err();
            let ApiError::Invalid { path: found, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(found, path);
        }
    }
}
