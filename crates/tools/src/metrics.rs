//! The metrics of the tools. Labels are bounded: tool names come from configuration.
//!
//! Handles are fetched once for each tool, so install the recorder before the first
//! [`Limited`](crate::Limited) is made. A tool's waiting and running calls are metrics of
//! its queue, whose name is `tool:` and the tool's.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

/// Counter. Tool calls by `tool` and `status` (`ok`, `degraded`, or an error's label).
pub const CALLS: &str = "tool_calls_total";
/// Histogram, seconds. Time of tool calls by `tool`, waiting included.
pub const DURATION: &str = "tool_call_duration_seconds";
/// Counter. Where results came from, by `tool` and `from`: `tool`, `cache`, `shared` (an
/// equal call under way), `stale` or `default` (both degraded).
pub const RESULTS: &str = "tool_results_total";
/// Counter. Calls made again by `tool`.
pub const RETRIES: &str = "tool_retries_total";
/// Counter. Results renewed before they were too old, by `tool`.
pub const WARMED: &str = "tool_results_warmed_total";
/// Gauge. 1 while the breaker of a `tool` is open, else 0.
pub const BREAKER_OPEN: &str = "tool_breaker_open";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(CALLS, Unit::Count, "Tool calls by tool and status.");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time of tool calls by tool, waiting included."
    );
    describe_counter!(
        RESULTS,
        Unit::Count,
        "Tool results by where they came from."
    );
    describe_counter!(RETRIES, Unit::Count, "Tool calls made again.");
    describe_counter!(
        WARMED,
        Unit::Count,
        "Kept tool results renewed before they were too old."
    );
    describe_gauge!(BREAKER_OPEN, "1 while the breaker of a tool is open.");
}

/// The statuses beside errors' labels that are not among them.
const STATUSES: [&str; 9] = [
    "ok",
    "degraded",
    "arguments",
    "timeout",
    "unavailable",
    "failed",
    "transient",
    "denied",
    "other",
];
const SOURCES: [&str; 5] = ["tool", "cache", "shared", "stale", "default"];

/// One tool's handles.
pub(crate) struct ToolMetrics {
    calls: [Counter; STATUSES.len()],
    duration: Histogram,
    results: [Counter; SOURCES.len()],
    retries: Counter,
    warmed: Counter,
    breaker_open: Gauge,
}

impl ToolMetrics {
    pub(crate) fn new(tool: &str) -> Self {
        let tool = tool.to_owned();
        Self {
            calls: STATUSES
                .map(|status| counter!(CALLS, "tool" => tool.clone(), "status" => status)),
            duration: histogram!(DURATION, "tool" => tool.clone()),
            results: SOURCES.map(|from| counter!(RESULTS, "tool" => tool.clone(), "from" => from)),
            retries: counter!(RETRIES, "tool" => tool.clone()),
            warmed: counter!(WARMED, "tool" => tool.clone()),
            breaker_open: gauge!(BREAKER_OPEN, "tool" => tool),
        }
    }

    pub(crate) fn called(&self, status: &'static str, took: Duration) {
        let known = STATUSES.iter().position(|known| *known == status);
        self.calls[known.unwrap_or(STATUSES.len() - 1)].increment(1);
        self.duration.record(took.as_secs_f64());
    }

    pub(crate) fn came_from(&self, from: &'static str) {
        if let Some(at) = SOURCES.iter().position(|known| *known == from) {
            self.results[at].increment(1);
        }
    }

    pub(crate) fn repeated(&self) {
        self.retries.increment(1);
    }

    pub(crate) fn warmed(&self) {
        self.warmed.increment(1);
    }

    pub(crate) fn breaker(&self, open: bool) {
        self.breaker_open.set(if open { 1.0 } else { 0.0 });
    }
}

impl std::fmt::Debug for ToolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolMetrics").finish_non_exhaustive()
    }
}
