//! From what a graph says to the events that clients asked for.
//!
//! Invariant: an event belongs to a mode that was asked for. Deliberately absent: framing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    erased::{Said, Stored, What, shown},
    log::Log,
    resources::now,
    runnable::Runnables,
    served::without_unset,
    states::{self, At},
};

/// The fields that were written, by the path of the graph they are in.
#[derive(Debug, Default)]
pub(crate) struct Written(BTreeMap<String, BTreeSet<String>>);

impl Written {
    pub(crate) fn add<'a>(&mut self, path: &str, names: impl IntoIterator<Item = &'a String>) {
        let fields = self.0.entry(path.to_owned()).or_default();
        fields.extend(names.into_iter().cloned());
    }

    pub(crate) fn without_unset(&self, path: &str, state: Value) -> Value {
        let fields = self.0.get(path);
        without_unset(state, |name| {
            fields.is_some_and(|fields| fields.contains(name))
        })
    }
}

/// Writes a run's log in the modes that were asked for.
pub(crate) struct Wire {
    modes: Vec<String>,
    subgraphs: bool,
    thread_id: String,
    metadata: Value,
    written: Written,
    /// The state before the input is taken in.
    before: Value,
    partial: BTreeMap<String, Value>,
    complete: Vec<(String, Value)>,
    runnables: Runnables,
}

impl Wire {
    pub(crate) fn new(asked: &Value, thread_id: &str, metadata: Value) -> Self {
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
            thread_id: thread_id.to_owned(),
            runnables: Runnables::new(metadata.clone()),
            metadata,
            written: Written::default(),
            before: Value::Null,
            partial: BTreeMap::new(),
            complete: Vec::new(),
        }
    }

    /// The state that the run begins on, and what it will have written.
    pub(crate) fn begin(&mut self, log: &Log, before: Value, fields: &[String], input: &Value) {
        self.written.add("", fields);
        self.before = before;
        if self.has("events") {
            self.runnables.begin(log, input);
        }
    }

    fn has(&self, mode: &str) -> bool {
        self.modes.iter().any(|asked| asked == mode)
    }

    /// The state without what was never written.
    pub(crate) fn shown(&self, values: Value) -> Value {
        self.written.without_unset("", values)
    }

    /// Writes what was said; answers questions of form only.
    pub(crate) fn tell(&mut self, log: &Log, said: &Said) {
        let path = said.namespace.join("|");
        if let What::Updates {
            update: Value::Object(fields),
            ..
        } = &said.what
        {
            self.written.add(&path, fields.keys());
        }
        if !said.namespace.is_empty() && !self.subgraphs {
            return;
        }
        let name = |event: &str| match path.as_str() {
            "" => event.to_owned(),
            path => format!("{event}|{path}"),
        };
        match &said.what {
            What::Values(values) => {
                if self.has("values") {
                    let values = self.written.without_unset(&path, values.clone());
                    log.push(name("values"), &values);
                }
                for (event, message) in std::mem::take(&mut self.complete) {
                    log.push(event, &json!([message]));
                }
            }
            What::Updates { node, update } => {
                self.messages(log, node, update, said.step, &path);
                if self.has("updates") {
                    log.push(name("updates"), &json!({ node: update }));
                }
            }
            // A subgraph that stops where it was told to asks nothing.
            What::Asked { interrupts, .. } if interrupts.is_empty() => {}
            What::Asked { task, interrupts } => {
                let asked = json!({ "__interrupt__": shown(interrupts, Some(task)) });
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
            } => self.piece(log, said, &path, (node, id, *index, piece)),
            What::Custom(value) => {
                if self.has("custom") && value.get(TOOL).is_none() {
                    log.push(name("custom"), value);
                }
            }
            What::Started(task) => {
                self.task(log, &name("tasks"), &name("debug"), "task", said, task);
            }
            What::Ended(task) => {
                let kind = "task_result";
                self.task(log, &name("tasks"), &name("debug"), kind, said, task);
            }
            What::Checkpoint(stored) => {
                let input = (stored.head.source == lyceum_graph::Source::Input).then_some(At {
                    id: stored.head.id,
                    is_input: true,
                });
                for at in input.into_iter().chain([stored.head.id.into()]) {
                    self.checkpoint(log, &name("checkpoints"), &name("debug"), &path, stored, at);
                }
            }
            What::Resumed(stored) => {
                let fields: Vec<_> = channels(stored);
                self.written.add(&path, &fields);
                let at = stored.head.id.into();
                self.checkpoint(log, &name("checkpoints"), &name("debug"), &path, stored, at);
                if self.has("values") {
                    let values = self.written.without_unset(&path, stored.state.clone());
                    log.push(name("values"), &values);
                }
            }
            What::Finished { values, .. } => {
                if self.has("events") {
                    self.runnables.end(log, values);
                }
            }
        }
    }

    fn task(&mut self, log: &Log, tasks: &str, debug: &str, kind: &str, said: &Said, task: &Value) {
        if self.has("tasks") {
            log.push(tasks.to_owned(), task);
        }
        if self.has("debug") {
            log.push(debug.to_owned(), &debugged(kind, said.step, task));
        }
        if self.has("events") {
            self.runnables.task(log, kind == "task_result", task);
        }
    }

    fn checkpoint(
        &self,
        log: &Log,
        checkpoints: &str,
        debug: &str,
        path: &str,
        stored: &Stored,
        at: At,
    ) {
        if !self.has("checkpoints") && !self.has("debug") {
            return;
        }
        let (values, next, parent) = if at.is_input {
            let before = if path.is_empty() {
                self.before.clone()
            } else {
                json!({})
            };
            let parent = stored.head.parent.map(At::from);
            (before, vec!["__start__"], parent)
        } else {
            let values = self.written.without_unset(path, stored.state.clone());
            let next = stored.next.iter().map(|(node, _)| node.as_str());
            (values, next.collect(), states::parent(&stored.head))
        };
        let tasks = stored.next.iter().filter(|_| !at.is_input);
        let tasks: Vec<_> = tasks
            .map(
                |(node, task)| json!({ "id": task, "name": node, "interrupts": [], "state": null }),
            )
            .collect();
        let place = |at: At| states::place(&self.thread_id, path, at);
        let shown = json!({
            "values": values, "next": next, "tasks": tasks,
            "config": { "configurable": place(at) },
            "parent_config": parent.map(|parent| json!({ "configurable": place(parent) })),
            "checkpoint": place(at), "parent_checkpoint": parent.map(place),
            "metadata": states::metadata(&self.thread_id, path.is_empty(), &stored.head, at),
        });
        if self.has("checkpoints") {
            log.push(checkpoints.to_owned(), &shown);
        }
        if self.has("debug") {
            let told = debugged("checkpoint", stored.head.step, &shown);
            log.push(debug.to_owned(), &told);
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
            fields.insert("langgraph_triggers".to_owned(), json!([]));
            fields.insert("langgraph_path".to_owned(), json!(["__pregel_pull", node]));
        }
        about
    }

    /// A piece of a message that is being written.
    fn piece(
        &mut self,
        log: &Log,
        said: &Said,
        path: &str,
        (node, id, index, piece): (&str, &str, u32, &Value),
    ) {
        let name = |event: &str| match path {
            "" => event.to_owned(),
            path => format!("{event}|{path}"),
        };
        let text = piece_text(piece);
        let chunk = |content: &str, kind: &str| {
            json!({
                "id": id, "type": kind, "content": content, "additional_kwargs": {},
                "response_metadata": {}, "tool_calls": [], "tool_call_chunks": [],
                "invalid_tool_calls": [],
            })
        };
        let about = self.about(node, said.step, path);
        if self.has("messages-tuple") {
            let chunk = chunk(text, "AIMessageChunk");
            log.push(name("messages"), &json!([chunk, about]));
        }
        if self.has("events") {
            self.runnables
                .piece(log, id, &chunk(text, "AIMessageChunk"), &about);
        }
        let whole = self.partial.entry(id.to_owned()).or_default();
        // A later attempt says the message again from its start.
        let before = if index == 0 {
            ""
        } else {
            whole.as_str().unwrap_or_default()
        };
        let text = format!("{before}{text}");
        *whole = text.clone().into();
        if self.has("messages") {
            if index == 0 {
                let event = name("messages/metadata");
                let mut told = Map::new();
                told.insert(id.to_owned(), json!({ "metadata": about }));
                log.push(event, &Value::Object(told));
            }
            log.push(name("messages/partial"), &json!([chunk(&text, "ai")]));
        }
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
        for message in messages.iter().filter(|message| message.is_object()) {
            let id = message
                .get("id")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let was_streamed = self.partial.contains_key(id);
            if self.has("messages-tuple") && !was_streamed {
                log.push(name("messages"), &json!([message, about]));
            }
            if self.has("events") && was_streamed {
                self.runnables.whole(log, id, message, &about);
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

/// The member of what a node emits that marks it as news of a tool.
pub(crate) const TOOL: &str = "__tool__";

/// The text of a piece of a message.
pub(crate) fn piece_text(piece: &Value) -> &str {
    let text = piece.get("content").and_then(Value::as_str);
    text.or(piece.as_str()).unwrap_or_default()
}

/// The fields that a checkpoint has values of.
pub(crate) fn channels(stored: &Stored) -> Vec<String> {
    let values = stored.head.values.iter();
    values.map(|value| value.channel.clone()).collect()
}

fn debugged(kind: &str, step: u64, payload: &Value) -> Value {
    json!({ "type": kind, "step": step, "timestamp": now(), "payload": payload })
}
