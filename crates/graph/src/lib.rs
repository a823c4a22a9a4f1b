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

mod builder;
mod command;
mod compile;
mod config;
mod context;
mod driver;
mod error;
mod event;
mod graph;
mod machine;
mod node;
mod outlet;
mod state;
mod topology;

pub use builder::{GraphBuilder, Route, Routes};
pub use command::{Command, Input, SendTo, Worker};
pub use compile::CompileError;
pub use config::RunConfig;
pub use context::Context;
pub use error::{NodeError, RunError};
pub use event::{Event, EventKind, Mode, Output, Status};
pub use graph::{Graph, RunStream};
pub use lyceum_graph_macros::State;
pub use state::{Changed, Channel, ChannelKind, Conflict, State, Update};
pub use topology::{END, NodeName, START};

/// What the code of `#[derive(State)]` names; no other code should.
#[doc(hidden)]
pub mod derive {
    pub use crate::state::conflict;
    pub use serde;
    pub use serde_json;
}
