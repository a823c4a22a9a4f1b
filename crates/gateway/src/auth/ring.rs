//! The keys that are known now, and what each has used of its limits.
//!
//! Invariant: a change of the keys takes effect for the next request and forgets nothing: who
//! keeps tenant and name keeps its counters. Once a key was needed it stays needed. A
//! presented key is found by its digest in a map under a hash that nobody outside can compute,
//! and compared in constant time. Memory is bounded: of users by token the ones heard of
//! longest ago are forgotten.

use std::{
    collections::{HashMap, HashSet},
    hash::RandomState,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use hashlink::LruCache;
use http::{HeaderMap, header};
use lyceum_core::{Scope, TenantId, UserId};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::{
    ApiKey, AuthConfig, Bearer, Caller, KeyRules, Opens,
    issuer::Issuer,
    token::{Verified, is_token},
    validity::Validity,
};
use crate::{
    edge::{
        holding::{Holding, StreamCaps},
        rate::{Allowance, Policy, RateLimits, Used},
    },
    error::ApiError,
};

/// The header that carries a key where `Authorization` is taken.
const KEY_HEADER: &str = "x-api-key";

/// The most tenants and users by token that are remembered.
const REMEMBERED: usize = 65_536;

/// The key's name in logs of who came with a token.
const TOKEN: &str = "token";

/// What one key or user has used of its limits; it outlives a change of them.
#[derive(Debug)]
struct Counters {
    number: usize,
    window: Used,
    requests: Arc<AtomicU32>,
    streams: Arc<AtomicU32>,
    sockets: Arc<AtomicU32>,
}

#[derive(Debug, Default)]
struct Known {
    callers: HashMap<[u8; 32], Caller>,
    counters: HashMap<(TenantId, String), (KeyRules, Arc<Counters>)>,
}

/// Who may call.
#[derive(Debug)]
pub(crate) struct Keys {
    rates: RateLimits,
    known: RwLock<Arc<Known>>,
    issuer: Option<Issuer>,
    is_needed: AtomicBool,
    numbers: AtomicUsize,
    caps: StreamCaps,
    tenants: Mutex<LruCache<TenantId, Used, RandomState>>,
    users: Mutex<LruCache<(TenantId, UserId), Arc<Counters>, RandomState>>,
}

impl Keys {
    pub(crate) fn new(config: &AuthConfig, rates: &RateLimits, caps: StreamCaps) -> Self {
        let keys = Self {
            rates: *rates,
            known: RwLock::default(),
            issuer: config.issuer.as_ref().map(Issuer::new),
            is_needed: AtomicBool::new(config.is_required || config.issuer.is_some()),
            numbers: AtomicUsize::new(1),
            caps,
            tenants: Mutex::new(LruCache::with_hasher(REMEMBERED, RandomState::new())),
            users: Mutex::new(LruCache::with_hasher(REMEMBERED, RandomState::new())),
        };
        keys.set(&config.keys);
        keys
    }

    /// Whether everybody is the local user.
    pub(crate) fn is_anonymous(&self) -> bool {
        !self.is_needed.load(Ordering::Acquire)
    }

    pub(crate) fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    /// Takes these keys and no others.
    pub(crate) fn set(&self, keys: &[ApiKey]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Known::default();
        for key in keys {
            let named = (key.tenant.clone(), key.name.clone());
            let before = known.counters.get(&named);
            let counters = match before {
                Some((rules, counters)) if *rules == key.rules => Arc::clone(counters),
                // A new number: what the old rules let through is not given again.
                Some((_, counters)) => Arc::new(Counters {
                    number: self.number(),
                    window: Used::clone(&counters.window),
                    requests: Arc::clone(&counters.requests),
                    streams: Arc::clone(&counters.streams),
                    sockets: Arc::clone(&counters.sockets),
                }),
                None => Arc::new(self.counters()),
            };
            let replaced = key.replaced.map(|(digest, until)| (digest, Some(until)));
            for (digest, until) in [(key.sha256, None)].into_iter().chain(replaced) {
                let ends = [key.rules.expires, until].into_iter().flatten().min();
                let before = known.callers.get(&digest);
                let validity = match before.and_then(|caller| caller.bearer.as_ref()) {
                    // Whoever waits for its end hears that it was moved.
                    Some(bearer) => bearer.validity.clone(),
                    None => Validity::new(ends),
                };
                validity.set_until(ends);
                let caller = self.caller(key, &counters, validity);
                next.callers.insert(digest, caller);
            }
            next.counters.insert(named, (key.rules.clone(), counters));
        }
        let gone = known.callers.iter();
        for (_, caller) in gone.filter(|(digest, _)| !next.callers.contains_key(*digest)) {
            if let Some(bearer) = &caller.bearer {
                bearer.validity.revoke();
            }
        }
        let numbers: HashSet<usize> = next.counters.values().map(|(_, c)| c.number).collect();
        for (_, counters) in known.counters.values() {
            if !numbers.contains(&counters.number) {
                self.caps.set(counters.number, None);
            }
        }
        if !keys.is_empty() {
            self.is_needed.store(true, Ordering::Release);
        }
        *known = Arc::new(next);
    }

    fn caller(&self, key: &ApiKey, counters: &Counters, validity: Validity) -> Caller {
        let scope = Scope {
            tenant: key.tenant.clone(),
            user: key.user.clone(),
            ..Scope::local()
        };
        let opens = Opens::of_key(&key.rules.scopes);
        let bearer = self.bearer(&scope.tenant, &key.rules, counters, opens, validity);
        self.cap(&key.rules, counters);
        Caller {
            scope,
            key: Some(key.name.as_str().into()),
            number: counters.number,
            bearer: Some(Arc::new(bearer)),
        }
    }

    fn bearer(
        &self,
        tenant: &TenantId,
        rules: &KeyRules,
        counters: &Counters,
        opens: Opens,
        validity: Validity,
    ) -> Bearer {
        let rates = &self.rates;
        let own = rules.requests_per_minute.or(rates.key_per_minute);
        let own = own.map(|limit| Allowance::new(Policy::Key, limit, counters.window.clone()));
        let shared = rates.tenant_per_minute;
        let shared = shared.map(|limit| {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            let window = tenants.entry(tenant.clone()).or_insert_with(Used::default);
            Allowance::new(Policy::Tenant, limit, window.clone())
        });
        let requests = rules.concurrent_requests.or(rates.key_requests);
        let streams = rules.streams.or(rates.key_streams);
        Bearer {
            opens,
            models: rules.models.clone(),
            allowances: own.into_iter().chain(shared).collect(),
            requests: requests.map(|limit| {
                Holding::new(
                    Policy::KeyRequests,
                    limit.get(),
                    Arc::clone(&counters.requests),
                )
            }),
            sockets: streams.map(|limit| {
                Holding::new(
                    Policy::KeySockets,
                    limit.get(),
                    Arc::clone(&counters.sockets),
                )
            }),
            validity,
        }
    }

    /// Says how many streams the owner of these counters may have open.
    fn cap(&self, rules: &KeyRules, counters: &Counters) {
        let limit = rules.streams.or(self.rates.key_streams);
        let cap = limit.map(|limit| {
            Holding::new(
                Policy::KeyStreams,
                limit.get(),
                Arc::clone(&counters.streams),
            )
        });
        self.caps.set(counters.number, cap);
    }

    fn number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn counters(&self) -> Counters {
        Counters {
            number: self.number(),
            window: Used::default(),
            requests: Arc::default(),
            streams: Arc::default(),
            sockets: Arc::default(),
        }
    }

    /// Finds out who calls.
    ///
    /// # Errors
    ///
    /// Why nobody may; [`ApiError::TokenKey`] where asking the issuer for its keys again may
    /// help.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        now: OffsetDateTime,
    ) -> Result<Caller, ApiError> {
        if self.is_anonymous() {
            return Ok(Caller::local());
        }
        let presented = presented(headers).ok_or(ApiError::KeyMissing)?;
        if let Some(issuer) = self.issuer.as_ref().filter(|_| is_token(presented)) {
            let verified = issuer.verify(presented, now)?;
            return Ok(self.by_token(issuer, verified));
        }
        let digest = ApiKey::digest(presented);
        let known = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&known)
        };
        match known.callers.get_key_value(&digest) {
            Some((known, caller)) if bool::from(known.ct_eq(&digest)) => {
                caller.check_valid(now)?;
                Ok(caller.clone())
            }
            _ => Err(ApiError::KeyUnknown),
        }
    }

    fn by_token(&self, issuer: &Issuer, verified: Verified) -> Caller {
        let Verified {
            tenant,
            user,
            scopes,
            ends,
        } = verified;
        let counters = self.user(&tenant, &user, issuer.rules());
        let (rules, opens) = (issuer.rules(), Opens::These(scopes));
        let validity = Validity::new(Some(ends));
        let bearer = self.bearer(&tenant, rules, &counters, opens, validity);
        Caller {
            scope: Scope {
                tenant,
                user,
                ..Scope::local()
            },
            key: Some(TOKEN.into()),
            number: counters.number,
            bearer: Some(Arc::new(bearer)),
        }
    }

    fn user(&self, tenant: &TenantId, user: &UserId, rules: &KeyRules) -> Arc<Counters> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let named = (tenant.clone(), user.clone());
        if let Some(counters) = users.get(&named) {
            return Arc::clone(counters);
        }
        if users.len() >= REMEMBERED
            && let Some((_, oldest)) = users.remove_lru()
        {
            self.caps.set(oldest.number, None);
        }
        let counters = Arc::new(self.counters());
        self.cap(rules, &counters);
        users.insert(named, Arc::clone(&counters));
        counters
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| key.trim());
    }
    headers.get(KEY_HEADER)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::edge::rate::{self, Standings};

    fn key(secret: &str, rules: KeyRules) -> ApiKey {
        ApiKey {
            name: format!("key of {secret}"),
            tenant: TenantId::new("acme").unwrap(),
            user: UserId::new(secret).unwrap(),
            sha256: ApiKey::digest(secret),
            replaced: None,
            rules,
        }
    }

    fn keys(secrets: &[&str]) -> Keys {
        let config = AuthConfig {
            keys: secrets
                .iter()
                .map(|s| key(s, KeyRules::default()))
                .collect(),
            ..AuthConfig::default()
        };
        Keys::new(&config, &RateLimits::default(), StreamCaps::default())
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn by(keys: &Keys, secret: &str) -> Result<Caller, ApiError> {
        keys.identify(&headers("x-api-key", secret), NOW)
    }

    #[test]
    fn a_key_names_its_tenant_and_user() {
        let keys = keys(&["alice", "bob"]);
        for (name, value) in [
            ("authorization", "Bearer bob"),
            ("authorization", "bearer bob"),
            ("x-api-key", "bob"),
        ] {
            let caller = keys.identify(&headers(name, value), NOW).unwrap();
            assert_eq!(caller.scope.user.as_str(), "bob");
            assert_eq!(caller.scope.tenant.as_str(), "acme");
        }
    }

    #[test]
    fn a_wrong_or_missing_key_is_refused() {
        let keys = keys(&["alice"]);
        let refused = |headers| keys.identify(&headers, NOW).unwrap_err();
        assert!(matches!(refused(HeaderMap::new()), ApiError::KeyMissing));
        let basic = headers("authorization", "Basic alice");
        assert!(matches!(refused(basic), ApiError::KeyMissing));
        let wrong = headers("authorization", "Bearer alic");
        assert!(matches!(refused(wrong), ApiError::KeyUnknown));
    }

    #[test]
    fn a_key_that_goes_is_refused_and_the_last_one_leaves_the_door_shut() {
        let keys = keys(&["alice", "bob"]);
        let alice = by(&keys, "alice").unwrap();
        keys.set(&[key("bob", KeyRules::default())]);
        assert!(by(&keys, "alice").is_err());
        assert!(alice.check_valid(NOW).is_err());
        assert!(alice.lapse().now_or_never().is_some());
        assert!(by(&keys, "bob").is_ok());
        keys.set(&[]);
        assert!(by(&keys, "bob").is_err());
        assert!(!keys.is_anonymous());
    }

    #[test]
    fn the_first_key_shuts_the_door() {
        let keys = keys(&[]);
        assert!(keys.is_anonymous() && by(&keys, "").is_ok());
        keys.set(&[key("alice", KeyRules::default())]);
        assert!(!keys.is_anonymous() && by(&keys, "").is_err());
    }

    #[test]
    fn a_change_of_the_keys_gives_nobody_a_new_minute() {
        let limited = |limit| KeyRules {
            requests_per_minute: NonZeroU32::new(limit),
            ..KeyRules::default()
        };
        let keys = keys(&[]);
        let take = || {
            let caller = by(&keys, "alice").unwrap();
            let standings = &mut Standings::default();
            rate::take(caller.allowances(), std::time::Duration::ZERO, standings).is_ok()
        };
        keys.set(&[key("alice", limited(2))]);
        assert_eq!([take(), take(), take()], [true, true, false]);
        keys.set(&[key("alice", limited(2)), key("bob", limited(2))]);
        assert!(!take());
        keys.set(&[key("alice", limited(3))]);
        assert_eq!([take(), take()], [true, false]);
    }

    #[test]
    fn a_replaced_key_is_taken_until_its_time_is_over() {
        let keys = keys(&[]);
        let until = NOW + time::Duration::HOUR;
        let fresh = ApiKey {
            replaced: Some((ApiKey::digest("old"), until)),
            ..key("new", KeyRules::default())
        };
        keys.set(std::slice::from_ref(&fresh));
        let at = |secret, now| keys.identify(&headers("x-api-key", secret), now);
        assert!(at("new", until).is_ok() && at("old", NOW).is_ok());
        assert!(matches!(at("old", until), Err(ApiError::KeyExpired)));
        let old = by(&keys, "old").unwrap();
        keys.set(&[ApiKey {
            replaced: None,
            ..fresh
        }]);
        assert!(old.check_valid(NOW).is_err() && by(&keys, "old").is_err());
    }
}
