//! What clients create: assistants, threads and runs, as they are stored and shown.
//!
//! Invariant: every field that a client reads is always present. Deliberately absent: items
//! of the store, which have no life of their own.

use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{
    OffsetDateTime,
    format_description::well_known::{
        Iso8601,
        iso8601::{Config, EncodedConfig, TimePrecision},
    },
};

use super::expiry::Ttl;

/// ISO 8601 with six digits of a second's fraction, as many as every client's language reads, and
/// always as many, so that texts sort as times do.
const TIME: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: NonZeroU8::new(6),
    })
    .encode();

pub(crate) const ASSISTANT: &str = "lg_assistant";
pub(crate) const THREAD: &str = "lg_thread";
pub(crate) const RUN: &str = "lg_run";
pub(crate) const QUEUE: &str = "lg_queue";
pub(crate) const ITEM: &str = "lg_item";
pub(crate) const CRON: &str = "lg_cron";
/// When a thread or an item is to be removed.
pub(crate) const EXPIRY: &str = "lg_expiry";
/// That the end of a run is to be told to an address, and what is told.
pub(crate) const WEBHOOK: &str = "lg_webhook";
pub(crate) const WEBHOOK_BODY: &str = "lg_webhook_body";
/// That a run is to stop.
pub(crate) const STOP: &str = "lg_stop";
/// That a process is there.
pub(crate) const PROCESS: &str = "lg_process";
/// What a run tells, where several processes share the records.
pub(crate) const TAPE: &str = "lg_tape";
pub(crate) const TAPE_PART: &str = "lg_tape_part";
pub(crate) const TAPE_RESULT: &str = "lg_tape_result";

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
    /// Of which threads its oldest checkpoints are copies, oldest first; each has some that the one
    /// before has not.
    #[serde(default)]
    pub(crate) copied: Vec<Copied>,
    /// How long it is kept, where that is not for ever.
    #[serde(default)]
    pub(crate) ttl: Option<Ttl>,
    /// Runs that are not over, in their order; the first is executed.
    #[serde(default)]
    pub(crate) lane: Vec<Queued>,
}

/// That a thread's checkpoints, up to one, came from another thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) thread_id: String,
    /// The first checkpoint that this thread may go on from.
    pub(crate) until: u64,
}

/// A run's place in its thread's lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) run: String,
    /// The process that executes it, or will; empty where none does.
    pub(crate) holder: String,
    /// How many processes ended while they held it.
    #[serde(default)]
    pub(crate) tries: u32,
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
            copied: Vec::new(),
            ttl: None,
            lane: Vec::new(),
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
    /// What the request's headers configured.
    #[serde(default)]
    pub(crate) headers: Map<String, Value>,
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
    at.format(&Iso8601::<TIME>).unwrap_or_default()
}
