//! The mode `events`: what runs as a tree of calls, each with a start and an end.
//!
//! Invariant: a call that is told to start is told to end, unless its run ends before.
//! Deliberately absent: calls inside a node other than those of a model.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::log::Log;

pub(crate) struct Runnables {
    metadata: Value,
    name: String,
    run_id: String,
    /// The ids of the models' calls, by message.
    models: BTreeMap<String, String>,
}

impl Runnables {
    pub(crate) fn new(metadata: Value) -> Self {
        let text = |name: &str| {
            let value = metadata.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Self {
            name: text("graph_id"),
            run_id: text("run_id"),
            models: BTreeMap::new(),
            metadata,
        }
    }

    pub(crate) fn begin(&self, log: &Log, input: &Value) {
        let data = json!({ "input": input });
        self.tell(
            log,
            "on_chain_start",
            (&self.name, &self.run_id),
            None,
            &data,
        );
    }

    pub(crate) fn end(&self, log: &Log, output: &Value) {
        let data = json!({ "output": output });
        self.tell(log, "on_chain_end", (&self.name, &self.run_id), None, &data);
    }

    /// A task's start or end.
    pub(crate) fn task(&self, log: &Log, is_over: bool, task: &Value) {
        let text = |name: &str| task.get(name).and_then(Value::as_str).unwrap_or_default();
        let who = (text("name"), text("id"));
        if is_over {
            let data = json!({ "output": task.get("result") });
            self.tell(log, "on_chain_end", who, None, &data);
        } else {
            let data = json!({ "input": task.get("input") });
            self.tell(log, "on_chain_start", who, None, &data);
        }
    }

    /// A piece of what a model says.
    pub(crate) fn piece(&mut self, log: &Log, message: &str, chunk: &Value, about: &Value) {
        let is_new = !self.models.contains_key(message);
        let id = self.models.entry(message.to_owned());
        let id = id.or_insert_with(|| Uuid::new_v4().to_string()).clone();
        let who = (MODEL, id.as_str());
        if is_new {
            let data = json!({ "input": { "messages": [[]] } });
            self.tell(log, "on_chat_model_start", who, Some(about), &data);
        }
        let data = json!({ "chunk": chunk });
        self.tell(log, "on_chat_model_stream", who, Some(about), &data);
    }

    /// All that a model said.
    pub(crate) fn whole(&mut self, log: &Log, id: &str, message: &Value, about: &Value) {
        if let Some(call) = self.models.remove(id) {
            let data = json!({ "output": message });
            self.tell(log, "on_chat_model_end", (MODEL, &call), Some(about), &data);
        }
    }

    fn tell(
        &self,
        log: &Log,
        event: &str,
        (name, run_id): (&str, &str),
        about: Option<&Value>,
        data: &Value,
    ) {
        let told = json!({
            "event": event, "name": name, "run_id": run_id, "tags": [], "data": data,
            "metadata": about.unwrap_or(&self.metadata), "parent_ids": [],
        });
        log.push("events".to_owned(), &told);
    }
}

/// How calls of models are named.
const MODEL: &str = "model";
