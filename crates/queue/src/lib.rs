#![doc = include_str!("../README.md")]

mod admission;
mod ask;
mod breaker;
mod bulkhead;
mod config;
mod counting;
mod driver;
mod estimate;
mod eta;
mod flight;
mod inflow;
pub mod metrics;
mod order;
mod queue;
mod quota;
mod retry;
mod shared;
pub mod simulation;
mod smoothed;
mod snapshot;
mod throttle;
mod waiter;
mod window;

pub use ask::{Ask, Estimate, Refused, WaitError};
pub use breaker::{Breaker, BreakerConfig, BreakerPermit, BreakerState, CallOutcome, Rejected};
pub use bulkhead::{Bulkhead, BulkheadFull, BulkheadPermit};
pub use config::{CachedInput, ObservedLimit, ObservedLimits, OutputCounted, QueueConfig, Quotas};
pub use queue::Queue;
pub use retry::{RetryBudget, RetryPolicy};
#[cfg(feature = "conformance")]
pub use shared::conformance;
pub use shared::{
    Beyond, Claim, Ended, Join, Kinds, LedgerError, LedgerTerms, LocalLedger, Note, QuotaLedger,
    ReplicaId, RunningCall, SharedConfig, SharedStatus, Spent, Standing, Verdict,
};
pub use snapshot::{QueueSnapshot, QuotaUse};
pub use waiter::{Reservation, Updates, Waiter};
