#![doc = include_str!("../README.md")]
//!
//! Invariant: whatever a server sends is data of bounded size; it never grants authority,
//! and a server that misbehaves harms its own tools only. Deliberately absent: sampling,
//! elicitation and roots, which would let a server ask something of the agent.

mod backoff;
mod catalog;
mod config;
mod guard;
mod handler;
mod library;
mod link;
mod list;
pub mod metrics;
mod name;
mod paced;
mod plain;
mod remote;
mod result;
mod serve;
mod servers;
mod supervise;
mod transport;

pub use config::{ConfigError, HttpConfig, ProcessConfig, Reach, ServerConfig, ServerLimits};
pub use library::{PromptArgument, PromptInfo, ResourceInfo};
pub use link::ServerError;
pub use name::{NameError, ServerName};
pub use serve::{ServeError, Served};
pub use servers::{Server, ServerStatus, Servers};
