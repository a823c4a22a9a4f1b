//! Every metric of the whole server in one list: what documents, dashboards and alert
//! rules are checked against.
//!
//! Invariant: a crate emits no metric that is missing here, and nothing stands here that
//! no crate emits; tests of the workspace read the crates' sources and a real scrape.
//! Deliberately absent: recording. The crates name and record their own metrics, because
//! this crate stands below some of them and beside others.

use metrics::Unit;

use crate::{Kind, METRICS, MetricSpec};

/// The metrics that one crate emits.
#[derive(Debug, Clone, Copy)]
pub struct MetricGroup {
    /// The crate, as a package is named.
    pub package: &'static str,
    /// Its metrics.
    pub metrics: &'static [MetricSpec],
}

/// All metrics, by crate.
pub const CATALOGUE: &[MetricGroup] = &[
    MetricGroup {
        package: "lyceum-gateway",
        metrics: GATEWAY,
    },
    MetricGroup {
        package: "lyceum-agents",
        metrics: AGENTS,
    },
    MetricGroup {
        package: "lyceum-cache",
        metrics: CACHE,
    },
    MetricGroup {
        package: "lyceum-llm",
        metrics: LLM,
    },
    MetricGroup {
        package: "lyceum-queue",
        metrics: QUEUE,
    },
    MetricGroup {
        package: "lyceum-tools",
        metrics: TOOLS,
    },
    MetricGroup {
        package: "lyceum-alert",
        metrics: ALERT,
    },
    MetricGroup {
        package: "lyceum-mcp",
        metrics: MCP,
    },
    MetricGroup {
        package: "lyceum-observe",
        metrics: METRICS,
    },
];

/// The metrics that a crate emits: give them to [`crate::describe`] once a recorder is
/// installed. None for a crate that is not in the catalogue.
///
/// # Examples
///
/// ```
/// let metrics = lyceum_observe::metrics_of("lyceum-gateway");
/// assert!(metrics.iter().any(|metric| metric.name == "api_requests_total"));
/// ```
#[must_use]
pub fn metrics_of(package: &str) -> &'static [MetricSpec] {
    let group = CATALOGUE.iter().find(|group| group.package == package);
    group.map_or(&[], |group| group.metrics)
}

/// The metric of this name.
///
/// A histogram is also found by the names of its series: `_bucket`, `_sum` and `_count`.
///
/// # Examples
///
/// ```
/// use lyceum_observe::{Kind, metric};
///
/// let waits = metric("lyceum_queue_wait_seconds_bucket").unwrap();
/// assert_eq!(waits.kind, Kind::Histogram);
/// assert!(metric("no_such_metric").is_none());
/// ```
#[must_use]
pub fn metric(name: &str) -> Option<&'static MetricSpec> {
    let mut all = CATALOGUE.iter().flat_map(|group| group.metrics);
    all.find(|spec| match spec.kind {
        Kind::Counter | Kind::Gauge => spec.name == name,
        Kind::Histogram => name
            .strip_prefix(spec.name)
            .is_some_and(|series| matches!(series, "" | "_bucket" | "_sum" | "_count")),
    })
}

type Labels = &'static [&'static str];

const fn row(
    name: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    labels: Labels,
    help: &'static str,
) -> MetricSpec {
    MetricSpec {
        name,
        kind,
        unit,
        labels,
        help,
    }
}

const fn counter(name: &'static str, labels: Labels, help: &'static str) -> MetricSpec {
    row(name, Kind::Counter, None, labels, help)
}

const fn gauge(name: &'static str, labels: Labels, help: &'static str) -> MetricSpec {
    row(name, Kind::Gauge, None, labels, help)
}

const fn seconds(name: &'static str, labels: Labels, help: &'static str) -> MetricSpec {
    row(name, Kind::Histogram, Some(Unit::Seconds), labels, help)
}

const fn ratio(name: &'static str, labels: Labels, help: &'static str) -> MetricSpec {
    row(name, Kind::Histogram, None, labels, help)
}

const fn tokens(name: &'static str, help: &'static str) -> MetricSpec {
    row(name, Kind::Histogram, None, &[], help)
}

#[rustfmt::skip]
const GATEWAY: &[MetricSpec] = &[
    counter("api_requests_total", &["method", "endpoint", "status"], "Requests by route and status; 499 where the client left before the answer."),
    seconds("api_request_duration_seconds", &["method", "endpoint"], "Time from the headers of a request to the last byte of its answer."),
    gauge("api_active_connections", &[], "Open client connections."),
    gauge("api_active_streams", &[], "Open event streams."),
    counter("api_connections_refused_total", &["how"], "Connections beyond the limit: told 503 (busy) or closed at once (closed)."),
    counter("api_rate_limited_total", &["by"], "Requests refused with 429, by the limit: address, key or tenant a minute; key-requests, key-streams, key-sockets at once."),
    counter("api_idempotent_requests_total", &["outcome"], "Requests with an Idempotency-Key: ran, replayed, or in conflict with another body."),
    counter("api_response_cache_total", &["result"], "Reads of routes that are kept: answered from the cache (hit), made (miss), or made beside it (bypass)."),
    counter("api_response_cache_invalidations_total", &[], "Writes that ended what the response cache kept for their user."),
    counter("api_issuer_keys_total", &["result"], "Reads of the issuer's keys: new ones, or why there were none; the known ones stay."),
    counter("api_shed_total", &[], "Requests refused with 503 because too many were being answered."),
    counter("api_webhooks_total", &["outcome"], "Ends of runs told to clients' addresses: sent, to be tried again (retried), given up (dropped), or removed because their records make no sense (unreadable)."),
];

#[rustfmt::skip]
const AGENTS: &[MetricSpec] = &[
    counter("agent_requests_total", &["status"], "Turns of agents by status."),
    seconds("agent_request_duration_seconds", &["operation"], "Time of agents' operations."),
    counter("agent_questions_rejected_total", &["fault"], "Questions of models that were not passed on, by fault."),
    tokens("agent_context_size_tokens", "Tokens of the context that a turn begins with: summary, memories, messages."),
    counter("agent_summarised_tokens_total", &[], "Tokens of conversations that were summarised."),
    counter("agent_summary_tokens_total", &[], "Tokens of the summaries made of them."),
];

#[rustfmt::skip]
const LLM: &[MetricSpec] = &[
    counter("llm_requests_total", &["provider", "status"], "Model calls by provider and status."),
    seconds("llm_request_duration_seconds", &["provider"], "Time of model calls by provider, waiting included."),
    seconds("llm_time_to_first_token_seconds", &["provider"], "Time to the first content by provider, waiting included."),
    counter("llm_tokens_total", &["provider", "kind"], "Model tokens by provider and kind."),
    seconds("gen_ai_client_operation_duration_seconds", &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_response_model", "error_type"], "Time of model calls by OpenTelemetry's conventions, waiting included."),
    seconds("gen_ai_client_operation_time_to_first_chunk_seconds", &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_response_model"], "Time to the first content of model calls by OpenTelemetry's conventions."),
    row("gen_ai_client_token_usage", Kind::Histogram, None, &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_response_model", "gen_ai_token_type"], "Tokens of a model call by OpenTelemetry's conventions."),
    counter("llm_retries_total", &["provider", "reason"], "Repeated model calls by provider and reason."),
    counter("llm_fallbacks_total", &["from", "to", "reason"], "Model calls given to the next model."),
    counter("llm_throttled_total", &["provider"], "Model calls refused for rate or load by provider."),
    counter("llm_rerouted_total", &["provider", "reason"], "Model calls given to another endpoint by provider and reason."),
    counter("llm_hedges_total", &["provider", "outcome"], "Second attempts beside slow model calls by provider and outcome."),
    gauge("llm_breaker_state", &["endpoint"], "Circuit breaker by endpoint: 0 closed, 1 half-open, 2 open."),
    counter("llm_breaker_changes_total", &["endpoint", "state"], "Changes of circuit breakers by endpoint and new state."),
    counter("llm_breaker_refusals_total", &["endpoint"], "Model calls refused by an open circuit breaker by endpoint."),
    counter("llm_cost_nanodollars_total", &["model"], "Cost of model calls in billionths of a dollar by model."),
    gauge("llm_cost_today_dollars", &[], "Cost of the day's model calls in dollars."),
    counter("llm_cost_alerts_total", &[], "Requests that cost more than the alert's threshold."),
    counter("llm_large_requests_total", &[], "Model calls that used more than 150,000 tokens."),
    counter("llm_over_budget_total", &["budget"], "Model calls that a budget did not cover."),
    counter("llm_cache_lookups_total", &["outcome"], "Requests that the answer cache may serve by outcome."),
    counter("llm_cache_failures_total", &["operation"], "Failures of the answer cache by operation."),
    counter("llm_embeddings_total", &["model", "status"], "Calls of embedding models by model and status."),
    seconds("llm_embedding_duration_seconds", &["model"], "Time of calls of embedding models by model, waiting included."),
    counter("llm_embedding_texts_total", &["model"], "Texts that embedding models were given."),
    counter("llm_embedding_tokens_total", &["model"], "Tokens that embedding models read."),
];

#[rustfmt::skip]
const CACHE: &[MetricSpec] = &[
    counter("redis_cache_hits_total", &["namespace", "tier"], "Cache look-ups that a tier answered: local, this process; shared, Redis."),
    counter("redis_cache_misses_total", &["namespace", "tier"], "Cache look-ups that a tier was asked and did not answer."),
    gauge("redis_cache_hit_rate", &["namespace"], "Share of cache look-ups that either tier answered since the start, 0 to 1."),
    gauge("redis_cache_size_bytes", &["namespace", "tier"], "What a cache tier holds, in bytes."),
    counter("redis_cache_evictions_total", &["namespace"], "Cache entries dropped for space."),
    seconds("redis_cache_ttl_remaining", &["namespace"], "How long what the shared tier gave is still kept."),
    seconds("api_cache_response_time", &["namespace", "tier"], "Time of cache look-ups that this process did not answer, by what did: shared, source."),
    counter("cache_shared_failures_total", &["namespace", "reason"], "Times that a shared cache failed and was left alone for a while."),
];

#[rustfmt::skip]
const QUEUE: &[MetricSpec] = &[
    gauge("lyceum_queue_waiting", &["queue", "band"], "Calls that wait in a queue."),
    gauge("lyceum_queue_running", &["queue"], "Calls let through by a queue and not yet settled."),
    counter("lyceum_queue_admitted_total", &["queue", "band"], "Calls let through by a queue."),
    seconds("lyceum_queue_wait_seconds", &["queue", "band"], "Wait of calls let through by a queue."),
    ratio("lyceum_queue_forecast_error_ratio", &["queue"], "Error of foretold waits as a multiple of the wait."),
    ratio("lyceum_queue_reservation_error_ratio", &["queue"], "Error of reserved tokens as a multiple of those used."),
    counter("lyceum_queue_shed_total", &["queue", "reason"], "Calls refused by a queue or gone unsent."),
    counter("lyceum_queue_throttled_total", &["queue"], "Refusals by the upstream for rate or load."),
    gauge("lyceum_queue_ledger_linked", &["queue"], "1 while the shared quota ledger answers."),
    gauge("lyceum_queue_ledger_replicas", &["queue"], "Processes that share the quota."),
    counter("lyceum_queue_ledger_failed_total", &["queue", "operation", "reason"], "Operations of the shared quota ledger that failed."),
];

#[rustfmt::skip]
const TOOLS: &[MetricSpec] = &[
    counter("tool_calls_total", &["tool", "status"], "Tool calls by tool and status."),
    seconds("tool_call_duration_seconds", &["tool"], "Time of tool calls by tool, waiting included."),
    counter("tool_results_total", &["tool", "from"], "Tool results by where they came from."),
    counter("tool_retries_total", &["tool"], "Tool calls made again."),
    counter("tool_results_warmed_total", &["tool"], "Kept tool results renewed before they were too old."),
    gauge("tool_breaker_open", &["tool"], "1 while the breaker of a tool is open."),
];

#[rustfmt::skip]
const ALERT: &[MetricSpec] = &[
    counter("alert_notices_total", &["channel", "status"], "Messages about alerts by channel and what became of them."),
    gauge("alert_notices_waiting", &["channel"], "Messages about alerts that a channel has not taken yet."),
    gauge("alert_firing", &["alert"], "1 while the server's own alert fires, else 0."),
];

#[rustfmt::skip]
const MCP: &[MetricSpec] = &[
    counter("mcp_connects_total", &["server", "status"], "Attempts to connect to MCP servers by server and status."),
    gauge("mcp_server_up", &["server"], "Whether the MCP server can be called."),
    gauge("mcp_server_tools", &["server"], "Tools taken from the MCP server."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_fit_to_be_published() {
        let mut names = BTreeSet::new();
        for spec in CATALOGUE.iter().flat_map(|group| group.metrics) {
            let name = spec.name;
            assert!(names.insert(name), "{name} stands twice");
            assert_eq!(
                spec.kind == Kind::Counter,
                name.ends_with("_total"),
                "{name}"
            );
            assert!(spec.help.ends_with('.'), "{name}");
            let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(fit), "{name}");
            for label in spec.labels {
                let unbounded = ["session", "user", "request", "tenant", "le", "quantile"];
                assert!(!unbounded.contains(label), "{name} has the label {label}");
            }
        }
    }

    #[test]
    fn a_series_of_a_histogram_is_its_metric_and_no_other_is() {
        let name = |series| metric(series).map(|spec| spec.name);
        assert_eq!(
            name("tool_call_duration_seconds_sum"),
            Some("tool_call_duration_seconds")
        );
        assert_eq!(name("tool_calls_total_sum"), None);
        assert_eq!(name("tool_call_duration_seconds_max"), None);
    }
}
