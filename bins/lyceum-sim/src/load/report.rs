//! What the users saw, and its form as lines of JSON.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{Histogram, LoadConfig};

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Connect,
    Closed,
    Timeout,
    Refused {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// Not the shape that was promised.
    Malformed,
    /// A stream without its end.
    Truncated,
    /// The server said inside a stream that it failed.
    ErrorEvent,
    TooLarge,
    /// The answer shows none of the user's marks.
    Unmarked,
}

impl Failure {
    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => retry_after,
            _ => None,
        }
    }

    fn label(self) -> String {
        let label = match self {
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Refused { status, .. } => return format!("status_{status}"),
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::ErrorEvent => "error_event",
            Self::TooLarge => "too_large",
            Self::Unmarked => "unmarked",
        };
        label.to_owned()
    }
}

/// What one user saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    latency: Histogram,
    first_byte: Histogram,
    mixed_up: u64,
    errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn answered(&mut self, latency: Duration, first_byte: Duration) {
        self.latency.record(latency);
        self.first_byte.record(first_byte);
    }

    pub(super) fn mixed_up(&mut self) {
        self.mixed_up += 1;
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        *self.errors.entry(failure.label()).or_default() += 1;
    }
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The name of the benchmark.
    pub bench: String,
    /// The case of the benchmark.
    pub case: String,
    /// The time in which requests were counted.
    pub elapsed: Duration,
    /// From a request to the end of its answer, after the warm-up. Its count is that of
    /// the answers.
    pub latency: Histogram,
    /// From a request to the first byte of its answer's body.
    pub first_byte: Histogram,
    /// Answers that showed somebody else's mark or session; must be 0.
    pub mixed_up: u64,
    /// Failed requests by kind, the warm-up included: `connect`, `closed`, `timeout`,
    /// `status_…`, `malformed`, `truncated`, `error_event`, `too_large`, `unmarked` (an
    /// answer that shows no mark, so that it cannot be told whose it is), `user_died`.
    pub errors: BTreeMap<String, u64>,
}

/// One figure, in the form that all of Lyceum's benchmarks print.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// The name of the benchmark.
    pub bench: String,
    /// The case of the benchmark.
    pub case: String,
    /// What is measured.
    pub metric: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be, where that is set.
    pub target: Option<f64>,
}

impl Report {
    pub(super) fn new(config: &LoadConfig) -> Self {
        let case = match config.case.as_str() {
            "" => format!("{}-{}-users", config.endpoint.label(), config.users),
            case => case.to_owned(),
        };
        Self {
            bench: config.bench.clone(),
            case,
            elapsed: Duration::ZERO,
            latency: Histogram::default(),
            first_byte: Histogram::default(),
            mixed_up: 0,
            errors: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, tally: &Tally) {
        self.latency.merge(&tally.latency);
        self.first_byte.merge(&tally.first_byte);
        self.mixed_up += tally.mixed_up;
        for (kind, count) in &tally.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }

    pub(super) fn user_died(&mut self) {
        *self.errors.entry("user_died".to_owned()).or_default() += 1;
    }

    pub(super) fn finish(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    /// Answers counted after the warm-up.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.latency.count()
    }

    /// Failed requests of all kinds.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Whether every request got its own whole answer, and there was one.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.answers() > 0 && self.failures() == 0 && self.mixed_up == 0
    }

    /// Answers a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count is far below 2^53")]
    pub fn rate(&self) -> f64 {
        self.answers() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The figures; one JSON object a line makes the report.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count is far below 2^53")]
    pub fn metrics(&self) -> Vec<Metric> {
        let metric = |metric: &str, value: f64, unit, target| Metric {
            bench: self.bench.clone(),
            case: self.case.clone(),
            metric: metric.to_owned(),
            value: (value * 1e3).round() / 1e3,
            unit,
            target,
        };
        let mut metrics = vec![
            metric("answers", self.answers() as f64, "1", None),
            metric("rate", self.rate(), "1/s", None),
        ];
        let times = [("latency", &self.latency), ("first_byte", &self.first_byte)];
        for (name, histogram) in times {
            for (suffix, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                if let Some(time) = histogram.quantile(share) {
                    let millis = time.as_secs_f64() * 1e3;
                    metrics.push(metric(&format!("{name}_{suffix}"), millis, "ms", None));
                }
            }
        }
        metrics.push(metric("mixed_up", self.mixed_up as f64, "1", Some(0.0)));
        metrics.push(metric("errors", self.failures() as f64, "1", Some(0.0)));
        for (kind, count) in &self.errors {
            metrics.push(metric(
                &format!("errors_{kind}"),
                *count as f64,
                "1",
                Some(0.0),
            ));
        }
        metrics
    }
}
