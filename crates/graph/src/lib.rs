#![doc = include_str!("../README.md")]
//!
//! # How a run proceeds
//!
//! A run is a sequence of supersteps. In each, the planned nodes run concurrently over one
//! shared snapshot; when all are done their updates are merged in plan order (sends first,
//! then nodes by name), edges and routes are followed on the merged state, and the next
//! step is planned. The result therefore never depends on which node finished first.
//!
//! Invariants: a graph that compiled has no unknown target; a snapshot never changes under
//! a node; every queue is bounded. Deliberately absent: threads and tasks of its own. Nodes
//! are polled by whoever polls the run, so a node that computes for long uses
//! `tokio::task::spawn_blocking`.

mod any;
mod attempt;
mod barrier;
mod builder;
mod by_channel;
mod cache;
mod chain;
mod changed;
mod checkpoint;
mod command;
mod compile;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod digest;
mod draw;
mod driver;
mod durable;
#[cfg(feature = "encryption")]
mod encrypted;
mod error;
mod event;
mod graph;
mod interrupt;
mod journal;
mod log;
mod machine;
mod memory_saver;
mod memory_store;
mod message;
mod mode;
mod namespace;
mod node;
mod observer;
mod outbox;
mod outlet;
mod output;
mod pause;
mod pruning;
mod retry;
mod rewrite;
mod saver;
#[cfg(feature = "schema")]
mod schema;
mod shown;
mod snapshot;
mod state;
mod store;
mod subgraph;
mod sweep;
mod task;
#[cfg(feature = "testkit")]
pub mod testkit;
mod thread;
mod topology;
mod turns;
mod writers;

pub use any::{AnyGraph, AnySnapshot, Part};
pub use barrier::Barrier;
pub use builder::{GraphBuilder, Route, Routes};
pub use cache::CachePolicy;
pub use changed::Changed;
pub use command::{Command, Input, SendTo, Worker};
pub use compile::CompileError;
pub use config::RunConfig;
pub use context::{Context, EffectId};
pub use digest::{Digest, TaskId, TaskIdError};
pub use draw::{Edge, EdgeKind};
pub use durable::Durability;
#[cfg(feature = "encryption")]
pub use encrypted::{Encrypted, KeyRing, OpenError};
pub use error::{NodeError, RunError};
pub use event::{Checkpointed, Chunk, Event, EventKind, TaskInput, TaskRef, TaskResult};
pub use graph::{Graph, RunStream};
pub use interrupt::{Answers, Interrupt};
pub use log::{EventLog, LogItem};
pub use lyceum_graph_macros::State;
pub use memory_saver::MemorySaver;
pub use memory_store::MemoryStore;
pub use message::Message;
pub use mode::Mode;
pub use namespace::{Namespace, Scope};
pub use observer::{Attempt, Moment, MomentKind, Observer, RunOutcome};
pub use output::{Output, Status};
pub use retry::{Failure, RetryPolicy, TimeoutError};
pub use saver::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Metadata, Record, Saved, Saver,
    SaverError, Source, ThreadId, ThreadIdError, Value, ValueRef,
};
#[cfg(feature = "schema")]
pub use schema::Described;
#[cfg(feature = "schema")]
pub use schemars;
pub use shown::Shown;
pub use snapshot::{HistoryQuery, Snapshot, TaskSnapshot};
pub use state::{Channel, ChannelKind, Conflict, State, Update};
pub use store::{Item, Near, NewItem, Search, Shelf, ShelfError, Store, StoreError};
pub use sweep::{Swept, ThreadEntry, Threads, sweep};
pub use thread::Thread;
pub use topology::{END, NodeName, START};
pub use turns::{Multitask, Turns};

/// What the code of `#[derive(State)]` names; no other code should.
#[doc(hidden)]
pub mod derive {
    #[cfg(feature = "schema")]
    pub use crate::schema::Fields;
    pub use crate::{barrier::Gate, state::conflict};
    pub use serde;
    pub use serde_json;
}
