//! The form in which a crate lists its metrics, and the list of this one.
//!
//! Invariant: every metric has a help text, because `promtool check metrics` fails
//! without one. Names follow the Prometheus rules: base units, `_total` on counters.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts observations in buckets.
    Histogram,
}

/// One metric of a crate's catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricSpec {
    /// The name, as scraped.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The unit, where it has one.
    pub unit: Option<Unit>,
    /// The names of its labels, each with few values.
    pub labels: &'static [&'static str],
    /// One line for people.
    pub help: &'static str,
}

/// Gives the installed recorder the help text and unit of every metric of a catalogue.
///
/// Idempotent; does nothing when no recorder is installed.
pub fn describe(catalogue: &[MetricSpec]) {
    for metric in catalogue {
        match (metric.kind, metric.unit) {
            (Kind::Counter, Some(unit)) => describe_counter!(metric.name, unit, metric.help),
            (Kind::Counter, None) => describe_counter!(metric.name, metric.help),
            (Kind::Gauge, Some(unit)) => describe_gauge!(metric.name, unit, metric.help),
            (Kind::Gauge, None) => describe_gauge!(metric.name, metric.help),
            (Kind::Histogram, Some(unit)) => describe_histogram!(metric.name, unit, metric.help),
            (Kind::Histogram, None) => describe_histogram!(metric.name, metric.help),
        }
    }
}

/// CPU time used.
pub(crate) const CPU_SECONDS: &str = "process_cpu_seconds_total";
/// Resident memory.
pub(crate) const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
/// Virtual memory.
pub(crate) const VIRTUAL_BYTES: &str = "process_virtual_memory_bytes";
/// Open file descriptors.
pub(crate) const OPEN_FDS: &str = "process_open_fds";
/// The limit of open file descriptors.
pub(crate) const MAX_FDS: &str = "process_max_fds";
/// When the process started.
pub(crate) const START_TIME: &str = "process_start_time_seconds";
/// The memory the process may use.
pub(crate) const MEMORY_LIMIT: &str = "process_memory_limit_bytes";
/// The cores the process may use.
pub(crate) const CPU_CORES: &str = "process_cpu_cores";
/// Threads of the async runtime.
pub(crate) const RUNTIME_WORKERS: &str = "tokio_workers";
/// Tasks of the async runtime.
pub(crate) const RUNTIME_TASKS: &str = "tokio_alive_tasks";
/// Tasks that wait for a thread of the async runtime.
pub(crate) const RUNTIME_QUEUE: &str = "tokio_global_queue_depth";
/// How busy the threads of the async runtime are.
pub(crate) const RUNTIME_BUSY: &str = "tokio_busy_ratio";
/// Log lines left out because their place logs too often.
pub(crate) const LOG_LINES_DROPPED: &str = "log_lines_dropped_total";
/// How long a health check took.
pub(crate) const HEALTH_DURATION: &str = "health_check_duration_seconds";
/// The result of a health check.
pub(crate) const HEALTH_CHECK: &str = "health_check_status";
/// Batches of spans by what became of them: `ok`, `refused` by the collector, `failed` on the way.
pub(crate) const EXPORTS: &str = "telemetry_exports_total";
/// The phase of the process' life.
pub(crate) const HEALTH_LIFECYCLE: &str = "health_lifecycle";

const fn gauge(
    name: &'static str,
    unit: Option<Unit>,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricSpec {
    MetricSpec {
        name,
        kind: Kind::Gauge,
        unit,
        labels,
        help,
    }
}

/// The metrics of this crate. The names of the process are those that the official
/// Prometheus clients use (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).
pub const METRICS: &[MetricSpec] = &[
    MetricSpec {
        name: CPU_SECONDS,
        kind: Kind::Counter,
        unit: Some(Unit::Seconds),
        labels: &[],
        help: "User and system CPU time of the process, in whole seconds.",
    },
    gauge(
        RESIDENT_BYTES,
        Some(Unit::Bytes),
        &[],
        "Resident memory of the process.",
    ),
    gauge(
        VIRTUAL_BYTES,
        Some(Unit::Bytes),
        &[],
        "Virtual memory of the process.",
    ),
    gauge(OPEN_FDS, None, &[], "Open file descriptors."),
    gauge(
        MAX_FDS,
        None,
        &[],
        "Most file descriptors that may be open.",
    ),
    gauge(
        START_TIME,
        Some(Unit::Seconds),
        &[],
        "Start of the process, in seconds since the Unix epoch.",
    ),
    gauge(
        MEMORY_LIMIT,
        Some(Unit::Bytes),
        &[],
        "Memory the process may use: the machine's, or its control group's if smaller.",
    ),
    gauge(CPU_CORES, None, &[], "Cores the process may use."),
    gauge(
        RUNTIME_WORKERS,
        None,
        &[],
        "Worker threads of the async runtime.",
    ),
    gauge(
        RUNTIME_TASKS,
        None,
        &[],
        "Tasks of the async runtime that have not ended.",
    ),
    gauge(
        RUNTIME_QUEUE,
        None,
        &[],
        "Tasks that wait in the async runtime's global queue.",
    ),
    gauge(
        RUNTIME_BUSY,
        None,
        &[],
        "Share of the time since the last scrape that the async runtime's threads were busy, 0 to 1.",
    ),
    MetricSpec {
        name: LOG_LINES_DROPPED,
        kind: Kind::Counter,
        unit: None,
        labels: &["level"],
        help: "Log lines left out because their place in the program logs too often.",
    },
    MetricSpec {
        name: HEALTH_DURATION,
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels: &["check"],
        help: "Time a health check took, each time its dependency was asked.",
    },
    gauge(
        HEALTH_CHECK,
        None,
        &["check"],
        "Last result of a health check: 1 pass, 0.5 warn, 0 fail.",
    ),
    MetricSpec {
        name: EXPORTS,
        kind: Kind::Counter,
        unit: None,
        labels: &["status"],
        help: "Batches of spans sent to the collector by what became of them.",
    },
    gauge(
        HEALTH_LIFECYCLE,
        None,
        &[],
        "Phase of the process: 0 starting, 1 ready, 2 draining.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for metric in METRICS {
            assert_eq!(
                metric.kind == Kind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
