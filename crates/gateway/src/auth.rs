//! Who calls: API keys, tokens of an issuer, or the person at this machine.
//!
//! Invariant: tenant and user come from the key or the token alone, never from the request.
//! Without keys and issuer everybody is the local user, which [`crate::Server::bind`] allows
//! on loopback only; there a browser must have been sent by this server itself, because any
//! web page can make a browser call localhost. What a caller may do is decided here, how often
//! it may do it in [`crate::edge`]. Deliberately absent: sessions, cookies, passwords.

mod claims;
mod foreign;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod issuer;
mod jwks;
mod ring;
mod ticket;
mod token;
mod validity;

use std::{fmt, num::NonZeroU32, sync::Arc};

use futures_util::future::BoxFuture;
use lyceum_core::{Scope, TenantId, UserId};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    edge::{
        holding::{Hold, Holding},
        rate::{Allowance, Standings},
    },
    error::ApiError,
    routes::Family,
};

pub use claims::{ClaimScopes, ClaimTenant};
pub(crate) use foreign::refuse_foreign;
pub use issuer::{IssuerConfig, IssuerError, IssuerKeys};
pub(crate) use ring::Keys;
pub(crate) use ticket::{TICKET_SECONDS, Tickets, WEBSOCKET_PROTOCOL, speaks_protocol};
pub use token::TokenAlgorithm;
pub(crate) use token::TokenError;
use validity::Validity;

/// Who may call.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// The keys; [`crate::Gateway::set_keys`] changes them later.
    pub keys: Vec<ApiKey>,
    /// The issuer whose tokens count beside keys.
    pub issuer: Option<IssuerConfig>,
    /// Whether a key is needed though there is none yet. Without it, no keys and no issuer
    /// mean that everybody is the local user, on loopback only, until there is a key.
    pub is_required: bool,
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
    /// What was its digest before, which is taken until a moment, so that a new key can reach
    /// its users in time.
    pub replaced: Option<([u8; 32], OffsetDateTime)>,
    /// What it may do.
    pub rules: KeyRules,
}

/// What a key, or a user by token, may do. By default everything that there is, for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// The most requests in any 60 seconds; `None` takes
    /// [`crate::RateLimits::key_per_minute`].
    pub requests_per_minute: Option<NonZeroU32>,
    /// The most requests being answered at once, streams to their end; `None` takes
    /// [`crate::RateLimits::key_requests`].
    pub concurrent_requests: Option<NonZeroU32>,
    /// The most streams open at once, and as many WebSockets; `None` takes
    /// [`crate::RateLimits::key_streams`].
    pub streams: Option<NonZeroU32>,
    /// From when on it is refused; its streams and WebSockets end then.
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
    /// The key's name; `token` for who came with a token.
    pub(crate) key: Option<Arc<str>>,
    /// Which key or user by token, from 1; 0 without keys.
    pub(crate) number: usize,
    bearer: Option<Arc<Bearer>>,
}

/// What belongs to what was presented.
#[derive(Debug)]
struct Bearer {
    opens: Opens,
    models: Vec<String>,
    allowances: Vec<Arc<Allowance>>,
    /// How many requests it has answered at once.
    requests: Option<Holding>,
    /// How many WebSockets it has open.
    sockets: Option<Holding>,
    /// How long it is taken.
    validity: Validity,
}

/// The parts of the API that a caller may enter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opens {
    /// What concerns all tenants is nobody's by default.
    AllButOperator,
    These(Vec<KeyScope>),
}

impl Opens {
    fn of_key(scopes: &[KeyScope]) -> Self {
        match scopes {
            [] => Self::AllButOperator,
            scopes => Self::These(scopes.to_vec()),
        }
    }

    fn contains(&self, scope: KeyScope) -> bool {
        match self {
            Self::AllButOperator => scope != KeyScope::Operator,
            Self::These(scopes) => scopes.contains(&scope),
        }
    }
}

impl Caller {
    /// The person at this machine.
    fn local() -> Self {
        Self {
            scope: Scope::local(),
            key: None,
            number: 0,
            bearer: None,
        }
    }

    /// How often its key and its tenant may call.
    pub(crate) fn allowances(&self) -> &[Arc<Allowance>] {
        let bearer = self.bearer.as_deref();
        bearer.map_or(&[], |bearer| &bearer.allowances)
    }

    /// Counts a request as being answered, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// [`ApiError::AtOnce`].
    pub(crate) fn begin(&self, standings: &mut Standings) -> Result<Option<Hold>, ApiError> {
        let requests = self
            .bearer
            .as_ref()
            .and_then(|bearer| bearer.requests.as_ref());
        requests
            .map(|requests| requests.take(standings))
            .transpose()
    }

    /// Counts a WebSocket as open, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// [`ApiError::AtOnce`].
    pub(crate) fn connect(&self) -> Result<Option<Hold>, ApiError> {
        let sockets = self
            .bearer
            .as_ref()
            .and_then(|bearer| bearer.sockets.as_ref());
        let take = |sockets: &Holding| sockets.take(&mut Standings::default());
        sockets.map(take).transpose()
    }

    /// Limits of what it has at once, as they stand.
    pub(crate) fn held(&self) -> Option<&Holding> {
        self.bearer.as_ref()?.requests.as_ref()
    }

    /// Whether it may ask the model of this name.
    pub(crate) fn may_ask(&self, model: &str) -> bool {
        self.bearer.as_deref().is_none_or(|bearer| {
            bearer.models.is_empty() || bearer.models.iter().any(|known| known == model)
        })
    }

    /// Whether it opens a part of the API.
    pub(crate) fn may_enter(&self, family: Family) -> Result<(), ApiError> {
        let needed = match family {
            Family::Student => KeyScope::Student,
            Family::Models => KeyScope::Models,
            Family::Graphs => KeyScope::Graphs,
            Family::Metrics => KeyScope::Metrics,
            Family::Operator => KeyScope::Operator,
            Family::Open | Family::Own => return Ok(()),
        };
        match &self.bearer {
            Some(bearer) if !bearer.opens.contains(needed) => Err(ApiError::KeyScope),
            _ => Ok(()),
        }
    }

    /// Whether what it came with may still be used.
    ///
    /// # Errors
    ///
    /// [`ApiError::KeyExpired`], [`ApiError::KeyUnknown`].
    pub(crate) fn check_valid(&self, now: OffsetDateTime) -> Result<(), ApiError> {
        let bearer = self.bearer.as_ref();
        bearer.map_or(Ok(()), |bearer| bearer.validity.check(now))
    }

    /// Waits until what it came with may no longer be used, because it is no longer known or its
    /// time is over, and says why; who came without a key waits for ever.
    pub(crate) fn lapse(&self) -> BoxFuture<'static, ApiError> {
        match &self.bearer {
            Some(bearer) => Box::pin(bearer.validity.clone().lapse(OffsetDateTime::now_utc)),
            None => Box::pin(std::future::pending()),
        }
    }
}
