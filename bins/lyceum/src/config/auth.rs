//! The configuration of who may call, and how often.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[auth]`: who may call. With no key and no issuer the server answers on loopback only.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// The file that `lyceum keys` keeps, which a running server follows. Default: `keys.toml`
    /// in the data directory.
    pub keys_file: Option<PathBuf>,
    /// The keys that do not change while the server runs; `lyceum key NAME` makes one.
    pub keys: Vec<Key>,
    /// The issuer whose tokens count too. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
}

/// One `[[auth.keys]]`, and one `[[keys]]` of the file that `lyceum keys` keeps.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    /// A name for logs.
    pub name: String,
    /// The tenant whose data the key reaches.
    pub tenant: String,
    /// The user inside the tenant. Default: the key's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The SHA-256 of the key, in hexadecimal. The key itself is never stored.
    pub sha256: String,
    /// Its requests in any 60 seconds. Default: `limits.key_per_minute`; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Its requests being answered at once, streams to their end. Default:
    /// `limits.key_requests`; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<u32>,
    /// Its streams open at once, and as many WebSockets. Default: `limits.key_streams`; at
    /// least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// What its user may spend in a day, in US dollars, with all keys of theirs: the smallest
    /// that is set counts. Needs a price for the model. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_usd: Option<f64>,
    /// From when on it is refused: a day (`2027-01-31`, at its start in UTC) or a time as in
    /// RFC 3339. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What it opens. Default: everything but what is the operator's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// The models that it may name under `/v1`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it was revoked; from then on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// What it was before it was rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

/// What a key was before, and until when that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replaced {
    /// The SHA-256 of the former key, in hexadecimal.
    pub sha256: String,
    /// From when on it is refused, as in RFC 3339.
    pub until: String,
}

/// A part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
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

/// `[auth.jwt]`: the issuer whose tokens count beside keys.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    /// The claim `iss` of its tokens, exactly.
    pub issuer: String,
    /// One of these must be in the claim `aud`.
    pub audience: Vec<String>,
    /// The address of its keys, a JSON Web Key Set: `https`, or of this machine. Default: the one
    /// that the issuer's `/.well-known/openid-configuration` names.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// Or the file of its keys, which is read again when it changes.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// How often the address is asked without a reason, in seconds. Default 300; 10 to 86,400.
    #[serde(default = "refresh")]
    pub refresh_seconds: u64,
    /// How its tokens may be signed: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
    /// EdDSA. Default: RS256, ES256 and EdDSA.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<String>,
    /// How far its clock may be off, in seconds. Default 60; 0 to 300.
    #[serde(default = "leeway")]
    pub leeway_seconds: u64,
    /// Claims that must be there beside `exp`, `iss`, `aud` and those named below. Default: none.
    #[serde(default)]
    pub required_claims: Vec<String>,
    /// The claim that names the tenant, or a JSON pointer such as `/org/id`. Default `tenant`.
    #[serde(default)]
    pub tenant_claim: Option<String>,
    /// The tenant of all its tokens instead. Default: none.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The claim that names the user, or a JSON pointer. Default `sub`.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// The claim that names what a token opens, a text of words or a list. Default: none.
    #[serde(default)]
    pub scopes_claim: Option<String>,
    /// What stands before each of those words, e.g. `lyceum:`. Default: nothing.
    #[serde(default)]
    pub scope_prefix: String,
    /// What every token opens, where no claim says it. Default: student, models and graphs.
    #[serde(default = "scopes")]
    pub scopes: Vec<Scope>,
    /// The models that they may name under `/v1`. Default: all.
    #[serde(default)]
    pub models: Vec<String>,
    /// Requests of each user in any 60 seconds. Default: `limits.key_per_minute`.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Requests of each user being answered at once. Default: `limits.key_requests`.
    #[serde(default)]
    pub concurrent_requests: Option<u32>,
    /// Streams of each user open at once, and as many WebSockets. Default:
    /// `limits.key_streams`.
    #[serde(default)]
    pub streams: Option<u32>,
    /// What each user may spend in a day, in US dollars. Default: no limit.
    #[serde(default)]
    pub daily_usd: Option<f64>,
}

fn refresh() -> u64 {
    300
}

fn leeway() -> u64 {
    60
}

fn algorithms() -> Vec<String> {
    ["RS256", "ES256", "EdDSA"].map(str::to_owned).into()
}

fn user_claim() -> String {
    "sub".to_owned()
}

fn scopes() -> Vec<Scope> {
    vec![Scope::Student, Scope::Models, Scope::Graphs]
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
    /// Requests of one key being answered at once, streams to their end. Default: none.
    pub key_requests: Option<u32>,
    /// Streams of one key open at once, and as many WebSockets. Default: none.
    pub key_streams: Option<u32>,
}
