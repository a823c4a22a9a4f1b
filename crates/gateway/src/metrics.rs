//! The names of the gateway's metrics; what each means stands in the catalogue of
//! `lyceum-observe`.
//!
//! Invariant: every label is bounded: methods and statuses are HTTP's, an endpoint is
//! a route as written in the router, never the path that was asked for.

use metrics::counter;

use crate::edge::{cache, once, rate::Policy};

pub(crate) const REQUESTS: &str = "api_requests_total";
pub(crate) const DURATION: &str = "api_request_duration_seconds";
pub(crate) const CONNECTIONS: &str = "api_active_connections";
pub(crate) const STREAMS: &str = "api_active_streams";
pub(crate) const REFUSED_CONNECTIONS: &str = "api_connections_refused_total";
pub(crate) const RATE_LIMITED: &str = "api_rate_limited_total";
pub(crate) const IDEMPOTENT: &str = "api_idempotent_requests_total";
pub(crate) const CACHE: &str = "api_response_cache_total";
pub(crate) const CACHE_INVALIDATIONS: &str = "api_response_cache_invalidations_total";
pub(crate) const ISSUER_KEYS: &str = "api_issuer_keys_total";
pub(crate) const SHED: &str = "api_shed_total";
pub(crate) const WEBHOOKS: &str = "api_webhooks_total";

/// Makes the counters of rare events appear before they happen, so that their first one is
/// a rise and not a beginning.
pub(crate) fn begin() {
    for policy in Policy::ALL {
        counter!(RATE_LIMITED, "by" => policy.label()).increment(0);
    }
    for outcome in once::Outcome::ALL {
        counter!(IDEMPOTENT, "outcome" => outcome.label()).increment(0);
    }
    for lookup in cache::Lookup::ALL {
        counter!(CACHE, "result" => lookup.label()).increment(0);
    }
    for how in ["busy", "closed"] {
        counter!(REFUSED_CONNECTIONS, "how" => how).increment(0);
    }
    counter!(CACHE_INVALIDATIONS).increment(0);
    for result in [
        "new",
        "file",
        "network",
        "status",
        "document",
        "other_issuer",
        "too_large",
        "cut",
        "no_set",
    ] {
        counter!(ISSUER_KEYS, "result" => result).increment(0);
    }
    counter!(SHED).increment(0);
    for outcome in ["sent", "retried", "dropped", "unreadable"] {
        counter!(WEBHOOKS, "outcome" => outcome).increment(0);
    }
}
