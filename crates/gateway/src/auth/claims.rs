//! What a verified token says of its bearer: tenant, user, parts of the API.
//!
//! Invariant: a claim becomes an id only whole: a text that is no id is either refused (a
//! tenant) or stands for itself as a digest (a user, such as `auth0|12`), and no two users
//! share one. Deliberately absent: anything that the request says.

use lyceum_core::{TenantId, UserId};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{KeyScope, token::TokenError};

/// The beginning of a user's id that is a digest.
const DIGEST: &str = "sha256:";

/// Whose data tokens reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimTenant {
    /// The tenant that this claim names: the name of one, or a JSON pointer (`/org/id`).
    Claim(String),
    /// This tenant, whatever the token says.
    Always(TenantId),
}

/// The parts of the API that tokens open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimScopes {
    /// Those that this claim names, a text of words or a list; what is not known is passed over.
    Claim {
        /// The name of a claim, or a JSON pointer.
        claim: String,
        /// What stands before each of them, e.g. `lyceum:`; without it a word does not count.
        prefix: String,
    },
    /// These, whatever the token says.
    Always(Vec<KeyScope>),
}

/// A claim by its name, else by a JSON pointer (RFC 6901).
pub(super) fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = claims.get(name).or_else(|| {
        let (first, rest) = name
            .strip_prefix('/')?
            .split_once('/')
            .unwrap_or((&name[1..], ""));
        let first = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
        match rest {
            "" => Some(first),
            rest => first.pointer(&format!("/{rest}")),
        }
    });
    found.filter(|value| !value.is_null())
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a str, TokenError> {
    let missing = || TokenError::Claim {
        name: name.to_owned(),
    };
    let value = find(claims, name).ok_or_else(missing)?;
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(missing)
}

impl ClaimTenant {
    pub(super) fn of(&self, claims: &Map<String, Value>) -> Result<TenantId, TokenError> {
        match self {
            Self::Always(tenant) => Ok(tenant.clone()),
            Self::Claim(name) => TenantId::new(text(claims, name)?)
                .map_err(|_| TokenError::Claim { name: name.clone() }),
        }
    }
}

/// The user that a claim names.
pub(super) fn user(claims: &Map<String, Value>, name: &str) -> Result<UserId, TokenError> {
    let text = text(claims, name)?;
    // A name that looks like a digest is another's digest otherwise.
    let as_it_is = UserId::new(text).ok().filter(|_| !text.starts_with(DIGEST));
    if let Some(user) = as_it_is {
        return Ok(user);
    }
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    UserId::new(format!("{DIGEST}{digest}")).map_err(|_| TokenError::Claim {
        name: name.to_owned(),
    })
}

impl ClaimScopes {
    pub(super) fn of(&self, claims: &Map<String, Value>) -> Vec<KeyScope> {
        let (claim, prefix) = match self {
            Self::Always(scopes) => return scopes.clone(),
            Self::Claim { claim, prefix } => (claim, prefix),
        };
        let known = |word: &str| match word.strip_prefix(prefix.as_str())? {
            "student" => Some(KeyScope::Student),
            "models" => Some(KeyScope::Models),
            "graphs" => Some(KeyScope::Graphs),
            "metrics" => Some(KeyScope::Metrics),
            "operator" => Some(KeyScope::Operator),
            _ => None,
        };
        match find(claims, claim) {
            Some(Value::String(words)) => words.split_whitespace().filter_map(known).collect(),
            Some(Value::Array(words)) => {
                let words = words.iter().filter_map(Value::as_str);
                words.filter_map(known).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(claims) => claims,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_by_a_pointer() {
        let claims = claims(json!({
            "https://a.example/tenant": "one", "/odd": "two", "org": {"id": "three", "a/b": "four"}, "nil": null,
        }));
        let at = |name| find(&claims, name).and_then(Value::as_str);
        assert_eq!(at("https://a.example/tenant"), Some("one"));
        assert_eq!(at("/odd"), Some("two"));
        assert_eq!(at("/org/id"), Some("three"));
        assert_eq!(at("/org/a~1b"), Some("four"));
        for none in ["org.id", "/org/none", "nil", "", "/"] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn a_tenant_is_an_id_and_nothing_near_it() {
        let of = |value| ClaimTenant::Claim("t".into()).of(&claims(json!({ "t": value })));
        assert_eq!(of(json!("acme")).unwrap().as_str(), "acme");
        for wrong in [
            json!("a/b"),
            json!(""),
            json!(7),
            json!(["acme"]),
            json!(null),
            json!("a\u{0}"),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_user_has_an_id_and_none_has_anothers() {
        let of = |text: &str| user(&claims(json!({ "sub": text })), "sub").unwrap();
        assert_eq!(of("ada@example.org").as_str(), "ada@example.org");
        let (one, other) = (of("auth0|12"), of("auth0|13"));
        assert_ne!(one, other);
        assert!(one.as_str().starts_with("sha256:"));
        // Who is named like another's digest does not become them.
        assert_ne!(of(one.as_str()), one);
        assert!(user(&claims(json!({})), "sub").is_err());
        assert!(user(&claims(json!({"sub": 12})), "sub").is_err());
    }

    #[test]
    fn only_known_scopes_count() {
        let scopes = |prefix: &str, value| {
            let claim = ClaimScopes::Claim {
                claim: "scope".into(),
                prefix: prefix.into(),
            };
            claim.of(&claims(json!({ "scope": value })))
        };
        let both = [KeyScope::Student, KeyScope::Operator];
        assert_eq!(scopes("", json!("openid student operator admin")), both);
        assert_eq!(
            scopes("l:", json!(["l:student", "models", "l:operator"])),
            both
        );
        assert_eq!(scopes("", json!(7)), []);
        assert_eq!(scopes("l:", json!("student")), []);
    }
}
