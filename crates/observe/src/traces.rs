//! Spans sent to an OpenTelemetry collector, and the trace context of W3C that joins the
//! spans of several programs.
//!
//! Invariant: exporting never holds a request up: spans wait in a bounded queue, are sent
//! by a thread of their own, and are dropped and counted when the collector does not take
//! them. Deliberately absent: the names of spans, which are where the work is; logs and
//! metrics over OTLP.

mod client;
mod context;

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanLimits,
    },
};
use secrecy::SecretString;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};
use url::Url;

use client::Client;
pub use context::{accept, link, outgoing};

/// Where an OTLP receiver over HTTP takes spans
/// (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>).
const PATH: &str = "v1/traces";

/// Spans that wait at most; more are dropped.
const WAITING: usize = 8_192;

/// Spans sent at once.
const BATCH: usize = 512;

/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// How long a batch may take on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of the work becomes spans and where they go.
#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// The collector's address for OTLP over HTTP, e.g. `http://localhost:4318`; spans go to
    /// `v1/traces` below it.
    pub endpoint: String,
    /// Headers sent along, e.g. a key of the collector.
    pub headers: Vec<(String, SecretString)>,
    /// The share of traces begun here that is kept, from 0 to 1. A trace that a caller
    /// began is kept when the caller keeps it.
    pub sample_ratio: f64,
    /// `service.name`, e.g. `lyceum`.
    pub service: String,
    /// `service.version`.
    pub version: String,
    /// `service.instance.id`: which of several replicas this is.
    pub instance: String,
}

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// The address cannot be used. It is not repeated here: it may hold a password.
    #[error("use the collector's address: {reason}")]
    Endpoint {
        /// What is wrong with it.
        reason: String,
    },
    /// A header's name or value cannot be sent. The value is not repeated here.
    #[error("use the collector's header {name:?}")]
    Header {
        /// Its name.
        name: String,
    },
    /// The exporter needs a tokio runtime around it.
    #[error("export traces within a tokio runtime")]
    Runtime,
    /// The exporter could not be set up.
    #[error("set up the exporter of traces: {detail}")]
    Setup {
        /// What failed.
        detail: String,
    },
}

/// The running exporter.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Starts the exporter's thread; requests run on the current tokio runtime.
    pub(crate) fn start(config: &TracesConfig) -> Result<Self, TracesError> {
        let client = Client::new(&config.headers, PATIENCE)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint(&config.endpoint)?)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| TracesError::Setup {
                detail: error.to_string(),
            })?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", config.service.clone()),
                KeyValue::new("service.version", config.version.clone()),
                KeyValue::new("service.instance.id", config.instance.clone()),
                KeyValue::new("telemetry.sdk.language", "rust"),
                KeyValue::new("telemetry.sdk.name", "opentelemetry"),
            ])
            .build();
        let sampler = Sampler::TraceIdRatioBased(config.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_span_limits(SpanLimits {
                max_attributes_per_span: 64,
                ..SpanLimits::default()
            })
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        Ok(Self { provider })
    }

    /// The layer that turns Lyceum's own spans into exported ones. Events stay in the log.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer: SdkTracer = self.provider.tracer("lyceum");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(FilterFn::new(is_ours).with_max_level_hint(tracing::Level::DEBUG))
    }

    /// Sends what waits, for at most `within`, and stops.
    pub(crate) async fn stop(self, within: Duration) {
        let stopped =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(within)).await;
        if !matches!(stopped, Ok(Ok(()))) {
            tracing::warn!("the last spans were not sent");
        }
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= tracing::Level::DEBUG
        && metadata.target().starts_with("lyceum")
}

fn endpoint(given: &str) -> Result<String, TracesError> {
    let refuse = |reason: String| TracesError::Endpoint { reason };
    let mut url = Url::parse(given).map_err(|error| refuse(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refuse("it begins with http:// or https://".to_owned()));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(PATH) {
        url.set_path(&format!("{path}/{PATH}"));
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_protocol_is_added_once() {
        for (given, full) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp", "https://c/otlp/v1/traces"),
            ("http://c:4318/v1/traces", "http://c:4318/v1/traces"),
        ] {
            assert_eq!(endpoint(given).unwrap(), full);
        }
        for wrong in ["", "c:4318", "ftp://c", "grpc://c:4317"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
