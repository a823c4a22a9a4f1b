//! The matrix of tokens: each is right but for one thing.

use std::sync::LazyLock;

use jsonwebtoken::{EncodingKey, Header as Written, jwk::Jwk};
use serde_json::json;

use super::*;
use crate::auth::{ClaimScopes, ClaimTenant, IssuerKeys, KeyRules};

const NOW: i64 = 1_800_000_000;

/// A key of P-256, which signs, and its public half.
struct Pair(EncodingKey, Value);

impl Pair {
    fn new(id: &str) -> Self {
        let made = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(&made.serialize_der());
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        let mut public = serde_json::to_value(jwk).unwrap();
        public["kid"] = json!(id);
        Self(key, public)
    }
}

static OWN: LazyLock<Pair> = LazyLock::new(|| Pair::new("own"));
static OTHER: LazyLock<Pair> = LazyLock::new(|| Pair::new("other"));

fn config() -> IssuerConfig {
    IssuerConfig {
        issuer: "https://issuer.example".into(),
        audiences: vec!["lyceum".into(), "school".into()],
        keys: IssuerKeys::file("/nowhere"),
        algorithms: vec![TokenAlgorithm::Es256, TokenAlgorithm::Rs256],
        leeway: Duration::from_secs(60),
        required_claims: vec!["jti".into()],
        tenant: ClaimTenant::Claim("tenant".into()),
        user_claim: "sub".into(),
        scopes: ClaimScopes::Always(vec![KeyScope::Student]),
        rules: KeyRules::default(),
    }
}

fn keys() -> KeySet {
    let set = json!({"keys": [OWN.1, OTHER.1]}).to_string();
    KeySet::parse(set.as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": "lyceum", "exp": NOW + 300, "nbf": NOW - 10,
        "sub": "ada", "tenant": "acme", "jti": "1",
    })
}

fn header(id: Option<&str>) -> Written {
    let mut header = Written::new(Algorithm::ES256);
    header.kid = id.map(str::to_owned);
    header
}

fn signed(claims: &Value) -> String {
    jsonwebtoken::encode(&header(Some("own")), claims, &OWN.0).unwrap()
}

fn read(token: &str) -> Result<Verified, TokenError> {
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    verify(&config(), &keys(), token, now)
}

/// The verdict on a right token with some claims changed; `null` takes one away.
fn with(changes: &Value) -> Result<Verified, TokenError> {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
    read(&signed(&claims))
}

fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signature = URL_SAFE_NO_PAD.encode(signature);
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[test]
fn a_right_token_says_who_comes_and_until_when() {
    let verified = with(&json!({})).unwrap();
    assert_eq!(verified.tenant.as_str(), "acme");
    assert_eq!(verified.user.as_str(), "ada");
    assert_eq!(verified.scopes, [KeyScope::Student]);
    assert_eq!(verified.ends.unix_timestamp(), NOW + 300 + 60);
    assert!(with(&json!({"aud": ["elsewhere", "school"]})).is_ok());
    assert!(with(&json!({"exp": NOW as f64 + 0.5, "nbf": null})).is_ok());
    assert!(is_token(&signed(&claims())));
    assert!(!is_token("lyc-0123"));
}

#[test]
fn times_hold_within_the_leeway_and_not_beyond() {
    assert!(with(&json!({"exp": NOW - 59})).is_ok());
    assert_eq!(with(&json!({"exp": NOW - 60})), Err(TokenError::Expired));
    assert_eq!(with(&json!({"exp": 0})), Err(TokenError::Expired));
    assert!(with(&json!({"nbf": NOW + 60})).is_ok());
    assert_eq!(with(&json!({"nbf": NOW + 61})), Err(TokenError::NotYet));
    for wrong in [json!("soon"), json!(-1), json!([NOW]), json!(true)] {
        let refused = with(&json!({"exp": wrong}));
        let is_named = refused == Err(missing("exp"));
        assert!(
            is_named || refused == Err(TokenError::Malformed),
            "{refused:?}"
        );
        assert!(with(&json!({"nbf": wrong})).is_err());
    }
    assert_eq!(with(&json!({"exp": null})), Err(missing("exp")));
    // Out of all range: refused by the library.
    assert!(with(&json!({"exp": 1e300})).is_err());
}

#[test]
fn issuer_audience_and_required_claims_must_be_right() {
    assert_eq!(
        with(&json!({"iss": "https://issuer.example/"})),
        Err(TokenError::Issuer)
    );
    assert_eq!(
        with(&json!({"iss": ["https://issuer.example"]})),
        Err(TokenError::Issuer)
    );
    assert_eq!(with(&json!({"iss": null})), Err(missing("iss")));
    assert_eq!(
        with(&json!({"aud": "elsewhere"})),
        Err(TokenError::Audience)
    );
    assert_eq!(with(&json!({"aud": []})), Err(TokenError::Audience));
    assert_eq!(with(&json!({"aud": null})), Err(missing("aud")));
    for claim in ["jti", "tenant", "sub"] {
        assert_eq!(with(&json!({ claim: null })), Err(missing(claim)));
    }
    assert_eq!(with(&json!({"tenant": "a/b"})), Err(missing("tenant")));
}

#[test]
fn only_the_issuers_signature_counts() {
    let right = signed(&claims());
    let (head, signature) = right.rsplit_once('.').unwrap();
    let (header_part, _) = head.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(
        json!({"iss": "https://issuer.example", "aud": "lyceum", "exp": NOW + 300, "sub": "eve", "tenant": "acme", "jti": "1"}).to_string(),
    );
    assert_eq!(
        read(&format!("{header_part}.{other}.{signature}")),
        Err(TokenError::Signature)
    );
    assert_eq!(read(&format!("{head}.")), Err(TokenError::Signature));
    // Signed with one of its keys, said to be another.
    let swapped = jsonwebtoken::encode(&header(Some("other")), &claims(), &OWN.0).unwrap();
    assert_eq!(read(&swapped), Err(TokenError::Signature));
    let unknown = jsonwebtoken::encode(&header(Some("gone")), &claims(), &OWN.0).unwrap();
    assert_eq!(read(&unknown), Err(TokenError::UnknownKey));
    let unnamed = jsonwebtoken::encode(&header(None), &claims(), &OWN.0).unwrap();
    assert_eq!(read(&unnamed), Err(TokenError::NoKeyId));
    let stranger = Pair::new("own");
    let forged = jsonwebtoken::encode(&header(Some("own")), &claims(), &stranger.0).unwrap();
    assert_eq!(read(&forged), Err(TokenError::Signature));
}

#[test]
fn no_other_algorithm_counts_whatever_the_header_says() {
    for none in ["none", "None", "NONE", "nOnE", "", "HS256", "RS999"] {
        let token = raw(&json!({"alg": none, "kid": "own"}), &claims(), b"");
        assert_eq!(read(&token), Err(TokenError::Algorithm), "{none}");
    }
    // The public key, which everybody has, taken for a shared secret.
    let public = serde_json::to_vec(&OWN.1).unwrap();
    let mut confused = Written::new(Algorithm::HS256);
    confused.kid = Some("own".into());
    let secret = EncodingKey::from_secret(&public).unwrap();
    let token = jsonwebtoken::encode(&confused, &claims(), &secret).unwrap();
    assert_eq!(read(&token), Err(TokenError::Algorithm));
    // Allowed, but not for a key of this kind.
    let token = raw(&json!({"alg": "RS256", "kid": "own"}), &claims(), &[0; 256]);
    assert_eq!(read(&token), Err(TokenError::UnknownKey));
    // Known, but not allowed.
    let token = raw(&json!({"alg": "ES384", "kid": "own"}), &claims(), &[0; 96]);
    assert_eq!(read(&token), Err(TokenError::Algorithm));
}

#[test]
fn a_header_brings_no_keys_and_asks_for_nothing() {
    let stranger = Pair::new("stranger");
    let mut bringing = header(Some("stranger"));
    bringing.jwk = Some(serde_json::from_value(stranger.1.clone()).unwrap());
    bringing.jku = Some("https://evil.example/keys".into());
    let token = jsonwebtoken::encode(&bringing, &claims(), &stranger.0).unwrap();
    assert_eq!(read(&token), Err(TokenError::UnknownKey));
    let critical = json!({"alg": "ES256", "kid": "own", "crit": ["b64"], "b64": false});
    assert_eq!(
        read(&raw(&critical, &claims(), &[0; 64])),
        Err(TokenError::Critical)
    );
}

#[test]
fn what_is_no_token_is_refused_without_a_panic() {
    let right = signed(&claims());
    let long = format!("{right}{}", "A".repeat(LONGEST));
    for wrong in [
        "",
        ".",
        "..",
        "...",
        "eyJ..",
        "eyJ.eyJ.eyJ",
        "é.é.é",
        long.as_str(),
        &right[..30],
        &format!("{right}.x"),
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    for at in 0..right.len() {
        let mut bytes = right.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        // The last character of a part may hold bits that do not count.
        if let Ok(verified) = read(&changed) {
            assert_eq!(verified, read(&right).unwrap());
        }
    }
}
