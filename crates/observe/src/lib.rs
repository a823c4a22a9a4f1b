#![doc = include_str!("../README.md")]
//!
//! Invariant: labels and names are bounded, and nothing a learner wrote is ever a
//! field, a label or a check's detail. Deliberately absent: routes, exporters that
//! push, tracing over OTLP.

mod catalogue;
mod health;
mod json;
mod metrics;
mod process;
mod telemetry;

pub use catalogue::{CATALOGUE, MetricGroup, metric};
pub use health::{
    CheckReport, Health, HealthConfig, Importance, Lifecycle, Observation, Probe, Report, Status,
};
pub use metrics::{Kind, METRICS, MetricSpec, describe};
pub use process::{ProcessStats, ProcessWatch};
pub use telemetry::{LogFormat, Telemetry, TelemetryConfig, TelemetryError};
