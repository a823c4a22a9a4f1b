//! The one place that installs the process' log subscriber and metrics recorder.
//!
//! Invariant: installed at most once. Deliberately absent: an HTTP listener of its
//! own (the gateway serves [`Telemetry::render`]), and pushing metrics or logs.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use lyceum_core::Scrubber;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, ParseError},
    layer::SubscriberExt,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use crate::{
    LogLevels, METRICS, ProcessWatch, TracesConfig, TracesError, describe,
    json::JsonLayer,
    levels,
    sample::{Sampler, Sampling},
    scrub::Scrubbing,
    traces::Traces,
};

/// Buckets of every histogram named `*_seconds`: from a cache hit to the longest
/// answer. They contain the limits of the targets that alerts look at: 0.1, 2, 5, 30, 60, 90 s.
const SECONDS: [f64; 20] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0,
    30.0, 45.0, 60.0, 90.0, 180.0,
];

/// Buckets of every histogram named `*_ratio`: of errors as multiples of what was right.
const RATIOS: [f64; 10] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0];

/// Buckets of every histogram named `*_tokens`: the powers of four that OpenTelemetry's
/// GenAI conventions advise for `gen_ai.client.token.usage`.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Buckets of every histogram named `*_bytes`: 256 bytes to 16 MiB by fours.
const BYTES: [f64; 9] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// Buckets of the times of model calls, as the same conventions advise: 10 ms doubled.
const MODEL_SECONDS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];

/// How often [`Telemetry::upkeep`] empties the recorder's sample buffers.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long the last spans may take on their way.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// One line for people, in colour on a terminal.
    Text,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The form of the lines on standard error; default JSON.
    pub format: LogFormat,
    /// What is logged, in `tracing-subscriber`'s directive syntax, e.g.
    /// `info,lyceum_queue=debug`; default `info`, empty for `error` only.
    pub filter: String,
    /// How many lines a second one place of the program may log, warnings, errors and the audit
    /// aside; default 0, any number.
    pub most_per_second: u32,
    /// Where spans are sent; default nowhere.
    pub traces: Option<TracesConfig>,
    /// What takes personal data and secrets out of log lines, those of the target `audit`
    /// aside, which say who did what; default nothing.
    pub scrubber: Option<Arc<dyn Scrubber>>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            filter: "info".to_owned(),
            most_per_second: 0,
            traces: None,
            scrubber: None,
        }
    }
}

/// Why telemetry could not be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("read the log filter {filter:?}; write e.g. \"info,lyceum_queue=debug\"")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// This process has a subscriber already.
    #[error("install the log subscriber")]
    Logs(#[from] TryInitError),
    /// This process has a recorder already.
    #[error("install the metrics recorder")]
    Metrics(#[source] Box<BuildError>),
    /// Spans cannot be exported.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// The installed telemetry. Clones share it.
#[derive(Debug, Clone)]
pub struct Telemetry {
    metrics: PrometheusHandle,
    process: Arc<ProcessWatch>,
    levels: LogLevels,
    sampler: Arc<Sampler>,
    traces: Option<Traces>,
}

impl Telemetry {
    /// Installs logs and metrics for the whole process.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Filter`] for a filter that does not parse, and the other
    /// variants when the process has a subscriber or recorder already, or when spans cannot
    /// be exported as configured.
    pub fn init(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let (filter, handle) = reload::Layer::new(levels::parse(&config.filter)?);
        let sampler = Arc::new(Sampler::new(config.most_per_second));
        let traces = config.traces.as_ref().map(Traces::start).transpose()?;
        let metrics = recorder()
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| TelemetryError::Metrics(Box::new(error)))?;
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
            LogFormat::Json => JsonLayer::new(std::io::stderr, config.scrubber.clone()).boxed(),
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_writer(Scrubbing::new(std::io::stderr, config.scrubber.clone()))
                .with_ansi(std::io::stderr().is_terminal())
                .boxed(),
        };
        tracing_subscriber::registry()
            .with(layer.with_filter(filter.and(Sampling(Arc::clone(&sampler)))))
            .with(traces.as_ref().map(Traces::layer))
            .try_init()?;
        describe(METRICS);
        Ok(Self {
            metrics,
            process: Arc::new(ProcessWatch::new()),
            levels: LogLevels::new(handle, &config.filter),
            sampler,
            traces,
        })
    }

    /// All metrics in the Prometheus text format, the process' own read afresh.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.publish();
        self.metrics.render()
    }

    /// What the process uses of its machine.
    #[must_use]
    pub fn process(&self) -> &Arc<ProcessWatch> {
        &self.process
    }

    /// What is logged, to be changed while the process runs.
    #[must_use]
    pub fn levels(&self) -> &LogLevels {
        &self.levels
    }

    /// Sends the spans that wait, for at most 5 seconds. Spans that end later are lost.
    pub async fn stop(self) {
        if let Some(traces) = self.traces {
            traces.stop(LAST_SPANS).await;
        }
    }

    /// Keeps the recorder's memory bounded when nobody scrapes, and says how many log lines were
    /// left out. Never ends: spawn it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it only stops the upkeep.
    pub async fn upkeep(self) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            self.metrics.run_upkeep();
            self.sampler.tell();
        }
    }
}

fn recorder() -> Result<PrometheusBuilder, BuildError> {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let full = |text: &str| Matcher::Full(text.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS)?
        .set_buckets_for_metric(suffix("_tokens"), &TOKENS)?
        .set_buckets_for_metric(suffix("_ratio"), &RATIOS)?
        .set_buckets_for_metric(suffix("_bytes"), &BYTES)?
        .set_buckets_for_metric(full("gen_ai_client_token_usage"), &TOKENS)?
        .set_buckets_for_metric(
            full("gen_ai_client_operation_duration_seconds"),
            &MODEL_SECONDS,
        )?
        .set_buckets_for_metric(
            full("gen_ai_client_operation_time_to_first_chunk_seconds"),
            &MODEL_SECONDS,
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_installs_nothing_and_says_how_it_should_look() {
        let config = TelemetryConfig {
            filter: "lyceum=shout".into(),
            ..TelemetryConfig::default()
        };
        let error = Telemetry::init(&config).unwrap_err();
        assert!(matches!(error, TelemetryError::Filter { .. }), "{error}");
        assert!(error.to_string().contains("write e.g."), "{error}");
    }

    #[test]
    fn telemetry_is_installed_once() {
        let config = TelemetryConfig {
            filter: "off".into(),
            ..TelemetryConfig::default()
        };
        let telemetry = Telemetry::init(&config).unwrap();
        assert!(matches!(
            Telemetry::init(&config),
            Err(TelemetryError::Metrics(_))
        ));
        metrics::histogram!("wait_seconds").record(0.3);
        metrics::histogram!("input_tokens").record(5.0);
        metrics::histogram!("gen_ai_client_token_usage").record(5.0);
        metrics::histogram!("gen_ai_client_operation_duration_seconds").record(0.3);
        let scrape = telemetry.render();
        for sample in [
            "wait_seconds_bucket{le=\"0.25\"} 0",
            "wait_seconds_bucket{le=\"0.5\"} 1",
            "input_tokens_bucket{le=\"16\"} 1",
            "gen_ai_client_token_usage_bucket{le=\"16\"} 1",
            "gen_ai_client_operation_duration_seconds_bucket{le=\"0.32\"} 1",
            "# HELP process_open_fds Open file descriptors.",
        ] {
            assert!(scrape.contains(sample), "{sample} in\n{scrape}");
        }
    }
}
