//! The configuration of who may call, and how often.

use serde::{Deserialize, Serialize};

/// `[auth]`: who may call. With no key the server answers on loopback only.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// The keys; `lyceum key NAME` makes one.
    pub keys: Vec<Key>,
}

/// One `[[auth.keys]]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    /// A name for logs.
    pub name: String,
    /// The tenant whose data the key reaches.
    pub tenant: String,
    /// The user inside the tenant. Default: the key's name.
    #[serde(default)]
    pub user: Option<String>,
    /// The SHA-256 of the key, in hexadecimal. The key itself is never stored.
    pub sha256: String,
    /// Its requests in any 60 seconds. Default: `limits.key_per_minute`; at least 1.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// From when on it is refused: a day (`2027-01-31`, at its start in UTC) or a time as in
    /// RFC 3339. Default: never.
    #[serde(default)]
    pub expires: Option<String>,
    /// What it opens. Default: everything but what is the operator's.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The models that it may name under `/v1`. Default: all.
    #[serde(default)]
    pub models: Vec<String>,
}

/// A part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// `/chat`, `/memorize`, `/sessions`, `/panel`.
    Student,
    /// `/v1`.
    Models,
    /// The LangGraph server's API.
    Graphs,
    /// `/metrics`.
    Metrics,
    /// `/api/operator`.
    Operator,
}

/// `[limits]`: how often clients may call. Unset limits do not apply; health and metrics are
/// exempt.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Requests in any 60 seconds from one address, or one /64 network with IPv6. Default: none.
    pub address_per_minute: Option<u32>,
    /// Requests in any 60 seconds with one key. Default: none.
    pub key_per_minute: Option<u32>,
    /// Requests in any 60 seconds of one tenant. Default: none.
    pub tenant_per_minute: Option<u32>,
}
