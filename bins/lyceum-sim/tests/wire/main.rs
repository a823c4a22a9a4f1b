//! The simulator and the load generator over real sockets.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod client;
mod faults;
mod load;
mod lyceum;
mod provider;
