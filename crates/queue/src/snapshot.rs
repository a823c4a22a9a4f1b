//! What an operator sees of a queue at one moment.

use std::time::Duration;

/// The use of one quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// The limit per minute, before throttling.
    pub limit: u64,
    /// What counts against it now, reservations of running calls included.
    pub used: u64,
}

/// A queue at one moment. Arrays are ordered high, normal, low.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueSnapshot {
    /// All waiting calls.
    pub waiting: usize,
    /// The waiting calls of each band.
    pub waiting_by_band: [usize; 3],
    /// How long the first arrival of each band waits.
    pub oldest_by_band: [Option<Duration>; 3],
    /// The calls that were let through and are not settled.
    pub running: u32,
    /// How many of them there may be now, throttling included.
    pub concurrency: Option<u32>,
    /// Requests.
    pub requests: Option<QuotaUse>,
    /// Input and output tokens together.
    pub tokens: Option<QuotaUse>,
    /// Input tokens.
    pub input_tokens: Option<QuotaUse>,
    /// Output tokens.
    pub output_tokens: Option<QuotaUse>,
    /// The share of the quotas in use, below one after refusals by the upstream.
    pub share: f64,
    /// How long nothing is sent because the upstream said so.
    pub paused: Option<Duration>,
}
