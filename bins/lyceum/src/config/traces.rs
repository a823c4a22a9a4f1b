//! The configuration of exported traces.

use lyceum_observe::TracesConfig;
use serde::{Deserialize, Serialize};

/// The variable that OpenTelemetry's own programs read for the collector's address.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// `[traces]`: where spans of requests, nodes, model calls and tools are sent.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Traces {
    /// A collector's address for OTLP over HTTP, e.g. `http://localhost:4318`. Default: the
    /// variable `OTEL_EXPORTER_OTLP_ENDPOINT`, else none. Headers for it are taken from
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    pub endpoint: Option<String>,
    /// The share of traces begun here that is kept. Default 1; 0 to 1.
    pub sample_ratio: f64,
    /// The name under which the collector shows this server. Default `lyceum`.
    pub service: String,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_ratio: 1.0,
            service: "lyceum".to_owned(),
        }
    }
}

impl Traces {
    /// What is exported, if anything.
    pub(crate) fn resolved(&self, instance: String) -> Option<TracesConfig> {
        let variable = || std::env::var(ENDPOINT_VARIABLE).ok();
        let endpoint = self.endpoint.clone().or_else(variable);
        let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty())?;
        Some(TracesConfig {
            endpoint,
            headers: Vec::new(),
            sample_ratio: self.sample_ratio,
            service: self.service.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance,
        })
    }
}
