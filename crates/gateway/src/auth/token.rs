//! Whether a token is an issuer's word for this server now (RFC 7519, RFC 8725).
//!
//! Pure: the keys and the time are passed in. Invariant: nothing that a token says is used
//! before its signature was verified, but the name of its key and an algorithm that is
//! allowed. Deliberately absent: shared secrets, unsigned and encrypted tokens, headers that
//! bring or name keys of their own (`jwk`, `jku`, `x5u`), which are not read.

use std::{collections::HashSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use lyceum_core::{TenantId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    KeyScope, claims,
    issuer::IssuerConfig,
    jwks::{Found, KeySet, Kind},
};

/// The longest token looked at, in bytes.
const LONGEST: usize = 16 << 10;

/// How a token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "their names are those of RFC 7518 and RFC 8037"
)]
pub enum TokenAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl TokenAlgorithm {
    const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The algorithm of this name, e.g. `RS256`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Of what kind its keys are.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Es256 => Kind::P256,
            Self::Es384 => Kind::P384,
            Self::EdDsa => Kind::Ed25519,
            _ => Kind::Rsa,
        }
    }

    fn verified_as(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// Why a token is not taken. The texts are public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is no signed JSON Web Token")]
    Malformed,
    #[error("the token is signed with an algorithm that is not allowed here")]
    Algorithm,
    #[error("the token asks for an extension that is not understood here")]
    Critical,
    #[error("the token does not name its key, and the issuer has several")]
    NoKeyId,
    #[error("the key that signed the token is not one of the issuer's")]
    UnknownKey,
    #[error("the signature of the token is wrong")]
    Signature,
    #[error("the token has expired: get a new one from its issuer")]
    Expired,
    #[error("the token is not valid yet: check the clocks")]
    NotYet,
    #[error("the token is another issuer's")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token lacks the claim {name:?}, or holds something else there than is needed")]
    Claim { name: String },
}

/// What a token says that was verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) tenant: TenantId,
    pub(super) user: UserId,
    pub(super) scopes: Vec<KeyScope>,
    /// From when on it is refused.
    pub(super) ends: OffsetDateTime,
}

/// The part of the header that is needed before the signature is known to be right.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// Whether a text that was presented as a key is meant as a token.
pub(super) fn is_token(text: &str) -> bool {
    // What begins so is a JSON object in base64, and keys of this server never do.
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Verifies a token.
pub(super) fn verify(
    config: &IssuerConfig,
    keys: &KeySet,
    token: &str,
    now: OffsetDateTime,
) -> Result<Verified, TokenError> {
    if token.len() > LONGEST {
        return Err(TokenError::Malformed);
    }
    let (header, _) = token.split_once('.').ok_or(TokenError::Malformed)?;
    let header = URL_SAFE_NO_PAD.decode(header);
    let header = header.map_err(|_| TokenError::Malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    let algorithm = TokenAlgorithm::named(&header.alg)
        .filter(|algorithm| config.algorithms.contains(algorithm))
        .ok_or(TokenError::Algorithm)?;
    // RFC 7515, section 4.1.11.
    if header.crit.is_some() {
        return Err(TokenError::Critical);
    }
    let key = match keys.find(header.kid.as_deref(), algorithm) {
        Found::Key(key) => key,
        Found::Unknown => return Err(TokenError::UnknownKey),
        Found::Ambiguous => return Err(TokenError::NoKeyId),
    };
    let mut validation = Validation::new(algorithm.verified_as());
    // The library reads the clock by itself; times are compared below.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.required_spec_claims = ["exp", "iss", "aud"].map(str::to_owned).into();
    validation.iss = Some(HashSet::from([config.issuer.clone()]));
    validation.aud = Some(config.audiences.iter().cloned().collect());
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation);
    let claims = decoded.map_err(|error| refusal(&error.into_kind()))?.claims;
    for name in &config.required_claims {
        if claims::find(&claims, name).is_none() {
            return Err(TokenError::Claim { name: name.clone() });
        }
    }
    if claims.get("iss").and_then(Value::as_str) != Some(config.issuer.as_str()) {
        return Err(TokenError::Issuer);
    }
    let ends = moment(&claims, "exp")?
        .ok_or_else(|| missing("exp"))?
        .checked_add(seconds(config.leeway))
        .ok_or_else(|| missing("exp"))?;
    if now >= ends {
        return Err(TokenError::Expired);
    }
    if let Some(begins) = moment(&claims, "nbf")?
        && begins
            .checked_sub(seconds(config.leeway))
            .is_none_or(|begins| now < begins)
    {
        return Err(TokenError::NotYet);
    }
    Ok(Verified {
        tenant: config.tenant.of(&claims)?,
        user: claims::user(&claims, &config.user_claim)?,
        scopes: config.scopes.of(&claims),
        ends,
    })
}

fn refusal(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::MissingRequiredClaim(name) | ErrorKind::InvalidClaimFormat(name) => {
            TokenError::Claim { name: name.clone() }
        }
        _ => TokenError::Malformed,
    }
}

fn missing(name: &str) -> TokenError {
    TokenError::Claim {
        name: name.to_owned(),
    }
}

fn seconds(duration: Duration) -> time::Duration {
    time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)
}

/// A `NumericDate`: seconds since 1970, which may have a fraction.
fn moment(claims: &Map<String, Value>, name: &str) -> Result<Option<OffsetDateTime>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => seconds,
        (None, Some(seconds)) if seconds.is_finite() => seconds.floor() as i64,
        _ => return Err(missing(name)),
    };
    // Beyond the year 9999 is as good as never.
    let last = OffsetDateTime::from_unix_timestamp(253_402_300_799);
    let moment = OffsetDateTime::from_unix_timestamp(seconds);
    match moment.or(last) {
        Ok(moment) if seconds >= 0 => Ok(Some(moment)),
        _ => Err(missing(name)),
    }
}

#[cfg(test)]
mod tests;
