//! Tool calls of models that know none: the tools are described in a prompt, the calls are
//! JSON in the answer's text, one or a list.
//!
//! Invariant: only the model's own answer is read. Deliberately absent: whether the tools
//! named exist; that is decided where they are called.

use std::sync::Arc;

use lyceum_core::{ChatError, Message, Role, Tool, ToolCall};
use serde_json::{Value, json};

use crate::{
    prompts,
    structured::{extract_json, whole_values},
};

/// Names under which models write a list of calls.
const LISTS: [&str; 3] = ["tools", "calls", "tool_calls"];

/// The conversation with the tools described in its instructions, and in the `last` call
/// with word that they are no more.
pub(super) fn told(
    mut messages: Vec<Message>,
    tools: &[Arc<dyn Tool>],
    last: bool,
) -> Result<Vec<Message>, ChatError> {
    // The template prints values in its own notation; arguments are to be JSON.
    let specs = tools.iter().map(|tool| tool.spec());
    let specs: Vec<Value> = specs
        .map(|spec| json!({"name": spec.name, "description": spec.description, "parameters": spec.parameters.to_string()}))
        .collect();
    let block = prompts::rendered("react_tools", json!({"tools": specs}))?;
    let system = messages.first().filter(|first| first.role == Role::System);
    match system.map(|system| format!("{}\n\n{block}", system.content.text())) {
        Some(instructions) => messages[0] = Message::system(instructions),
        None => messages.insert(0, Message::system(block)),
    }
    if last {
        messages.push(Message::user(prompts::rendered("react_last", json!({}))?));
    }
    Ok(messages)
}

/// The calls in an answer: `{"tool": …, "arguments": …}`, a list of these, or several.
pub(super) fn read(answer: &str) -> Vec<ToolCall> {
    let found: Vec<ToolCall> = whole_values(answer).iter().flat_map(calls).collect();
    match found.is_empty() {
        // A call that was cut off is still meant.
        true => extract_json(answer).iter().flat_map(calls).collect(),
        false => found,
    }
}

fn calls(value: &Value) -> Vec<ToolCall> {
    match value {
        Value::Array(items) => items.iter().filter_map(call).collect(),
        Value::Object(fields) => match call(value) {
            Some(call) => vec![call],
            None => {
                let lists = LISTS
                    .iter()
                    .filter_map(|name| fields.get(*name)?.as_array());
                lists.flatten().filter_map(call).collect()
            }
        },
        _ => Vec::new(),
    }
}

fn call(value: &Value) -> Option<ToolCall> {
    let name = value.get("tool")?.as_str()?;
    let arguments = value.get("arguments").cloned().unwrap_or_else(|| json!({}));
    Some(ToolCall::new("", name, arguments.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_in_any_form() {
        let names = |answer: &str| -> Vec<String> {
            read(answer).into_iter().map(|call| call.name).collect()
        };
        let one = r#"{"tool": "a", "arguments": {"x": 1}}"#;
        let other = r#"{"tool": "b"}"#;
        assert_eq!(names(one), ["a"]);
        assert_eq!(names(&format!("[{one}, {other}]")), ["a", "b"]);
        assert_eq!(names(&format!("First {one}\nthen {other}")), ["a", "b"]);
        assert_eq!(
            names(&format!("```json\n{{\"tools\": [{one}, {other}]}}\n```")),
            ["a", "b"]
        );
        assert_eq!(names(r#"{"tool": "a", "arguments": {"x": "#), ["a"]);
        assert_eq!(names(r#"{"gaps": []} I used a tool."#), [""; 0]);
        assert_eq!(read(one)[0].arguments, r#"{"x":1}"#);
        assert_eq!(read(other)[0].arguments, "{}");
    }
}
