//! The metrics of the tools. Labels are bounded: tool names come from configuration.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

/// Counter. Tool calls by `tool` and `status` (`ok`, `degraded`, or an error's label).
pub const CALLS: &str = "tool_calls_total";
/// Histogram, seconds. Time of tool calls by `tool`, waiting included.
pub const DURATION: &str = "tool_call_duration_seconds";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(CALLS, Unit::Count, "Tool calls by tool and status.");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time of tool calls by tool, waiting included."
    );
}

pub(crate) fn called(tool: &str, status: &'static str, took: Duration) {
    counter!(CALLS, "tool" => tool.to_owned(), "status" => status).increment(1);
    histogram!(DURATION, "tool" => tool.to_owned()).record(took.as_secs_f64());
}
