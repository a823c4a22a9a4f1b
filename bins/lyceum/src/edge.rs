//! What surrounds the routes, as the configuration says: keys, limits, proxies, origins.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use lyceum_gateway::{
    Address, ApiKey, AuthConfig, BindError, Bound, CorsOrigins, ForwardedHeader, Gateway,
    GatewayConfig, KeyRules, KeyScope, RateLimits, ResponseCacheConfig, ServerConfig, Tls,
    TrustedProxies,
};
use time::{
    Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description,
};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ForwardedIn, Key, Limits, Scope, Server};

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

/// How requests are answered.
///
/// # Errors
///
/// What cannot be understood, with its key.
pub(crate) fn gateway(config: &Config) -> Result<GatewayConfig> {
    let server = &config.server;
    let mut built = GatewayConfig::default();
    built.limits.body_bytes = server.max_body_bytes;
    built.limits.request = Duration::from_secs(server.request_timeout_seconds);
    built.limits.requests = server.max_requests;
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
    let keys = config.auth.keys.iter().map(api_key);
    built.auth = AuthConfig {
        keys: keys.collect::<Result<_>>()?,
    };
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
        BindError::Unprotected { .. } => " under [[auth.keys]]; `lyceum key NAME` makes one",
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
        ..ServerConfig::default()
    }
}

fn rates(limits: &Limits) -> RateLimits {
    RateLimits {
        address_per_minute: limits.address_per_minute.and_then(NonZeroU32::new),
        key_per_minute: limits.key_per_minute.and_then(NonZeroU32::new),
        tenant_per_minute: limits.tenant_per_minute.and_then(NonZeroU32::new),
        ..RateLimits::default()
    }
}

fn api_key(key: &Key) -> Result<ApiKey> {
    let wrong = || format!("auth.keys: the key named {:?}", key.name);
    let tenant = key.tenant.parse().with_context(wrong)?;
    let user = key
        .user
        .as_ref()
        .unwrap_or(&key.name)
        .parse()
        .with_context(wrong)?;
    let sha256 = digest(&key.sha256).with_context(|| {
        format!(
            "{}: sha256 must be 64 hexadecimal digits; `lyceum key NAME` prints them",
            wrong()
        )
    })?;
    let expires = key.expires.as_deref().map(|text| {
        moment(text).with_context(|| {
            format!("{}: expires must be a day such as 2027-01-31 or a time such as 2027-01-31T12:00:00Z", wrong())
        })
    });
    let requests_per_minute = key.requests_per_minute.map(|limit| {
        NonZeroU32::new(limit)
            .with_context(|| format!("{}: requests_per_minute must be 1 or more", wrong()))
    });
    Ok(ApiKey {
        name: key.name.clone(),
        tenant,
        user,
        sha256,
        rules: KeyRules {
            requests_per_minute: requests_per_minute.transpose()?,
            expires: expires.transpose()?,
            scopes: key.scopes.iter().map(|scope| part(*scope)).collect(),
            models: key.models.clone(),
        },
    })
}

fn part(scope: Scope) -> KeyScope {
    match scope {
        Scope::Student => KeyScope::Student,
        Scope::Models => KeyScope::Models,
        Scope::Graphs => KeyScope::Graphs,
        Scope::Metrics => KeyScope::Metrics,
        Scope::Operator => KeyScope::Operator,
    }
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    let day = || Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    time.or_else(|| day().map(|day| day.midnight().assume_utc()))
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_expires_at_a_day_or_a_time() {
        let day = moment("2027-01-31").unwrap();
        assert_eq!(Some(day), moment("2027-01-31T00:00:00Z"));
        assert_eq!(Some(day), moment("2027-01-31T01:00:00+01:00"));
        for wrong in ["", "tomorrow", "2027-02-30", "31.01.2027"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }
}
