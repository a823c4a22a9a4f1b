//! What tests of graphs need: scripted nodes, virtual time, record and replay, and a saver
//! that fails when it is told to. Feature `testkit`.
//!
//! ```
//! use std::time::Duration;
//! use lyceum_graph::{END, GraphBuilder, NodeError, RetryPolicy, RunConfig, START, State};
//! use lyceum_graph::testkit::{Script, in_virtual_time};
//!
//! #[derive(State, Clone, Debug, Default)]
//! struct Order {
//!     receipt: String,
//! }
//!
//! // Fails once, then takes an hour.
//! let pay = Script::new()
//!     .fails(NodeError::transient("the bank is busy"))
//!     .waits(Duration::from_secs(3_600))
//!     .writes(OrderUpdate::new().receipt("paid"));
//! let graph = GraphBuilder::<Order>::new()
//!     .node("pay", pay.node())
//!     .retry("pay", RetryPolicy::default())
//!     .edge(START, "pay")
//!     .edge("pay", END)
//!     .compile()?;
//! let run = graph.run(Order::default(), RunConfig::default());
//! let (output, took) = in_virtual_time(run)?;
//! assert_eq!(output?.state.receipt, "paid");
//! assert!(took >= Duration::from_secs(3_600)); // and the test took milliseconds
//! assert_eq!(pay.calls(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariant: nothing here is used by a run that is not a test's. Deliberately absent:
//! assertions; a test framework has its own.

mod failpoint;
mod record;
mod replay;
mod script;
mod time;

pub use failpoint::{Failpoints, Fault, Operation};
pub use record::{Call, Outcome, Recorder, Recording, record};
pub use replay::{Divergence, Mismatch, Replay, replay};
pub use script::{Script, Scripted};
pub use time::in_virtual_time;
