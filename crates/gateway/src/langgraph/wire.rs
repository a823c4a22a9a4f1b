//! From what a graph says to the events that clients asked for.
//!
//! Invariant: an event belongs to a mode that was asked for. Deliberately absent: framing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    log::Log,
    resources::now,
    served::{Said, What, shown},
};

/// Writes a run's log in the modes that were asked for.
pub(crate) struct Wire {
    modes: Vec<String>,
    subgraphs: bool,
    metadata: Value,
    partial: BTreeMap<String, Value>,
    complete: Vec<(String, Value)>,
}

impl Wire {
    pub(crate) fn new(asked: &Value, metadata: Value) -> Self {
        let modes = match asked.get("stream_mode") {
            Some(Value::String(mode)) => vec![mode.clone()],
            Some(Value::Array(modes)) => {
                let modes = modes.iter().filter_map(Value::as_str);
                modes.map(str::to_owned).collect()
            }
            _ => vec!["values".to_owned()],
        };
        let subgraphs = asked.get("stream_subgraphs") == Some(&Value::Bool(true));
        Self {
            modes,
            subgraphs,
            metadata,
            partial: BTreeMap::new(),
            complete: Vec::new(),
        }
    }

    fn has(&self, mode: &str) -> bool {
        self.modes.iter().any(|asked| asked == mode)
    }

    /// Writes what was said; answers questions of form only.
    pub(crate) fn tell(&mut self, log: &Log, said: Said) {
        if !said.namespace.is_empty() && !self.subgraphs {
            return;
        }
        let path = said.namespace.join("|");
        let name = |event: &str| match path.as_str() {
            "" => event.to_owned(),
            path => format!("{event}|{path}"),
        };
        let debug = |kind: &str, payload: &Value| json!({ "type": kind, "step": said.step, "timestamp": now(), "payload": payload });
        match said.what {
            What::Values(values) => {
                if self.has("values") {
                    log.push(name("values"), &values);
                }
                for (event, message) in std::mem::take(&mut self.complete) {
                    log.push(event, &json!([message]));
                }
            }
            What::Updates { node, update } => {
                self.messages(log, &node, &update, said.step, &path);
                if self.has("updates") {
                    log.push(name("updates"), &json!({ node: update }));
                }
            }
            What::Asked(asked) => {
                let asked = json!({ "__interrupt__": shown(&asked) });
                for mode in ["updates", "values"] {
                    if self.has(mode) {
                        log.push(name(mode), &asked);
                    }
                }
            }
            What::Message {
                node,
                id,
                index,
                piece,
            } => {
                let piece_text = piece.get("content").and_then(Value::as_str);
                let piece_text = piece_text.or(piece.as_str()).unwrap_or_default();
                let chunk = |content: &str, kind: &str| {
                    json!({
                        "id": id, "type": kind, "content": content, "additional_kwargs": {},
                        "response_metadata": {}, "tool_calls": [], "tool_call_chunks": [],
                        "invalid_tool_calls": [],
                    })
                };
                let about = self.about(&node, said.step, &path);
                if self.has("messages-tuple") {
                    let chunk = chunk(piece_text, "AIMessageChunk");
                    log.push(name("messages"), &json!([chunk, about]));
                }
                let whole = self.partial.entry(id.clone()).or_default();
                // A later attempt says the message again from its start.
                let before = if index == 0 {
                    ""
                } else {
                    whole.as_str().unwrap_or_default()
                };
                let text = format!("{before}{piece_text}");
                *whole = text.clone().into();
                if self.has("messages") {
                    if index == 0 {
                        let event = name("messages/metadata");
                        log.push(event, &json!({ id.clone(): { "metadata": about } }));
                    }
                    log.push(name("messages/partial"), &json!([chunk(&text, "ai")]));
                }
            }
            What::Custom(value) => {
                if self.has("custom") {
                    log.push(name("custom"), &value);
                }
            }
            What::Task(task) => {
                if self.has("tasks") {
                    log.push(name("tasks"), &task);
                }
                if self.has("debug") {
                    let ended = task.get("error").is_some();
                    let kind = if ended { "task_result" } else { "task" };
                    log.push(name("debug"), &debug(kind, &task));
                }
            }
            What::Checkpoint(checkpoint) => {
                if self.has("checkpoints") {
                    log.push(name("checkpoints"), &checkpoint);
                }
                if self.has("debug") {
                    log.push(name("debug"), &debug("checkpoint", &checkpoint));
                }
            }
            What::Finished { .. } => {}
        }
    }

    /// The run stopped where it was told to stop, with nothing to answer.
    pub(crate) fn paused(&self, log: &Log) {
        for mode in ["updates", "values"] {
            if self.has(mode) {
                log.push(mode.to_owned(), &json!({ "__interrupt__": [] }));
            }
        }
    }

    fn about(&self, node: &str, step: u64, path: &str) -> Value {
        let mut about = self.metadata.clone();
        if let Some(fields) = about.as_object_mut() {
            fields.insert("langgraph_node".to_owned(), node.into());
            fields.insert("langgraph_step".to_owned(), step.into());
            fields.insert("langgraph_checkpoint_ns".to_owned(), path.into());
        }
        about
    }

    /// Whole messages of an update.
    fn messages(&mut self, log: &Log, node: &str, update: &Value, step: u64, path: &str) {
        let Some(Value::Array(messages)) = update.get("messages") else {
            return;
        };
        let name = |event: &str| match path {
            "" => event.to_owned(),
            path => format!("{event}|{path}"),
        };
        let about = self.about(node, step, path);
        for message in messages {
            let id = message
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let was_streamed = self.partial.contains_key(id);
            if self.has("messages-tuple") && !was_streamed {
                log.push(name("messages"), &json!([message, about]));
            }
            if self.has("messages") {
                if !was_streamed {
                    let about = json!({ id: { "metadata": about } });
                    log.push(name("messages/metadata"), &about);
                }
                self.complete
                    .push((name("messages/complete"), message.clone()));
            }
        }
    }
}
