//! The metrics of caches. Those named `redis_cache_…` count every tier, by the label `tier`:
//! `local` is this process, `shared` the tier behind it.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::{Namespace, TierError};

/// Counter. Look-ups that a tier answered, by `namespace` and `tier`.
pub(crate) const HITS: &str = "redis_cache_hits_total";
/// Counter. Look-ups that a tier was asked and did not answer, by `namespace` and `tier`.
pub(crate) const MISSES: &str = "redis_cache_misses_total";
/// Gauge, 0 to 1. Look-ups that either tier answered, since the start, by `namespace`.
pub(crate) const HIT_RATE: &str = "redis_cache_hit_rate";
/// Gauge, bytes. What a tier holds, by `namespace` and `tier`.
pub(crate) const SIZE: &str = "redis_cache_size_bytes";
/// Counter. Entries dropped for space by this process, by `namespace`.
pub(crate) const EVICTIONS: &str = "redis_cache_evictions_total";
/// Histogram, seconds. How long what the shared tier gave is still kept, by `namespace`.
pub(crate) const TTL_REMAINING: &str = "redis_cache_ttl_remaining";
/// Histogram, seconds. Time of look-ups that this process did not answer, by `namespace` and
/// `tier`: `shared`, or `source` with its load.
pub(crate) const RESPONSE_TIME: &str = "api_cache_response_time";
/// Counter. Times that the shared tier failed and was left alone for a while, by `namespace`
/// and `reason`.
pub(crate) const FAILURES: &str = "cache_shared_failures_total";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(
        HITS,
        "Cache look-ups that a tier answered: local, this process; shared, Redis."
    );
    describe_counter!(
        MISSES,
        "Cache look-ups that a tier was asked and did not answer."
    );
    describe_gauge!(
        HIT_RATE,
        "Share of cache look-ups that either tier answered since the start, 0 to 1."
    );
    describe_gauge!(SIZE, "What a cache tier holds, in bytes.");
    describe_counter!(EVICTIONS, "Cache entries dropped for space.");
    describe_histogram!(
        TTL_REMAINING,
        Unit::Seconds,
        "How long what the shared tier gave is still kept."
    );
    describe_histogram!(
        RESPONSE_TIME,
        Unit::Seconds,
        "Time of cache look-ups that this process did not answer, by what did: shared, source."
    );
    describe_counter!(
        FAILURES,
        "Times that a shared cache failed and was left alone for a while."
    );
}

/// The handles of one cache, made once: a hit in this process takes nanoseconds.
pub(crate) struct Handles {
    pub(crate) local_hits: Counter,
    pub(crate) local_misses: Counter,
    pub(crate) shared_hits: Counter,
    pub(crate) shared_misses: Counter,
    pub(crate) hit_rate: Gauge,
    pub(crate) local_size: Gauge,
    pub(crate) shared_size: Gauge,
    pub(crate) ttl_remaining: Histogram,
    pub(crate) shared_time: Histogram,
    pub(crate) source_time: Histogram,
}

impl Handles {
    pub(crate) fn new(namespace: &Namespace, has_shared: bool) -> Self {
        let name = || namespace.as_str().to_owned();
        let (local, shared) = ("local", "shared");
        // What there is no tier for has no series.
        let of = |has, counter: fn(String, &'static str) -> Counter, tier| match has {
            true => counter(name(), tier),
            false => Counter::noop(),
        };
        let hits = |name, tier| counter!(HITS, "namespace" => name, "tier" => tier);
        let misses = |name, tier| counter!(MISSES, "namespace" => name, "tier" => tier);
        let shared_size = match has_shared {
            true => gauge!(SIZE, "namespace" => name(), "tier" => shared),
            false => Gauge::noop(),
        };
        Self {
            local_hits: of(true, hits, local),
            local_misses: of(true, misses, local),
            shared_hits: of(has_shared, hits, shared),
            shared_misses: of(has_shared, misses, shared),
            hit_rate: gauge!(HIT_RATE, "namespace" => name()),
            local_size: gauge!(SIZE, "namespace" => name(), "tier" => local),
            shared_size,
            ttl_remaining: histogram!(TTL_REMAINING, "namespace" => name()),
            shared_time: histogram!(RESPONSE_TIME, "namespace" => name(), "tier" => shared),
            source_time: histogram!(RESPONSE_TIME, "namespace" => name(), "tier" => "source"),
        }
    }
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}

pub(crate) fn evictions(namespace: &Namespace) -> Counter {
    counter!(EVICTIONS, "namespace" => namespace.as_str().to_owned())
}

pub(crate) fn seconds(took: Duration) -> f64 {
    took.as_secs_f64()
}

pub(crate) fn tier_failed(namespace: &Namespace, operation: &'static str, error: &TierError) {
    let reason = error.label();
    let name = namespace.as_str().to_owned();
    counter!(FAILURES, "namespace" => name, "reason" => reason).increment(1);
    let cause = std::error::Error::source(error);
    tracing::warn!(%namespace, operation, reason, cause, "the shared cache is left alone for a while");
}

pub(crate) fn tier_is_back(namespace: &Namespace) {
    tracing::info!(%namespace, "the shared cache is back");
}

pub(crate) fn unreadable(namespace: &Namespace, error: &serde_json::Error) {
    // The error's text may repeat what was cached.
    let at = error.column();
    tracing::debug!(%namespace, at, "a value of the shared cache has another shape");
}
