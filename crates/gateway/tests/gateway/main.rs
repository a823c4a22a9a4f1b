//! Drives the gateway from outside: real sockets where behaviour of the system counts,
//! in-memory connections under a paused clock where time does.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod anthropic;
mod api;
mod cache;
mod edge;
mod embeddings;
mod encodings;
mod handover;
mod http2;
mod keys;
mod lifecycle;
mod logs;
mod once;
mod refusals;
mod responses;
mod shedding;
mod socket;
mod stored_streams;
mod streams;
mod support;
mod time;
mod tls;
mod tokens;
mod unix;
mod usage;
mod vendors;
