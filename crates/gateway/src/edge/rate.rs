//! Who has sent how much: limits for each client address, each key and each tenant.
//!
//! Invariant: memory is bounded whoever calls: keys and tenants are configured, and of
//! addresses the ones heard of longest ago are forgotten. A request that a later limit
//! refuses does not count against an earlier one of the same step.
//! Source of the headers: draft-ietf-httpapi-ratelimit-headers-10.

use std::{
    fmt::Write,
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashlink::LruCache;
use http::{HeaderMap, HeaderName, HeaderValue};
use metrics::counter;

use super::{
    address::Client,
    holding::Standing,
    window::{Left, WINDOW_SECONDS, Window},
};
use crate::{error::ApiError, metrics::RATE_LIMITED};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Locks are held for some hundred nanoseconds; this many make waiting for one rare.
const SHARDS: usize = 16;

/// How many requests are let through in any 60 seconds, and at once. `None` does not limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// From one client address; from one /64 network with IPv6.
    pub address_per_minute: Option<NonZeroU32>,
    /// With one key, where the key's own rules say nothing else.
    pub key_per_minute: Option<NonZeroU32>,
    /// With all keys of one tenant together.
    pub tenant_per_minute: Option<NonZeroU32>,
    /// Being answered at once with one key, streams to their end, where the key's own rules
    /// say nothing else.
    pub key_requests: Option<NonZeroU32>,
    /// Streams open at once with one key, and as many WebSockets, where the key's own rules
    /// say nothing else.
    pub key_streams: Option<NonZeroU32>,
    /// The most client addresses remembered, each with up to 0.6 KB; default 65,536, at
    /// least 16.
    pub addresses: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            address_per_minute: None,
            key_per_minute: None,
            tenant_per_minute: None,
            key_requests: None,
            key_streams: None,
            addresses: 65_536,
        }
    }
}

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Address,
    Key,
    Tenant,
    KeyRequests,
    KeyStreams,
    KeySockets,
}

impl Policy {
    pub(crate) const ALL: [Self; 6] = [
        Self::Address,
        Self::Key,
        Self::Tenant,
        Self::KeyRequests,
        Self::KeyStreams,
        Self::KeySockets,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Key => "key",
            Self::Tenant => "tenant",
            Self::KeyRequests => "key-requests",
            Self::KeyStreams => "key-streams",
            Self::KeySockets => "key-sockets",
        }
    }
}

/// What somebody sent lately. Clones share it, so that it outlives a change of the limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Used(Arc<Mutex<Window>>);

impl Used {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a key, or a tenant, may send.
#[derive(Debug)]
pub(crate) struct Allowance {
    policy: Policy,
    limit: u32,
    used: Used,
}

impl Allowance {
    pub(crate) fn new(policy: Policy, limit: NonZeroU32, used: Used) -> Arc<Self> {
        Arc::new(Self {
            policy,
            limit: limit.get(),
            used,
        })
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.used.window()
    }

    /// Its name, its limit, and what is left of it now.
    pub(crate) fn standing(&self, now: Duration) -> (&'static str, u32, Left) {
        let left = self.window().left(self.limit, now);
        (self.policy.label(), self.limit, left)
    }
}

/// What client addresses sent.
#[derive(Debug)]
pub(crate) struct Addresses {
    limit: Option<u32>,
    hasher: RandomState,
    shards: Vec<Mutex<LruCache<Client, Window, RandomState>>>,
}

impl Addresses {
    pub(crate) fn new(limits: &RateLimits) -> Self {
        let each = (limits.addresses / SHARDS).max(1);
        let shard = || Mutex::new(LruCache::with_hasher(each, RandomState::new()));
        Self {
            limit: limits.address_per_minute.map(NonZeroU32::get),
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    /// Counts a request of a client.
    pub(crate) fn take(
        &self,
        client: Client,
        now: Duration,
        standings: &mut Standings,
    ) -> Result<(), ApiError> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        let shard = self.hasher.hash_one(client) as usize % SHARDS;
        let mut shard = self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let taken = match shard.get_mut(&client) {
            Some(window) => window.take(limit, now),
            None => {
                let mut window = Window::default();
                let taken = window.take(limit, now);
                shard.insert(client, window);
                taken
            }
        };
        drop(shard);
        standings.add(Policy::Address, limit, taken)
    }
}

/// Counts a request against all of these, or against none where one of them refuses.
pub(crate) fn take(
    allowances: &[Arc<Allowance>],
    now: Duration,
    standings: &mut Standings,
) -> Result<(), ApiError> {
    for (at, allowance) in allowances.iter().enumerate() {
        let taken = allowance.window().take(allowance.limit, now);
        if let Err(refusal) = standings.add(allowance.policy, allowance.limit, taken) {
            for earlier in &allowances[..at] {
                earlier.window().give_back();
            }
            return Err(refusal);
        }
    }
    Ok(())
}

/// Where a request stands with every limit that applies to it.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    rates: Vec<(Policy, u32, Left)>,
    at_once: Option<Standing>,
}

impl Standings {
    /// Where it stands with the limit of what its key has at once.
    pub(crate) fn note(&mut self, standing: Standing) {
        self.at_once = Some(standing);
    }

    fn add(
        &mut self,
        policy: Policy,
        limit: u32,
        taken: Result<Left, Duration>,
    ) -> Result<(), ApiError> {
        let left = taken.unwrap_or_else(|more_after| Left {
            remaining: 0,
            more_after,
        });
        self.rates.push((policy, limit, left));
        let Err(after) = taken else {
            return Ok(());
        };
        counter!(RATE_LIMITED, "by" => policy.label()).increment(1);
        Err(ApiError::RateLimited {
            by: policy.label(),
            limit,
            after,
        })
    }

    /// Tells the client.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let (mut policies, mut standings) = (String::new(), String::new());
        for (policy, limit, left) in &self.rates {
            let comma = if policies.is_empty() { "" } else { ", " };
            let (name, remaining) = (policy.label(), left.remaining);
            let after = left.more_after.as_millis().div_ceil(1_000);
            // Writing to a string never fails.
            let _ = write!(policies, "{comma}\"{name}\";q={limit};w={WINDOW_SECONDS}");
            let _ = write!(standings, "{comma}\"{name}\";r={remaining};t={after}");
        }
        if let Some(at_once) = self.at_once {
            at_once.write(&mut policies, &mut standings);
        }
        if policies.is_empty() {
            return;
        }
        for (name, value) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, standings)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::holding::Holding, *};

    fn many(limit: u32) -> NonZeroU32 {
        NonZeroU32::new(limit).unwrap()
    }

    #[test]
    fn a_refused_request_counts_against_no_limit_of_its_step() {
        let key = Allowance::new(Policy::Key, many(2), Used::default());
        let tenant = Allowance::new(Policy::Tenant, many(1), Used::default());
        let other = Allowance::new(Policy::Tenant, many(9), Used::default());
        let now = Duration::ZERO;
        let both = [key.clone(), tenant];
        assert!(take(&both, now, &mut Standings::default()).is_ok());
        let refused = take(&both, now, &mut Standings::default()).unwrap_err();
        assert!(matches!(
            refused,
            ApiError::RateLimited { by: "tenant", .. }
        ));
        assert!(
            take(
                &[key.clone(), other.clone()],
                now,
                &mut Standings::default()
            )
            .is_ok()
        );
        assert!(take(&[key, other], now, &mut Standings::default()).is_err());
    }

    #[test]
    fn addresses_are_forgotten_before_memory_is_full() {
        let addresses = Addresses::new(&RateLimits {
            address_per_minute: Some(many(1)),
            addresses: 64,
            ..RateLimits::default()
        });
        let now = Duration::ZERO;
        for n in 0..10_000_u32 {
            let client = Client::V4(n.to_be_bytes());
            assert!(
                addresses
                    .take(client, now, &mut Standings::default())
                    .is_ok()
            );
        }
        let kept: usize = addresses
            .shards
            .iter()
            .map(|s| s.lock().unwrap().len())
            .sum();
        assert!(kept <= 64, "{kept}");
        let last = Client::V4(9_999_u32.to_be_bytes());
        assert!(
            addresses
                .take(last, now, &mut Standings::default())
                .is_err()
        );
    }

    #[test]
    fn the_headers_name_every_limit() {
        let mut standings = Standings::default();
        let limits = [
            Allowance::new(Policy::Key, many(10), Used::default()),
            Allowance::new(Policy::Tenant, many(100), Used::default()),
        ];
        take(&limits, Duration::ZERO, &mut standings).unwrap();
        let at_once = Holding::new(Policy::KeyRequests, 5, Arc::default());
        let _hold = at_once.take(&mut standings).unwrap();
        let mut headers = HeaderMap::new();
        standings.write(&mut headers);
        assert_eq!(
            headers["ratelimit-policy"],
            "\"key\";q=10;w=60, \"tenant\";q=100;w=60, \"key-requests\";q=5;qu=\"concurrent-requests\""
        );
        assert_eq!(
            headers["ratelimit"],
            "\"key\";r=9;t=61, \"tenant\";r=99;t=61, \"key-requests\";r=4"
        );
    }
}
