//! The metrics of the model layer. Labels are bounded: providers come from configuration,
//! statuses are `ok`, `cancelled` or an error's label.

use std::time::Duration;

use lyceum_core::{ChatError, Usage};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

/// Counter. Calls by `provider` and `status`.
pub const REQUESTS: &str = "llm_requests_total";
/// Histogram, seconds. Time of calls by `provider`, waiting included.
pub const DURATION: &str = "llm_request_duration_seconds";
/// Histogram, seconds. Time to the first content by `provider`, waiting included.
pub const FIRST_TOKEN: &str = "llm_time_to_first_token_seconds";
/// Counter. Tokens by `provider` and `kind`: `input`, `cached_input`, `cache_write`
/// (both parts of `input`), `output`.
pub const TOKENS: &str = "llm_tokens_total";
/// Counter. Repeated attempts by `provider` and `reason`, an error's label.
pub const RETRIES: &str = "llm_retries_total";
/// Counter. Calls given to the next model by `from`, `to` and `reason`.
pub const FALLBACKS: &str = "llm_fallbacks_total";
/// Counter. Calls that a provider refused for rate or load, by `provider`.
pub const THROTTLED: &str = "llm_throttled_total";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "Model calls by provider and status.");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time of model calls by provider, waiting included."
    );
    describe_histogram!(
        FIRST_TOKEN,
        Unit::Seconds,
        "Time to the first content by provider, waiting included."
    );
    describe_counter!(TOKENS, Unit::Count, "Model tokens by provider and kind.");
    describe_counter!(
        RETRIES,
        Unit::Count,
        "Repeated model calls by provider and reason."
    );
    describe_counter!(
        FALLBACKS,
        Unit::Count,
        "Model calls given to the next model."
    );
    describe_counter!(
        THROTTLED,
        Unit::Count,
        "Model calls refused for rate or load by provider."
    );
}

pub(crate) fn ended(provider: &str, status: &'static str, took: Duration, usage: Option<Usage>) {
    let provider = provider.to_owned();
    counter!(REQUESTS, "provider" => provider.clone(), "status" => status).increment(1);
    histogram!(DURATION, "provider" => provider.clone()).record(took.as_secs_f64());
    let Some(usage) = usage else { return };
    for (kind, tokens) in [
        ("input", usage.input),
        ("cached_input", usage.cached_input),
        ("cache_write", usage.cache_write),
        ("output", usage.output),
    ] {
        if tokens.0 > 0 {
            counter!(TOKENS, "provider" => provider.clone(), "kind" => kind).increment(tokens.0);
        }
    }
}

pub(crate) fn first_token(provider: &str, after: Duration) {
    histogram!(FIRST_TOKEN, "provider" => provider.to_owned()).record(after.as_secs_f64());
}

pub(crate) fn retried(provider: &str, error: &ChatError, failed: u32, delay: Duration) {
    let reason = error.label();
    counter!(RETRIES, "provider" => provider.to_owned(), "reason" => reason).increment(1);
    tracing::warn!(provider, reason, failed, ?delay, %error, "a model call is repeated");
}

pub(crate) fn fell_back(from: &str, to: &str, error: &ChatError) {
    let reason = error.label();
    let (from_label, to_label) = (from.to_owned(), to.to_owned());
    counter!(FALLBACKS, "from" => from_label, "to" => to_label, "reason" => reason).increment(1);
    tracing::warn!(from, to, reason, %error, "a model call goes to the next model");
}

pub(crate) fn throttled(provider: &str, error: &ChatError) {
    counter!(THROTTLED, "provider" => provider.to_owned()).increment(1);
    let retry_after = error.retry_after();
    tracing::warn!(provider, ?retry_after, %error, "the provider refused a call for its rate");
}
