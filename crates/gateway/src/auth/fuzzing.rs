//! Tokens, key sets and tickets, for any bytes.

use std::{sync::LazyLock, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use time::OffsetDateTime;

use super::{
    jwks::KeySet,
    ticket::{Tickets, speaks_protocol},
    token::{is_token, verify},
    *,
};

/// A public key of P-256 (RFC 7517, appendix A.1), whose private half nobody here has.
const KEYS: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":"1",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

static ISSUER: LazyLock<(IssuerConfig, Option<KeySet>)> = LazyLock::new(|| {
    let config = IssuerConfig {
        issuer: "https://issuer.example".to_owned(),
        audiences: vec!["lyceum".to_owned()],
        keys: IssuerKeys::file("/nowhere"),
        algorithms: vec![TokenAlgorithm::Es256, TokenAlgorithm::Rs256],
        leeway: Duration::from_secs(60),
        required_claims: Vec::new(),
        tenant: ClaimTenant::Claim("tenant".to_owned()),
        user_claim: "sub".to_owned(),
        scopes: ClaimScopes::Always(vec![KeyScope::Student]),
        rules: KeyRules::default(),
    };
    (config, KeySet::parse(KEYS).ok())
});

/// A token that nobody signed is refused.
pub(crate) fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (config, keys) = &*ISSUER;
    assert!(keys.is_some(), "the key is none");
    if let Some(keys) = keys {
        let verified = verify(config, keys, &text, OffsetDateTime::UNIX_EPOCH);
        assert!(verified.is_err(), "nobody signed {text:?}");
    }
    if is_token(&text) {
        assert_eq!(text.split('.').count(), 3);
    }
}

/// A key set holds some key or is refused.
pub(crate) fn key_set(bytes: &[u8]) {
    let _ = KeySet::parse(bytes);
}

/// A ticket that nobody was given opens nothing.
pub(crate) fn ticket(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    let _ = speaks_protocol(&headers);
    let redeemed = Tickets::default().redeem(&headers, Duration::ZERO);
    assert!(redeemed.is_none_or(|redeemed| redeemed.is_err()));
}
