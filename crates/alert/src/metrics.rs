//! What this crate counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Messages by `channel` and `status`: `sent`, `retried` for an attempt that is made again,
/// `failed` for good, `replaced` by a newer one of the same alert, `expired` after a day,
/// `dropped` because too many waited.
pub const NOTICES: &str = "alert_notices_total";

/// Messages that a `channel` has not taken yet.
pub const WAITING: &str = "alert_notices_waiting";

/// 1 while the alert `alert` is firing, else 0.
pub const FIRING: &str = "alert_firing";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(
        NOTICES,
        "Messages about alerts by channel and what became of them."
    );
    describe_gauge!(
        WAITING,
        "Messages about alerts that a channel has not taken yet."
    );
    describe_gauge!(FIRING, "1 while the server's own alert fires, else 0.");
}

pub(crate) fn told(channel: &'static str, status: &'static str) {
    counter!(NOTICES, "channel" => channel, "status" => status).increment(1);
}

pub(crate) fn waiting(channel: &'static str, messages: usize) {
    gauge!(WAITING, "channel" => channel).set(messages as f64);
}

pub(crate) fn firing(alert: &str, is_firing: bool) {
    gauge!(FIRING, "alert" => alert.to_owned()).set(f64::from(u8::from(is_firing)));
}
