//! Who calls: API keys, or the person at this machine.
//!
//! Invariant: tenant and user come from the key alone, never from the request; a
//! presented key is compared to every configured one in constant time. Without keys
//! everybody is the local user, which [`crate::Server::bind`] allows on loopback only;
//! there a browser must have been sent by this server itself, because any web page can
//! make a browser call localhost. What a key may do is decided here, how often it may do it
//! in [`crate::edge`]. Deliberately absent: sessions, cookies, passwords.

use std::{collections::HashMap, fmt, net::IpAddr, num::NonZeroU32, sync::Arc};

use http::{HeaderMap, Method, Request, header, uri::Authority};
use lyceum_core::{Scope, TenantId, UserId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use crate::{
    edge::rate::{Allowance, Policy, RateLimits},
    error::ApiError,
    routes::Family,
};

/// The header that carries a key where `Authorization` is taken.
const KEY_HEADER: &str = "x-api-key";

/// Who may call.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// The keys; empty means anonymous, on loopback only.
    pub keys: Vec<ApiKey>,
}

impl AuthConfig {
    /// Whether everybody who reaches the server is the local user.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.keys.is_empty()
    }
}

/// One key. Keys are random and long (256 bits), so a plain digest of one cannot be
/// searched and needs no slow hash.
#[derive(Clone)]
pub struct ApiKey {
    /// A short name for logs.
    pub name: String,
    /// Whose data the key reaches.
    pub tenant: TenantId,
    /// As which user.
    pub user: UserId,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What it may do.
    pub rules: KeyRules,
}

/// What a key may do. By default everything that there is, for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// The most requests in any 60 seconds; `None` takes
    /// [`RateLimits::key_per_minute`].
    pub requests_per_minute: Option<NonZeroU32>,
    /// From when on it is refused.
    pub expires: Option<OffsetDateTime>,
    /// The parts of the API that it opens; empty means all but the operator's.
    pub scopes: Vec<KeyScope>,
    /// The models that it may name under `/v1`; empty means all.
    pub models: Vec<String>,
}

/// A part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// The student and the panel: `/chat`, `/memorize`, `/sessions`, `/panel`.
    Student,
    /// The compatible APIs under `/v1`.
    Models,
    /// The LangGraph server's API.
    Graphs,
    /// `/metrics` and `/api/metrics`.
    Metrics,
    /// `/api/operator`: only for a key that names it.
    Operator,
}

impl ApiKey {
    /// The digest of a key as it is stored.
    #[must_use]
    pub fn digest(key: &str) -> [u8; 32] {
        Sha256::digest(key.as_bytes()).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("tenant", &self.tenant)
            .field("user", &self.user)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) scope: Scope,
    pub(crate) key: Option<Arc<str>>,
    /// Which key, from 1; 0 without keys.
    pub(crate) number: usize,
    rules: Option<Arc<KeyRules>>,
    allowances: Arc<[Arc<Allowance>]>,
}

impl Caller {
    /// How often its key and its tenant may call.
    pub(crate) fn allowances(&self) -> &[Arc<Allowance>] {
        &self.allowances
    }

    /// Whether it may ask the model of this name.
    pub(crate) fn may_ask(&self, model: &str) -> bool {
        let rules = self.rules.as_deref();
        rules.is_none_or(|rules| {
            rules.models.is_empty() || rules.models.iter().any(|known| known == model)
        })
    }

    /// Whether its key opens a part of the API.
    pub(crate) fn may_enter(&self, family: Family) -> Result<(), ApiError> {
        let needed = match family {
            Family::Student => KeyScope::Student,
            Family::Models => KeyScope::Models,
            Family::Graphs => KeyScope::Graphs,
            Family::Metrics => KeyScope::Metrics,
            Family::Operator => KeyScope::Operator,
            Family::Open => return Ok(()),
        };
        match self.rules.as_deref() {
            // What concerns all tenants is nobody's by default.
            Some(rules) if needed == KeyScope::Operator && !rules.scopes.contains(&needed) => {
                Err(ApiError::KeyScope)
            }
            Some(rules) if !rules.scopes.is_empty() && !rules.scopes.contains(&needed) => {
                Err(ApiError::KeyScope)
            }
            _ => Ok(()),
        }
    }

    /// Whether its key may still be used.
    ///
    /// # Errors
    ///
    /// [`ApiError::KeyExpired`].
    pub(crate) fn check_expiry(&self) -> Result<(), ApiError> {
        match self.is_expired() {
            true => Err(ApiError::KeyExpired),
            false => Ok(()),
        }
    }

    fn is_expired(&self) -> bool {
        let expires = self.rules.as_ref().and_then(|rules| rules.expires);
        expires.is_some_and(|expires| OffsetDateTime::now_utc() >= expires)
    }
}

/// The configured keys, ready to compare.
#[derive(Debug)]
pub(crate) struct Keys(Vec<([u8; 32], Caller)>);

impl Keys {
    pub(crate) fn new(config: &AuthConfig, rates: &RateLimits) -> Self {
        let mut tenants: HashMap<TenantId, Arc<Allowance>> = HashMap::new();
        let mut caller = |(at, key): (usize, &ApiKey)| {
            let ApiKey { tenant, rules, .. } = key;
            let limit = rules.requests_per_minute.or(rates.key_per_minute);
            let own = limit.map(|limit| Allowance::new(Policy::Key, limit));
            let shared = rates.tenant_per_minute.map(|limit| {
                let new = || Allowance::new(Policy::Tenant, limit);
                Arc::clone(tenants.entry(tenant.clone()).or_insert_with(new))
            });
            Caller {
                scope: Scope {
                    tenant: tenant.clone(),
                    user: key.user.clone(),
                    ..Scope::local()
                },
                key: Some(key.name.as_str().into()),
                number: at + 1,
                rules: Some(Arc::new(rules.clone())),
                allowances: own.into_iter().chain(shared).collect(),
            }
        };
        let keys = config.keys.iter().enumerate();
        Self(
            keys.map(|(at, key)| (key.sha256, caller((at, key))))
                .collect(),
        )
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.0.is_empty()
    }

    /// Finds out who calls.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        if self.is_anonymous() {
            return Ok(Caller {
                scope: Scope::local(),
                key: None,
                number: 0,
                rules: None,
                allowances: Arc::default(),
            });
        }
        let presented = ApiKey::digest(presented(headers).ok_or(ApiError::KeyMissing)?);
        let mut found = None;
        for (digest, caller) in &self.0 {
            if bool::from(digest.ct_eq(&presented)) {
                found = Some(caller);
            }
        }
        match found {
            None => Err(ApiError::KeyUnknown),
            Some(caller) if caller.is_expired() => Err(ApiError::KeyExpired),
            Some(caller) => Ok(caller.clone()),
        }
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| key.trim());
    }
    headers.get(KEY_HEADER)?.to_str().ok().map(str::trim)
}

/// Refuses what a browser was tricked into sending to a server without keys: requests
/// under a foreign name (DNS rebinding) and writes from a foreign page.
pub(crate) fn refuse_foreign<B>(
    request: &Request<B>,
    is_allowed_origin: bool,
) -> Result<(), ApiError> {
    let host = request.headers().get(header::HOST);
    let host = host.map(|host| host.to_str().unwrap_or_default());
    let target = request.uri().authority().map(Authority::as_str);
    if ![host, target].into_iter().flatten().all(is_loopback) {
        return Err(ApiError::ForeignHost);
    }
    // A WebSocket is opened by a GET, from any page, and then writes.
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key(header::UPGRADE);
    if is_allowed_origin || only_reads {
        return Ok(());
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return match request.headers().get("sec-fetch-site") {
            Some(site) if site != "same-origin" && site != "none" => Err(ApiError::ForeignOrigin),
            _ => Ok(()),
        };
    };
    let origin = origin.to_str().unwrap_or_default();
    let origin = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    // HTTP/2 names the host in the target.
    match (origin, host.or(target)) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(ApiError::ForeignOrigin),
    }
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[&str]) -> Keys {
        let key = |secret: &&str| ApiKey {
            name: format!("key of {secret}"),
            tenant: TenantId::new("acme").unwrap(),
            user: UserId::new(secret).unwrap(),
            sha256: ApiKey::digest(secret),
            rules: KeyRules::default(),
        };
        let keys = secrets.iter().map(key).collect();
        Keys::new(&AuthConfig { keys }, &RateLimits::default())
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_key_names_its_tenant_and_user() {
        let keys = keys(&["alice", "bob"]);
        for (name, value) in [
            ("authorization", "Bearer bob"),
            ("authorization", "bearer bob"),
            ("x-api-key", "bob"),
        ] {
            let caller = keys.identify(&headers(name, value)).unwrap();
            assert_eq!(caller.scope.user.as_str(), "bob");
            assert_eq!(caller.scope.tenant.as_str(), "acme");
        }
    }

    #[test]
    fn a_wrong_or_missing_key_is_refused() {
        let keys = keys(&["alice"]);
        let refused = |headers| keys.identify(&headers).unwrap_err();
        assert!(matches!(refused(HeaderMap::new()), ApiError::KeyMissing));
        let basic = headers("authorization", "Basic alice");
        assert!(matches!(refused(basic), ApiError::KeyMissing));
        let wrong = headers("authorization", "Bearer alic");
        assert!(matches!(refused(wrong), ApiError::KeyUnknown));
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:1",
            "127.9.9.9",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil",
            "10.0.0.1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
