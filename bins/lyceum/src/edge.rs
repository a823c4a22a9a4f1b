//! What surrounds the routes, as the configuration says: limits, proxies, origins, TLS.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use lyceum_gateway::{
    Address, AuthConfig, BindError, Bound, CorsOrigins, ForwardedHeader, Gateway, GatewayConfig,
    RateLimits, ResponseCacheConfig, ServerConfig, Tls, TrustedProxies,
};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ForwardedIn, Limits, Server};

/// How often answers kept for an `Idempotency-Key` are looked through.
const FORGET_EVERY: Duration = Duration::from_secs(10 * 60);

/// Removes what the gateway kept for its time, until it is cancelled.
pub(crate) async fn forget(gateway: Gateway, stop: CancellationToken) {
    loop {
        gateway.forget_expired().await;
        let pause = tokio::time::sleep(FORGET_EVERY);
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// How requests are answered, by those who may call.
///
/// # Errors
///
/// What cannot be understood, with its key.
pub(crate) fn gateway(config: &Config, auth: AuthConfig) -> Result<GatewayConfig> {
    let server = &config.server;
    let mut built = GatewayConfig::default();
    built.limits.body_bytes = server.max_body_bytes;
    built.limits.request = Duration::from_secs(server.request_timeout_seconds);
    built.limits.requests = server.max_requests;
    built.limits.streams = server.max_streams;
    built.cache = ResponseCacheConfig {
        ttl: Duration::from_secs(server.response_cache_seconds),
        bytes: server.response_cache_mib << 20,
    };
    built.rates = rates(&config.limits);
    let header = match server.forwarded_header {
        ForwardedIn::XForwardedFor => ForwardedHeader::XForwardedFor,
        ForwardedIn::Forwarded => ForwardedHeader::Forwarded,
    };
    built.proxies =
        TrustedProxies::new(&server.trusted_proxies, header).context("server.trusted_proxies")?;
    built.cors = CorsOrigins::new(&server.cors_origins).context("server.cors_origins")?;
    built.auth = auth;
    Ok(built)
}

/// Takes the address.
///
/// # Errors
///
/// What stands in the way, in words for the person who started the program.
pub(crate) async fn bind(gateway: Gateway, server: &Server, listen: &Address) -> Result<Bound> {
    let mut built = lyceum_gateway::Server::new(gateway, connections(server));
    if let (Some(cert), Some(key)) = (&server.tls_cert, &server.tls_key) {
        let tls = Tls::open(cert, key).context("server.tls_cert, server.tls_key")?;
        built = built.with_tls(Arc::new(tls));
    }
    let bound = match listen {
        Address::Net(address) => built.bind(*address).await,
        Address::Unix(path) => built.bind_unix(path).await,
    };
    bound.map_err(|error| with_hint(&error))
}

/// The gateway does not know this program's flags and commands.
fn with_hint(error: &BindError) -> anyhow::Error {
    let hint = match error {
        BindError::Unprotected { .. } => {
            "; `lyceum keys add NAME` makes one, [auth.jwt] trusts an issuer"
        }
        BindError::InUse { .. } | BindError::Socket { .. } => " with --listen",
        _ => "",
    };
    anyhow!("{error}{hint}")
}

/// How connections are served.
fn connections(server: &Server) -> ServerConfig {
    ServerConfig {
        connections: server.max_connections,
        drain: Duration::from_secs(server.drain_seconds),
        finish: Duration::from_secs(server.stop_timeout_seconds),
        proxy_protocol: server.proxy_protocol,
        ..ServerConfig::default()
    }
}

fn rates(limits: &Limits) -> RateLimits {
    RateLimits {
        address_per_minute: limits.address_per_minute.and_then(NonZeroU32::new),
        key_per_minute: limits.key_per_minute.and_then(NonZeroU32::new),
        tenant_per_minute: limits.tenant_per_minute.and_then(NonZeroU32::new),
        key_requests: limits.key_requests.and_then(NonZeroU32::new),
        key_streams: limits.key_streams.and_then(NonZeroU32::new),
        ..RateLimits::default()
    }
}
