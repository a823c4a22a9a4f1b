//! What this crate counts.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Messages by `channel` and `status`: `sent`, `failed` for good, `dropped` because too many waited.
pub const NOTICES: &str = "alert_notices_total";

/// 1 while the alert `alert` is firing, else 0.
pub const FIRING: &str = "alert_firing";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(
        NOTICES,
        "Messages about alerts by channel and what became of them."
    );
    describe_gauge!(FIRING, "1 while the server's own alert fires, else 0.");
}

pub(crate) fn told(channel: &'static str, status: &'static str) {
    counter!(NOTICES, "channel" => channel, "status" => status).increment(1);
}

pub(crate) fn firing(alert: &str, is_firing: bool) {
    gauge!(FIRING, "alert" => alert.to_owned()).set(f64::from(u8::from(is_firing)));
}
