//! What a graph does, seen from outside. The 17 behaviours that were asked for are tests of
//! those names, spread over the modules.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod beside;
mod durable;
mod failures;
mod growth;
mod history;
mod hooks;
mod interrupts;
mod json;
mod kit;
mod log;
mod modes;
mod multitask;
mod nested;
mod outbox;
mod pauses;
mod run;
mod secrets;
mod stream;
mod subgraph;
mod thread;
mod together;
mod world;
