//! The metrics of the gateway.
//!
//! Invariant: every label is bounded: methods and statuses are HTTP's, an endpoint is
//! a route as written in the router, never the path that was asked for.

use lyceum_observe::{Kind, MetricSpec};
use metrics::{Unit, counter};

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

/// The catalogue. Give it to [`lyceum_observe::describe`] once a recorder is installed.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec {
        name: REQUESTS,
        kind: Kind::Counter,
        unit: None,
        labels: &["method", "endpoint", "status"],
        help: "Requests by route and status; 499 where the client left before the answer.",
    },
    MetricSpec {
        name: DURATION,
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels: &["method", "endpoint"],
        help: "Time from the headers of a request to the last byte of its answer.",
    },
    MetricSpec {
        name: CONNECTIONS,
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Open client connections.",
    },
    MetricSpec {
        name: STREAMS,
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Open event streams.",
    },
    MetricSpec {
        name: REFUSED_CONNECTIONS,
        kind: Kind::Counter,
        unit: None,
        labels: &["how"],
        help: "Connections beyond the limit: told 503 (busy) or closed at once (closed).",
    },
    MetricSpec {
        name: RATE_LIMITED,
        kind: Kind::Counter,
        unit: None,
        labels: &["by"],
        help: "Requests refused with 429, by the limit: address, key or tenant a minute; key-requests, key-streams, key-sockets at once.",
    },
    MetricSpec {
        name: IDEMPOTENT,
        kind: Kind::Counter,
        unit: None,
        labels: &["outcome"],
        help: "Requests with an Idempotency-Key: ran, replayed, or in conflict with another body.",
    },
    MetricSpec {
        name: CACHE,
        kind: Kind::Counter,
        unit: None,
        labels: &["result"],
        help: "Reads of routes that are kept: answered from the cache (hit), made (miss), or made beside it (bypass).",
    },
    MetricSpec {
        name: CACHE_INVALIDATIONS,
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Writes that ended what the response cache kept for their user.",
    },
    MetricSpec {
        name: ISSUER_KEYS,
        kind: Kind::Counter,
        unit: None,
        labels: &["result"],
        help: "Reads of the issuer's keys: new ones, or why there were none; the known ones stay.",
    },
    MetricSpec {
        name: SHED,
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Requests refused with 503 because too many were being answered.",
    },
];

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
        "too_large",
        "cut",
        "no_set",
    ] {
        counter!(ISSUER_KEYS, "result" => result).increment(0);
    }
    counter!(SHED).increment(0);
}
