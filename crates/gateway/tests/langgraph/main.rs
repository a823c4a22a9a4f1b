//! The LangGraph API over a small graph, driven through sockets.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod client;
mod copies;
mod ending;
mod expiry;
mod faults;
mod leaving;
mod owners;
mod replicas;
mod requests;
mod socket;
#[expect(dead_code, reason = "these tests use a part of the helpers")]
#[path = "../gateway/support.rs"]
mod support;
mod webhooks;
