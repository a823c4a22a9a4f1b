//! The keys of an issuer: a JSON Web Key Set (RFC 7517).
//!
//! Invariant: a key verifies only the algorithms of its own kind, and none is symmetric: a
//! public key can never be taken for a shared secret. Keys that cannot be used are passed
//! over, a set without one that can is refused. Deliberately absent: certificates (`x5c`).

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::token::TokenAlgorithm;

/// The most keys looked at.
const MOST_KEYS: usize = 256;

/// Why a set is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetError {
    #[error("it is no JSON Web Key Set")]
    Malformed,
    #[error(
        "none of its {0} keys can be used: RSA, P-256, P-384 and Ed25519 keys for signatures can"
    )]
    Unusable(usize),
}

/// The usable keys of a set.
pub(super) struct KeySet(Vec<Known>);

struct Known {
    id: Option<String>,
    kind: Kind,
    /// The only algorithm that its owner uses it with, where that is said.
    algorithm: Option<TokenAlgorithm>,
    key: DecodingKey,
}

/// What a key is, which says what it can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Which key of a set is meant.
pub(super) enum Found<'a> {
    Key(&'a DecodingKey),
    /// A set that is newer may have it.
    Unknown,
    /// The token names none, and several would do.
    Ambiguous,
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl KeySet {
    pub(super) fn parse(text: &[u8]) -> Result<Self, SetError> {
        let Written { keys } = serde_json::from_slice(text).map_err(|_| SetError::Malformed)?;
        let usable: Vec<Known> = keys.iter().take(MOST_KEYS).filter_map(known).collect();
        match usable.is_empty() {
            true => Err(SetError::Unusable(keys.len())),
            false => Ok(Self(usable)),
        }
    }

    pub(super) fn find(&self, id: Option<&str>, algorithm: TokenAlgorithm) -> Found<'_> {
        let fits = |known: &&Known| {
            known.kind == algorithm.kind() && known.algorithm.is_none_or(|own| own == algorithm)
        };
        let mut fitting = self.0.iter().filter(fits);
        match id {
            Some(id) => match fitting.find(|known| known.id.as_deref() == Some(id)) {
                Some(known) => Found::Key(&known.key),
                None => Found::Unknown,
            },
            None => match (fitting.next(), fitting.next()) {
                (Some(known), None) => Found::Key(&known.key),
                (None, _) => Found::Unknown,
                _ => Found::Ambiguous,
            },
        }
    }
}

fn known(written: &Value) -> Option<Known> {
    let jwk = Jwk::deserialize(written).ok()?;
    if matches!(&jwk.common.public_key_use, Some(used) if *used != PublicKeyUse::Signature) {
        return None;
    }
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Kind::Rsa,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Kind::P256,
            EllipticCurve::P384 => Kind::P384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Kind::Ed25519
        }
        // Also a shared secret: whoever could read the set could sign with it.
        _ => return None,
    };
    let algorithm = match &jwk.common.key_algorithm {
        None => None,
        // One that is not known here is used with nothing that is.
        Some(named) => Some(TokenAlgorithm::named(&named.to_string())?),
    };
    Some(Known {
        id: jwk.common.key_id.clone(),
        kind,
        algorithm,
        key: DecodingKey::from_jwk(&jwk).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ed(id: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": id})
    }

    fn set(keys: &[Value]) -> Result<KeySet, SetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn what_cannot_be_used_is_passed_over() {
        let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"});
        let sealing = json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "b", "use": "enc"});
        let strange = json!({"kty": "LATTICE", "kid": "c"});
        let broken = json!({"kty": "OKP", "crv": "Ed25519", "x": "!", "kid": "d"});
        let other = json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "e", "alg": "HS256"});
        let useless = [secret, sealing, strange, broken, other, json!(7)];
        assert!(matches!(set(&useless), Err(SetError::Unusable(6))));
        let mut mixed = useless.to_vec();
        mixed.push(ed("f"));
        let mixed = set(&mixed).unwrap();
        let found = |id| mixed.find(Some(id), TokenAlgorithm::EdDsa);
        assert!(matches!(found("f"), Found::Key(_)));
        assert!(matches!(found("a"), Found::Unknown));
        assert!(matches!(found("e"), Found::Unknown));
        for wrong in ["", "[]", "{}", "{\"keys\": 7}"] {
            assert!(KeySet::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_for_algorithms_of_its_kind_and_named_where_there_are_several() {
        let one = set(&[ed("a")]).unwrap();
        assert!(matches!(
            one.find(None, TokenAlgorithm::EdDsa),
            Found::Key(_)
        ));
        for other in [TokenAlgorithm::Rs256, TokenAlgorithm::Es256] {
            assert!(matches!(one.find(Some("a"), other), Found::Unknown));
        }
        let two = set(&[ed("a"), ed("b")]).unwrap();
        assert!(matches!(
            two.find(None, TokenAlgorithm::EdDsa),
            Found::Ambiguous
        ));
        assert!(matches!(
            two.find(Some("b"), TokenAlgorithm::EdDsa),
            Found::Key(_)
        ));
    }
}
