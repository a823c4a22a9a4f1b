//! The names of this crate's metrics, and the one place that records them.
//!
//! Labels are bounded: `band` is `high`, `normal` or `low`; `reason` is a
//! [`Refused::label`], `expired` or `left`. The lengths of a queue are not here: they
//! are read from [`Queue::snapshot`](crate::Queue::snapshot), which knows which queue.

use crate::{Refused, admission::Ticket};

/// Counter, label `band`: calls that were let through.
pub const ADMITTED_TOTAL: &str = "lyceum_queue_admitted_total";
/// Histogram, seconds, label `band`: how long calls waited that were let through.
pub const WAIT_SECONDS: &str = "lyceum_queue_wait_seconds";
/// Counter, label `reason`: calls that were refused or left the queue unsent.
pub const SHED_TOTAL: &str = "lyceum_queue_shed_total";
/// Counter: refusals by the upstream for rate or load.
pub const THROTTLED_TOTAL: &str = "lyceum_queue_throttled_total";

const BANDS: [&str; 3] = ["high", "normal", "low"];

pub(crate) fn admitted(ticket: &Ticket) {
    let band = BANDS[ticket.band.min(BANDS.len() - 1)];
    metrics::counter!(ADMITTED_TOTAL, "band" => band).increment(1);
    metrics::histogram!(WAIT_SECONDS, "band" => band).record(ticket.waited as f64 / 1e9);
}

pub(crate) fn refused(refused: &Refused) {
    shed(refused.label());
}

pub(crate) fn expired() {
    shed("expired");
}

pub(crate) fn left() {
    shed("left");
}

fn shed(reason: &'static str) {
    metrics::counter!(SHED_TOTAL, "reason" => reason).increment(1);
}

pub(crate) fn throttled() {
    metrics::counter!(THROTTLED_TOTAL).increment(1);
}
