//! What clients create: assistants, threads and runs, as they are stored and shown.
//!
//! Invariant: every field that a client reads is always present. Deliberately absent: items
//! of the store, which have no life of their own.

use lyceum_graph::CheckpointId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::served::{View, shown};

pub(crate) const ASSISTANT: &str = "lg_assistant";
pub(crate) const THREAD: &str = "lg_thread";
pub(crate) const RUN: &str = "lg_run";
pub(crate) const QUEUE: &str = "lg_queue";
pub(crate) const ITEM: &str = "lg_item";

/// An assistant: a graph with a configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Assistant {
    pub(crate) assistant_id: String,
    pub(crate) graph_id: String,
    pub(crate) config: Value,
    pub(crate) context: Value,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) metadata: Value,
    pub(crate) version: u64,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
}

/// An assistant with everything it ever was, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Versions {
    pub(crate) latest: u64,
    pub(crate) all: Vec<Assistant>,
}

impl Versions {
    pub(crate) fn current(&self) -> Option<&Assistant> {
        self.all.iter().find(|one| one.version == self.latest)
    }
}

/// A thread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Thread {
    pub(crate) thread_id: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) status: String,
    pub(crate) values: Value,
    pub(crate) interrupts: Value,
    #[serde(default)]
    pub(crate) error: Option<Value>,
    #[serde(default)]
    pub(crate) config: Value,
    /// Runs whose checkpoints were taken back.
    #[serde(default)]
    pub(crate) undone: Vec<String>,
}

impl Thread {
    pub(crate) fn new(thread_id: String, metadata: Map<String, Value>) -> Self {
        let created_at = now();
        Self {
            thread_id,
            updated_at: created_at.clone(),
            created_at,
            metadata,
            status: "idle".to_owned(),
            values: Value::Null,
            interrupts: json!({}),
            error: None,
            config: json!({}),
            undone: Vec::new(),
        }
    }

    /// The graph whose state the thread holds, once it ran.
    pub(crate) fn graph(&self) -> Option<&str> {
        self.metadata.get("graph_id")?.as_str()
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "thread_id": self.thread_id, "created_at": self.created_at,
            "updated_at": self.updated_at, "state_updated_at": self.updated_at,
            "metadata": self.metadata, "status": self.status, "config": self.config,
            "values": self.values, "interrupts": self.interrupts, "error": self.error,
        })
    }
}

/// A run and what it was asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) run_id: String,
    pub(crate) thread_id: String,
    pub(crate) assistant_id: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) status: String,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) multitask_strategy: String,
    /// The request's body.
    pub(crate) asked: Value,
    /// Who asked.
    pub(crate) tenant: String,
    pub(crate) user: String,
    /// Whether the thread goes with the run.
    #[serde(default)]
    pub(crate) temporary: bool,
}

impl Run {
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.status.as_str(), "pending" | "running")
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "run_id": self.run_id, "thread_id": self.thread_id,
            "assistant_id": self.assistant_id, "created_at": self.created_at,
            "updated_at": self.updated_at, "status": self.status, "metadata": self.metadata,
            "multitask_strategy": self.multitask_strategy, "kwargs": self.asked,
        })
    }
}

/// The present, as clients read it.
pub(crate) fn now() -> String {
    stamp(OffsetDateTime::now_utc())
}

pub(crate) fn stamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// A checkpoint's number in the form of a UUID, whose text has the number's order.
pub(crate) fn checkpoint_id(id: CheckpointId) -> String {
    format!("1f000000-0000-6000-8000-{:012x}", id.0)
}

pub(crate) fn parse_checkpoint(text: &str) -> Option<CheckpointId> {
    let (_, number) = text.rsplit_once('-')?;
    u64::from_str_radix(number, 16).ok().map(CheckpointId)
}

/// A state as the endpoints show it.
pub(crate) fn state(thread_id: &str, view: &View) -> Value {
    let place = |id: Option<CheckpointId>| {
        id.map(|id| {
            json!({
                "thread_id": thread_id, "checkpoint_ns": "",
                "checkpoint_id": checkpoint_id(id), "checkpoint_map": null,
            })
        })
    };
    let head = &view.checkpoint;
    let at = i128::from(head.created_at_ms) * 1_000_000;
    let created = OffsetDateTime::from_unix_timestamp_nanos(at).map(stamp);
    let mut metadata = head.metadata.clone();
    metadata.insert("thread_id".to_owned(), thread_id.into());
    metadata.insert("step".to_owned(), head.step.into());
    let source = match head.source {
        lyceum_graph::Source::Input => "input",
        lyceum_graph::Source::Update => "update",
        lyceum_graph::Source::Fork => "fork",
        _ => "loop",
    };
    metadata.insert("source".to_owned(), source.into());
    let tasks: Vec<_> = view
        .tasks
        .iter()
        .map(|task| {
            json!({
                "id": task.id.to_string(), "name": task.node.to_string(), "error": task.error,
                "path": ["__pregel_pull", task.node.to_string()],
                "interrupts": shown(&task.interrupts), "checkpoint": null, "state": null,
                "result": task.result,
            })
        })
        .collect();
    json!({
        "values": view.values, "next": view.next, "tasks": tasks, "metadata": metadata,
        "created_at": created.unwrap_or_default(), "checkpoint": place(Some(head.id)),
        "parent_checkpoint": place(head.parent), "interrupts": shown(&view.interrupts),
        "checkpoint_id": checkpoint_id(head.id),
    })
}
