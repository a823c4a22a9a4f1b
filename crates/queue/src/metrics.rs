//! The names of this crate's metrics, and the one place that records them.
//!
//! Labels are bounded: `queue` is the name given to [`Queue::named`](crate::Queue::named),
//! which the operator's configuration bounds; `band` is `high`, `normal` or `low`;
//! `reason` is a label of [`Refused`](crate::Refused) or [`WaitError`](crate::WaitError),
//! or `left`. Deliberately absent: a recorder. Handles are fetched once for each queue,
//! so install the recorder before the first queue is made.

use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::{admission::Ticket, order::BANDS};

/// Gauge, labels `queue`, `band`: calls that wait.
pub const WAITING: &str = "lyceum_queue_waiting";
/// Gauge, label `queue`: calls that were let through and are not settled.
pub const RUNNING: &str = "lyceum_queue_running";
/// Counter, labels `queue`, `band`: calls that were let through.
pub const ADMITTED_TOTAL: &str = "lyceum_queue_admitted_total";
/// Histogram, seconds, labels `queue`, `band`: how long calls waited that were let through.
pub const WAIT_SECONDS: &str = "lyceum_queue_wait_seconds";
/// Histogram, label `queue`: how far the wait foretold on arrival was off, as a multiple of
/// the wait, of calls let through that waited for more than a second.
pub const FORECAST_ERROR: &str = "lyceum_queue_forecast_error_ratio";
/// Histogram, label `queue`: how far the tokens set aside were off, as a multiple of those
/// used, of calls whose usage is known.
pub const RESERVATION_ERROR: &str = "lyceum_queue_reservation_error_ratio";
/// Counter, labels `queue`, `reason`: calls that were refused or left unsent.
pub const SHED_TOTAL: &str = "lyceum_queue_shed_total";
/// Counter, label `queue`: refusals by the upstream for rate or load.
pub const THROTTLED_TOTAL: &str = "lyceum_queue_throttled_total";

/// Gauge, label `queue`: 1 while the shared ledger answers, else 0.
pub const LEDGER_LINKED: &str = "lyceum_queue_ledger_linked";
/// Gauge, label `queue`: processes that share the quota.
pub const LEDGER_REPLICAS: &str = "lyceum_queue_ledger_replicas";
/// Counter, labels `queue`, `operation` (`reserve`, `tell`, `beat`, `join`), `reason` (a
/// label of [`LedgerError`](crate::LedgerError)): operations of the shared ledger that failed.
pub const LEDGER_FAILED_TOTAL: &str = "lyceum_queue_ledger_failed_total";

const BAND_NAMES: [&str; BANDS] = ["high", "normal", "low"];
const REASONS: [&str; 6] = [
    "full",
    "deadline",
    "too_large",
    "expired",
    "cancelled",
    "left",
];

/// Tells the installed recorder what this crate's metrics mean.
pub fn describe() {
    describe_gauge!(WAITING, "Calls that wait in a queue.");
    describe_gauge!(RUNNING, "Calls let through by a queue and not yet settled.");
    describe_counter!(ADMITTED_TOTAL, "Calls let through by a queue.");
    describe_histogram!(
        WAIT_SECONDS,
        metrics::Unit::Seconds,
        "Wait of calls let through by a queue."
    );
    describe_histogram!(
        FORECAST_ERROR,
        "Error of foretold waits as a multiple of the wait."
    );
    describe_histogram!(
        RESERVATION_ERROR,
        "Error of reserved tokens as a multiple of those used."
    );
    describe_counter!(SHED_TOTAL, "Calls refused by a queue or gone unsent.");
    describe_counter!(
        THROTTLED_TOTAL,
        "Refusals by the upstream for rate or load."
    );
    describe_gauge!(LEDGER_LINKED, "1 while the shared quota ledger answers.");
    describe_gauge!(LEDGER_REPLICAS, "Processes that share the quota.");
    describe_counter!(
        LEDGER_FAILED_TOTAL,
        "Operations of the shared quota ledger that failed."
    );
}

/// One queue's handles.
pub(crate) struct QueueMetrics {
    waiting: [Gauge; BANDS],
    running: Gauge,
    admitted: [Counter; BANDS],
    wait: [Histogram; BANDS],
    forecast_error: Histogram,
    reservation_error: Histogram,
    shed: [Counter; REASONS.len()],
    throttled: Counter,
}

impl QueueMetrics {
    pub(crate) fn new(queue: &Arc<str>) -> Self {
        let name = || Arc::clone(queue);
        Self {
            waiting: BAND_NAMES.map(|band| gauge!(WAITING, "queue" => name(), "band" => band)),
            running: gauge!(RUNNING, "queue" => name()),
            admitted: BAND_NAMES
                .map(|band| counter!(ADMITTED_TOTAL, "queue" => name(), "band" => band)),
            wait: BAND_NAMES
                .map(|band| histogram!(WAIT_SECONDS, "queue" => name(), "band" => band)),
            forecast_error: histogram!(FORECAST_ERROR, "queue" => name()),
            reservation_error: histogram!(RESERVATION_ERROR, "queue" => name()),
            shed: REASONS.map(|reason| counter!(SHED_TOTAL, "queue" => name(), "reason" => reason)),
            throttled: counter!(THROTTLED_TOTAL, "queue" => name()),
        }
    }

    /// The lengths after a decision.
    pub(crate) fn lengths(&self, waiting: [usize; BANDS], running: u32) {
        for (gauge, waiting) in self.waiting.iter().zip(waiting) {
            gauge.set(waiting as f64);
        }
        self.running.set(f64::from(running));
    }

    /// A call was let through.
    pub(crate) fn admitted(&self, ticket: &Ticket) {
        self.admitted[ticket.band].increment(1);
        self.wait[ticket.band].record(ticket.waited as f64 / 1e9);
        if let Some(error) = ticket.forecast_error() {
            self.forecast_error.record(error);
        }
    }

    /// A call for which `reserved` tokens were set aside used so many.
    pub(crate) fn settled(&self, reserved: u64, used: u64) {
        if used > 0 {
            let error = reserved.abs_diff(used) as f64 / used as f64;
            self.reservation_error.record(error);
        }
    }

    /// Calls were refused or left the queue unsent.
    pub(crate) fn shed(&self, reason: &'static str, calls: usize) {
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.shed[at].increment(calls as u64);
        }
    }

    pub(crate) fn throttled(&self) {
        self.throttled.increment(1);
    }
}

/// The handles of one queue's link to a shared ledger.
pub(crate) struct LedgerMetrics {
    queue: Arc<str>,
    linked: Gauge,
    replicas: Gauge,
}

impl LedgerMetrics {
    pub(crate) fn new(queue: &Arc<str>) -> Self {
        Self {
            queue: Arc::clone(queue),
            linked: gauge!(LEDGER_LINKED, "queue" => Arc::clone(queue)),
            replicas: gauge!(LEDGER_REPLICAS, "queue" => Arc::clone(queue)),
        }
    }

    /// The ledger was reached or lost.
    pub(crate) fn linked(&self, linked: bool, replicas: u32) {
        self.linked.set(f64::from(u8::from(linked)));
        self.replicas.set(f64::from(replicas));
    }

    /// An operation failed.
    pub(crate) fn failed(&self, operation: &'static str, reason: &'static str) {
        let queue = Arc::clone(&self.queue);
        counter!(LEDGER_FAILED_TOTAL, "queue" => queue, "operation" => operation, "reason" => reason)
            .increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Refused, WaitError};

    #[test]
    fn every_reason_has_its_counter() {
        let second = Duration::from_secs(1);
        let refusals = [
            Refused::Full {
                retry_after: second,
            },
            Refused::Deadline {
                estimated_wait: second,
                retry_after: second,
            },
            Refused::TooLarge {
                quota: "requests",
                cost: 1,
                limit: 0,
            },
        ];
        let left = [WaitError::Expired, WaitError::Cancelled].map(|error| error.label());
        let labels = refusals.iter().map(Refused::label).chain(left);
        for label in labels {
            assert!(REASONS.contains(&label), "{label}");
        }
    }
}
