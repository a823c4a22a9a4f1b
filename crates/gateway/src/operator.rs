//! What an operator sees and does: the parts behind the gateway at a glance, recent failures,
//! maintenance.
//!
//! Invariant: nothing here names a conversation or repeats a word of one; who waits is counted,
//! not named. Deliberately absent: history, which is Prometheus's.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use serde::Serialize;
use utoipa::ToSchema;

/// The failures that are remembered.
const FAILURES: usize = 50;

/// Tells how the parts are that the gateway does not know.
pub trait Operator: Send + Sync + fmt::Debug {
    /// The parts at this moment. It must not wait.
    fn parts(&self) -> Parts;
}

/// The parts behind the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Parts {
    /// The queues before the models' endpoints.
    pub queues: Vec<QueuePart>,
    /// The circuit breakers of the endpoints.
    pub breakers: Vec<BreakerPart>,
    /// What model calls cost.
    pub costs: CostPart,
}

/// A queue before an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct QueuePart {
    /// The endpoint.
    pub name: String,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls under way.
    pub running: u32,
    /// How many of them there may be now.
    pub concurrency: Option<u32>,
    /// Those that wait, by priority.
    pub bands: Vec<BandPart>,
    /// What the quotas of a minute are and how much of each is used.
    pub quotas: Vec<QuotaPart>,
    /// The share of the quotas in use, below one after refusals by the provider.
    pub share: f64,
    /// How long nothing is sent because the provider said so, in milliseconds.
    pub paused_ms: Option<u64>,
    /// Whether the quota that processes share is within reach; absent where none is shared.
    pub shared: Option<bool>,
}

/// Calls that wait with one priority.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct BandPart {
    /// `high`, `normal` or `low`.
    pub priority: &'static str,
    /// How many wait.
    pub waiting: usize,
    /// How long the first to come has waited, in milliseconds.
    pub oldest_ms: Option<u64>,
}

/// A quota of a minute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct QuotaPart {
    /// `requests`, `tokens`, `input_tokens` or `output_tokens`.
    pub kind: &'static str,
    /// The most in a minute.
    pub limit: u64,
    /// What is used of it.
    pub used: u64,
}

/// A circuit breaker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct BreakerPart {
    /// The endpoint.
    pub name: String,
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
}

/// What model calls of this process cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct CostPart {
    /// Today, by calls that ended, in US dollars.
    pub today_usd: Option<f64>,
    /// For calls under way, at most, in US dollars.
    pub held_usd: Option<f64>,
}

/// A request that failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Failure {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    /// The route as it is written in the documentation.
    endpoint: String,
    /// The status of its answer.
    status: u16,
    /// Its request id.
    request_id: String,
}

/// The last requests that failed.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<VecDeque<Failure>>);

impl Failures {
    pub(crate) fn note(&self, endpoint: &str, status: u16, request_id: &str) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let failure = Failure {
            at_ms: at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
            endpoint: endpoint.to_owned(),
            status,
            request_id: request_id.to_owned(),
        };
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.truncate(FAILURES - 1);
        failures.push_front(failure);
    }

    /// The newest first.
    pub(crate) fn all(&self) -> Vec<Failure> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().cloned().collect()
    }
}
