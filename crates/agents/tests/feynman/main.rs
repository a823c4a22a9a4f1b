//! The student through its port, with a model that says what the test wants.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod questions;
mod remembered;
mod scripted;
mod summaries;
mod turns;
