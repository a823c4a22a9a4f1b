#![doc = include_str!("../README.md")]
//!
//! Invariant: labels and names are bounded, and nothing a learner wrote is ever a
//! field, a label or a check's detail. Deliberately absent: routes, metrics and
//! logs that are pushed.

mod catalogue;
mod health;
mod json;
mod levels;
mod metrics;
mod process;
mod sample;
mod scrub;
mod telemetry;
pub mod traces;

pub use catalogue::{CATALOGUE, MetricGroup, metric, metrics_of};
pub use health::{
    CheckReport, Health, HealthConfig, Importance, Lifecycle, Observation, Probe, Report, Status,
};
pub use levels::LogLevels;
pub use metrics::{Kind, METRICS, MetricSpec, describe};
pub use process::{ProcessStats, ProcessWatch, host_name};
pub use telemetry::{LogFormat, Telemetry, TelemetryConfig, TelemetryError};
pub use traces::{TracesConfig, TracesError};
