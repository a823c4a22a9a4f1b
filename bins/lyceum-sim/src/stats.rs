//! What the simulator counted.
//!
//! Invariant: a request ends in exactly one of answered, cancelled, rate limited, invalid
//! or, without a counter of its own, failed by a fault. Deliberately absent: latencies,
//! which are the load generator's to measure.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::{fault::Fault, quota::Limit};

/// A snapshot of the counters, also `GET /sim/stats`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests for answers, embeddings or token counts that arrived.
    pub requests: u64,
    /// Answers that left whole.
    pub answered: u64,
    /// Refusals by the quota (status 429), all limits together.
    pub rate_limited: u64,
    /// Refusals by the quota, by limit: requests, input, output and total tokens,
    /// concurrency.
    pub rate_limited_by: LimitCounts,
    /// Requests that the vendor would refuse as wrong (400, 401, 404, 413).
    pub invalid: u64,
    /// Faults injected, by kind, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Answers that the client left before their end.
    pub cancelled: u64,
    /// Requests in work: waiting for their first token, or sending.
    pub active: u64,
    /// The most of them at one time.
    pub active_peak: u64,
    /// Streamed answers being sent.
    pub open_streams: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Input tokens of all admitted requests.
    pub input_tokens: u64,
    /// Output tokens that were sent.
    pub output_tokens: u64,
}

/// Refusals by limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LimitCounts {
    /// Requests in a window.
    pub requests: u64,
    /// Input tokens in a window.
    pub input_tokens: u64,
    /// Output tokens in a window.
    pub output_tokens: u64,
    /// All tokens in a window.
    pub total_tokens: u64,
    /// Requests at once.
    pub concurrency: u64,
}

impl Stats {
    /// How many faults of a kind were injected.
    #[must_use]
    pub fn faults_of(&self, fault: Fault) -> u64 {
        let at = Fault::ALL.iter().position(|known| *known == fault);
        at.map_or(0, |at| self.faults[at])
    }
}

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) invalid: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) active: AtomicU64,
    pub(crate) active_peak: AtomicU64,
    pub(crate) open_streams: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) input_tokens: AtomicU64,
    pub(crate) output_tokens: AtomicU64,
    rate_limited: [AtomicU64; 5],
    faults: [AtomicU64; Fault::ALL.len()],
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) -> u64 {
    counter.fetch_add(amount, Ordering::Relaxed)
}

pub(crate) fn take_one(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn rate_limited(&self, limit: Limit) {
        let at = match limit {
            Limit::Requests => 0,
            Limit::InputTokens => 1,
            Limit::OutputTokens => 2,
            Limit::TotalTokens => 3,
            Limit::Concurrency => 4,
        };
        add(&self.rate_limited[at], 1);
    }

    pub(crate) fn fault(&self, fault: Fault) {
        if let Some(at) = Fault::ALL.iter().position(|known| *known == fault) {
            add(&self.faults[at], 1);
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let limited = self.rate_limited.each_ref().map(get);
        Stats {
            requests: get(&self.requests),
            answered: get(&self.answered),
            rate_limited: limited.iter().sum(),
            rate_limited_by: LimitCounts {
                requests: limited[0],
                input_tokens: limited[1],
                output_tokens: limited[2],
                total_tokens: limited[3],
                concurrency: limited[4],
            },
            invalid: get(&self.invalid),
            faults: self.faults.each_ref().map(get),
            cancelled: get(&self.cancelled),
            active: get(&self.active),
            active_peak: get(&self.active_peak),
            open_streams: get(&self.open_streams),
            connections: get(&self.connections),
            input_tokens: get(&self.input_tokens),
            output_tokens: get(&self.output_tokens),
        }
    }
}
