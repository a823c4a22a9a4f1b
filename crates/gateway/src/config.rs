//! What the gateway allows, with defaults for one machine.
//!
//! Invariant: every wait and every size has a limit. Deliberately absent: reading
//! files or the environment (the binary does that once).

use std::time::Duration;

use crate::{
    auth::AuthConfig,
    edge::{
        address::TrustedProxies, cache::ResponseCacheConfig, cors::CorsOrigins, rate::RateLimits,
    },
};

/// Longer waits count as this one: a sum with the clock must not overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How the gateway answers.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Sizes and times of requests and streams.
    pub limits: Limits,
    /// Who may call.
    pub auth: AuthConfig,
    /// How often clients, keys and tenants may call; by default as they like.
    pub rates: RateLimits,
    /// Whose word about a client's address counts; by default nobody's.
    pub proxies: TrustedProxies,
    /// The origins whose pages may call; by default none but this server's own.
    pub cors: CorsOrigins,
    /// How answers to GET are given again.
    pub cache: ResponseCacheConfig,
    /// The silence after which an open stream carries a comment, so that proxies keep
    /// it open; default 15 s, at least 1 s. It is a third longer for streams that begin while
    /// the machine's load average of one minute is above 4, and twice as long above 8.
    pub heartbeat: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            auth: AuthConfig::default(),
            rates: RateLimits::default(),
            proxies: TrustedProxies::default(),
            cors: CorsOrigins::default(),
            cache: ResponseCacheConfig::default(),
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// Sizes and times of requests and streams. Zero allows nothing; a day is the longest time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body, counted on the bytes that arrive; default 1 MiB.
    pub body_bytes: usize,
    /// The longest explanation, in bytes of UTF-8; default 64 KiB.
    pub explanation_bytes: usize,
    /// The most messages of a conversation in one request; default 1,000.
    pub messages: usize,
    /// The most requests being answered at once, streams up to their headers; more get 503 at
    /// once, health and metrics aside; default 10,000.
    pub requests: usize,
    /// The most streams open at once; more get 503 and a place in the line; default 1,000.
    pub streams: usize,
    /// The longest a request body may take to arrive; default 10 s.
    pub body_read: Duration,
    /// The longest a request may take to its answer, or a stream to its headers; default 120 s.
    pub request: Duration,
    /// The longest a stream may stay without its first event; default 60 s.
    pub first_event: Duration,
    /// The longest pause between two events of a stream; default 60 s.
    pub between_events: Duration,
    /// The longest a stream may last; default 600 s, the read time-out that proxies in
    /// front of it are configured with.
    pub stream: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            explanation_bytes: 64 << 10,
            messages: 1_000,
            requests: 10_000,
            streams: 1_000,
            body_read: Duration::from_secs(10),
            request: Duration::from_secs(120),
            first_event: Duration::from_secs(60),
            between_events: Duration::from_secs(60),
            stream: Duration::from_secs(600),
        }
    }
}

/// How connections are served. A day is the longest time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfig {
    /// The longest a client may take to send a request's headers, and the longest an
    /// idle connection is kept; default 10 s.
    pub header_read: Duration,
    /// The longest a client may refuse to read before it is cut off; default 30 s.
    pub write_stall: Duration,
    /// The most bytes of a request's line and headers; more get 431; default 32 KiB.
    /// At most 100 headers are taken, hyper's own limit.
    pub header_bytes: usize,
    /// The most bytes read ahead or not yet written on one connection; default 64 KiB,
    /// at least 8 KiB.
    pub buffer_bytes: usize,
    /// The most connections served at once; a few more are told 503, the rest are
    /// closed; default 10,000.
    pub connections: usize,
    /// How long to keep accepting after a stop was asked for, so that balancers notice
    /// that `/readyz` fails; default zero, fit for a terminal. Behind a balancer set more
    /// than its check interval.
    pub drain: Duration,
    /// How long requests under way may still take after that; then streams are told
    /// and the rest is cut; default 30 s.
    pub finish: Duration,
    /// Whether connections from trusted proxies ([`GatewayConfig::proxies`]) begin with a header
    /// of the PROXY protocol, version 1 or 2: one without it is closed, and what it says is the
    /// other end. Connections from others have none. Default false.
    pub proxy_protocol: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            header_bytes: 32 << 10,
            buffer_bytes: 64 << 10,
            connections: 10_000,
            drain: Duration::ZERO,
            finish: Duration::from_secs(30),
            proxy_protocol: false,
        }
    }
}
