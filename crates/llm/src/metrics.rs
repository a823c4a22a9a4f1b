//! The metrics of the model layer. Labels are bounded: providers come from configuration,
//! statuses are `ok`, `cancelled` or an error's label.

use std::time::Duration;

use lyceum_core::{ChatError, MicroUsd, RequestId, TenantId, Usage};
use lyceum_queue::BreakerState;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::PicoUsd;

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
/// Counter. Calls given to another endpoint of the same model by `provider` and `reason`.
pub const REROUTED: &str = "llm_rerouted_total";
/// Counter. Second attempts beside slow calls by `provider` and `outcome`: `won`, `lost`, or
/// `capped` when the share of extra calls did not allow one.
pub const HEDGES: &str = "llm_hedges_total";
/// Gauge. State of a circuit breaker by `endpoint`: 0 closed, 1 half-open, 2 open.
pub const BREAKER_STATE: &str = "llm_breaker_state";
/// Counter. Changes of a circuit breaker by `endpoint` and the new `state`.
pub const BREAKER_CHANGES: &str = "llm_breaker_changes_total";
/// Counter. Calls refused by an open circuit breaker by `endpoint`.
pub const BREAKER_REFUSALS: &str = "llm_breaker_refusals_total";
/// Counter, billionths of a dollar. Cost of calls by `model`, a configured or listed name.
pub const COST: &str = "llm_cost_nanodollars_total";
/// Gauge, dollars. What all calls of the day cost, by UTC.
pub const COST_TODAY: &str = "llm_cost_today_dollars";
/// Counter. Requests whose calls together cost more than the alert's threshold.
pub const COST_ALERTS: &str = "llm_cost_alerts_total";
/// Counter. Calls that used more than [`LARGE_REQUEST`] tokens, input and output together.
pub const LARGE_REQUESTS: &str = "llm_large_requests_total";
/// From here on a single call is worth an alert.
pub const LARGE_REQUEST: u64 = 150_000;
/// Counter. Calls that a budget did not cover, by `budget`: `session`, `user_day`,
/// `tenant_day`, `day`.
pub const OVER_BUDGET: &str = "llm_over_budget_total";
/// Counter. Requests that the answer cache may serve, by `outcome`: `exact`, `semantic`,
/// `joined` (another call under way), `miss`.
pub const CACHE_LOOKUPS: &str = "llm_cache_lookups_total";
/// Counter. Failures of the answer cache's store and embedder by `operation`: `get`, `put`,
/// `embed`.
pub const CACHE_FAILURES: &str = "llm_cache_failures_total";

/// Counter. Calls of embedding models by `model`, a configured one, and `status`.
pub const EMBEDDINGS: &str = "llm_embeddings_total";
/// Histogram, seconds. Time of calls of embedding models by `model`, waiting included.
pub const EMBED_DURATION: &str = "llm_embedding_duration_seconds";
/// Counter. Texts that embedding models were given by `model`.
pub const EMBED_TEXTS: &str = "llm_embedding_texts_total";
/// Counter. Tokens that embedding models read by `model`.
pub const EMBED_TOKENS: &str = "llm_embedding_tokens_total";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    crate::genai::describe();
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
    describe_counter!(
        REROUTED,
        Unit::Count,
        "Model calls given to another endpoint by provider and reason."
    );
    describe_counter!(
        HEDGES,
        Unit::Count,
        "Second attempts beside slow model calls by provider and outcome."
    );
    describe_gauge!(
        BREAKER_STATE,
        "Circuit breaker by endpoint: 0 closed, 1 half-open, 2 open."
    );
    describe_counter!(
        BREAKER_CHANGES,
        Unit::Count,
        "Changes of circuit breakers by endpoint and new state."
    );
    describe_counter!(
        BREAKER_REFUSALS,
        Unit::Count,
        "Model calls refused by an open circuit breaker by endpoint."
    );
    describe_counter!(
        COST,
        "Cost of model calls in billionths of a dollar by model."
    );
    describe_gauge!(COST_TODAY, "Cost of the day's model calls in dollars.");
    describe_counter!(
        COST_ALERTS,
        Unit::Count,
        "Requests that cost more than the alert's threshold."
    );
    describe_counter!(
        LARGE_REQUESTS,
        Unit::Count,
        "Model calls that used more than 150,000 tokens."
    );
    describe_counter!(
        OVER_BUDGET,
        Unit::Count,
        "Model calls that a budget did not cover."
    );
    describe_counter!(
        CACHE_LOOKUPS,
        Unit::Count,
        "Requests that the answer cache may serve by outcome."
    );
    describe_counter!(
        CACHE_FAILURES,
        Unit::Count,
        "Failures of the answer cache by operation."
    );
    describe_counter!(
        EMBEDDINGS,
        Unit::Count,
        "Calls of embedding models by model and status."
    );
    describe_histogram!(
        EMBED_DURATION,
        Unit::Seconds,
        "Time of calls of embedding models by model, waiting included."
    );
    describe_counter!(
        EMBED_TEXTS,
        Unit::Count,
        "Texts that embedding models were given."
    );
    describe_counter!(
        EMBED_TOKENS,
        Unit::Count,
        "Tokens that embedding models read."
    );
    // Their first event is a rise and not a beginning, which an alert would not see.
    counter!(LARGE_REQUESTS).increment(0);
    counter!(COST_ALERTS).increment(0);
    for budget in ["day", "session", "tenant_day", "user_day"] {
        counter!(OVER_BUDGET, "budget" => budget).increment(0);
    }
}

pub(crate) fn ended(provider: &str, status: &'static str, took: Duration, usage: Option<Usage>) {
    let provider = provider.to_owned();
    counter!(REQUESTS, "provider" => provider.clone(), "status" => status).increment(1);
    histogram!(DURATION, "provider" => provider.clone()).record(took.as_secs_f64());
    let Some(usage) = usage else { return };
    if usage.total().0 > LARGE_REQUEST {
        counter!(LARGE_REQUESTS).increment(1);
        tracing::warn!(
            provider,
            tokens = usage.total().0,
            "a model call used very many tokens"
        );
    }
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

pub(crate) fn embedded(
    model: &str,
    status: &'static str,
    texts: usize,
    took: Duration,
    usage: Usage,
) {
    let model = model.to_owned();
    counter!(EMBEDDINGS, "model" => model.clone(), "status" => status).increment(1);
    histogram!(EMBED_DURATION, "model" => model.clone()).record(took.as_secs_f64());
    counter!(EMBED_TEXTS, "model" => model.clone()).increment(texts as u64);
    counter!(EMBED_TOKENS, "model" => model).increment(usage.input.0);
}

pub(crate) fn first_token(provider: &str, after: Duration) {
    histogram!(FIRST_TOKEN, "provider" => provider.to_owned()).record(after.as_secs_f64());
}

pub(crate) fn retried(
    provider: &str,
    reason: &'static str,
    error: &dyn std::error::Error,
    failed: u32,
    delay: Duration,
) {
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

pub(crate) fn rerouted(provider: &str, error: &ChatError) {
    let reason = error.label();
    counter!(REROUTED, "provider" => provider.to_owned(), "reason" => reason).increment(1);
    tracing::warn!(provider, reason, %error, "a model call goes to another endpoint");
}

pub(crate) fn hedged(provider: &str, outcome: &'static str) {
    counter!(HEDGES, "provider" => provider.to_owned(), "outcome" => outcome).increment(1);
    tracing::debug!(provider, outcome, "a slow model call got a second attempt");
}

pub(crate) fn breaker_state(endpoint: &str, state: BreakerState) {
    let value = match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    };
    gauge!(BREAKER_STATE, "endpoint" => endpoint.to_owned()).set(value);
}

pub(crate) fn breaker_changed(endpoint: &str, state: BreakerState) {
    breaker_state(endpoint, state);
    let name = state.label();
    counter!(BREAKER_CHANGES, "endpoint" => endpoint.to_owned(), "state" => name).increment(1);
    match state {
        BreakerState::Open => tracing::warn!(endpoint, "a circuit breaker opened"),
        _ => tracing::info!(endpoint, state = name, "a circuit breaker changed"),
    }
}

pub(crate) fn breaker_refused(endpoint: &str) {
    counter!(BREAKER_REFUSALS, "endpoint" => endpoint.to_owned()).increment(1);
    tracing::debug!(endpoint, "an open circuit breaker refused a call");
}

pub(crate) fn paid(model: &str, cost: PicoUsd) {
    counter!(COST, "model" => model.to_owned()).increment(cost.0 / 1_000);
}

pub(crate) fn spent_today(dollars: f64) {
    gauge!(COST_TODAY).set(dollars);
}

pub(crate) fn costly_request(request: &RequestId, tenant: &TenantId, cost: PicoUsd) {
    counter!(COST_ALERTS).increment(1);
    tracing::warn!(%request, %tenant, %cost, "a request cost more than the alert's threshold");
}

pub(crate) fn over_budget(budget: &'static str, tenant: &TenantId, needed: MicroUsd) {
    counter!(OVER_BUDGET, "budget" => budget).increment(1);
    tracing::warn!(budget, %tenant, %needed, "a budget does not cover a model call");
}

pub(crate) fn cache_looked_up(outcome: &'static str) {
    counter!(CACHE_LOOKUPS, "outcome" => outcome).increment(1);
}

pub(crate) fn cache_failed(operation: &'static str, error: &dyn std::error::Error) {
    counter!(CACHE_FAILURES, "operation" => operation).increment(1);
    tracing::warn!(operation, %error, "the answer cache works without its help");
}
