#![doc = include_str!("../README.md")]
//!
//! # Layout
//!
//! [`SimConfig`] says what the provider is like; [`Simulator::start`] runs it. Inside, a
//! request is read by a wire format into one neutral form, answered by a pure function,
//! priced by a pure [`quota::Meter`], spoilt by a pure fault plan and sent by a body that
//! follows that plan. [`load`] is the other side: users. Deliberately absent: any code shared with `lyceum-llm`, so that a
//! mistake there shows here.

mod answer;
mod ask;
mod body;
mod call;
mod config;
mod example;
mod fault;
pub mod load;
pub mod marker;
mod plan;
pub mod quota;
mod random;
mod script;
mod server;
mod socket;
mod stats;
pub mod tokens;
mod wire;

pub use config::{ParseError, Quantity, SimConfig, Spread, parse_duration};
pub use fault::{Fault, FaultRule, When};
pub use script::{Reply, Rule};
pub use server::{Recorded, Running, Simulator};
pub use stats::{LimitCounts, Stats};
