//! The metrics of OpenTelemetry's conventions for generative AI, by the names of their version
//! 1.41, which dashboards of others look for
//! (<https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-metrics.md>).
//!
//! Invariant: labels are bounded: providers come from configuration, and of the names that
//! providers give their models the first [`MODELS`] are kept. Deliberately absent: the time of
//! each chunk, which would be recorded for every token.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use lyceum_core::Usage;
use metrics::{Unit, describe_histogram, histogram};

/// Histogram, seconds. Time of model calls, waiting included.
pub(crate) const GEN_AI_DURATION: &str = "gen_ai_client_operation_duration_seconds";
/// Histogram, seconds. Time to the first content of model calls, waiting included.
pub(crate) const GEN_AI_FIRST_CHUNK: &str = "gen_ai_client_operation_time_to_first_chunk_seconds";
/// Histogram, tokens. Tokens of one call by `gen_ai_token_type`: `input` or `output`.
pub(crate) const GEN_AI_TOKENS: &str = "gen_ai_client_token_usage";

/// How many names of models are told apart.
const MODELS: usize = 64;

/// Stands for the names beyond them.
const OTHERS: &str = "_OTHER";

static SEEN: LazyLock<Mutex<BTreeSet<Arc<str>>>> = LazyLock::new(Mutex::default);

/// Describes the metrics to the installed recorder.
pub(crate) fn describe() {
    describe_histogram!(
        GEN_AI_DURATION,
        Unit::Seconds,
        "Time of model calls by OpenTelemetry's conventions, waiting included."
    );
    describe_histogram!(
        GEN_AI_FIRST_CHUNK,
        Unit::Seconds,
        "Time to the first content of model calls by OpenTelemetry's conventions."
    );
    describe_histogram!(
        GEN_AI_TOKENS,
        "Tokens of a model call by OpenTelemetry's conventions."
    );
}

/// A call in the labels of the conventions.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    provider: Arc<str>,
    model: Arc<str>,
}

impl Call {
    pub(crate) fn new(provider: &Arc<str>, model: &str) -> Self {
        Self {
            provider: Arc::clone(provider),
            model: bounded(model),
        }
    }

    /// Content began.
    pub(crate) fn began(&self, after: Duration) {
        histogram!(
            GEN_AI_FIRST_CHUNK,
            "gen_ai_operation_name" => "chat",
            "gen_ai_provider_name" => Arc::clone(&self.provider),
            "gen_ai_response_model" => Arc::clone(&self.model),
        )
        .record(after.as_secs_f64());
    }

    /// The call ended; `status` is `ok`, `cancelled` or an error's label.
    pub(crate) fn ended(&self, status: &'static str, took: Duration, usage: Option<Usage>) {
        // To Prometheus an empty label is none.
        let error = if status == "ok" { "" } else { status };
        histogram!(
            GEN_AI_DURATION,
            "gen_ai_operation_name" => "chat",
            "gen_ai_provider_name" => Arc::clone(&self.provider),
            "gen_ai_response_model" => Arc::clone(&self.model),
            "error_type" => error,
        )
        .record(took.as_secs_f64());
        let Some(usage) = usage else { return };
        for (kind, tokens) in [("input", usage.input), ("output", usage.output)] {
            histogram!(
                GEN_AI_TOKENS,
                "gen_ai_operation_name" => "chat",
                "gen_ai_provider_name" => Arc::clone(&self.provider),
                "gen_ai_response_model" => Arc::clone(&self.model),
                "gen_ai_token_type" => kind,
            )
            .record(tokens.0 as f64);
        }
    }
}

fn bounded(model: &str) -> Arc<str> {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = seen.get(model) {
        return Arc::clone(known);
    }
    if seen.len() >= MODELS {
        return OTHERS.into();
    }
    let model: Arc<str> = model.into();
    seen.insert(Arc::clone(&model));
    model
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_invents_names_makes_no_more_series() {
        let names: BTreeSet<Arc<str>> = (0..1_000).map(|n| bounded(&format!("m{n}"))).collect();
        assert!(names.len() <= MODELS + 1, "{}", names.len());
        assert!(names.contains(OTHERS));
        assert_eq!(&*bounded("m0"), "m0");
    }
}
