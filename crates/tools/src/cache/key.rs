//! The name under which a result is kept.
//!
//! Invariant: calls with one key have the same arguments, as far as the strategy looks at
//! them, and the same audience. It is a SHA-256, because arguments come from strangers: no
//! two can be made to collide.

use lyceum_core::{Audience, CallContext};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::KeyStrategy;

/// The key of a kept result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey([u8; 32]);

impl CacheKey {
    pub(crate) fn new(
        call: &CallContext,
        audience: Audience,
        strategy: &KeyStrategy,
        arguments: &Value,
    ) -> Self {
        let mut text = String::with_capacity(256);
        let scope = &call.scope;
        // The JSON strings end themselves, so no tenant's name can run into a user's.
        match audience {
            Audience::Public => text.push('p'),
            Audience::Tenant => write(&mut text, &Value::from(scope.tenant.as_str())),
            Audience::User => {
                write(&mut text, &Value::from(scope.tenant.as_str()));
                write(&mut text, &Value::from(scope.user.as_str()));
            }
        }
        text.push('\n');
        match strategy {
            KeyStrategy::All => write(&mut text, arguments),
            KeyStrategy::Chosen(fields) => {
                let chosen: Map<String, Value> = fields
                    .iter()
                    .filter_map(|field| Some((field.clone(), arguments.get(field)?.clone())))
                    .collect();
                write(&mut text, &Value::Object(chosen));
            }
            KeyStrategy::None => {}
        }
        Self(Sha256::digest(&text).into())
    }
}

/// The first 8 bytes of the SHA-256 of the arguments, in hexadecimal: enough to find equal
/// calls in a log that must not hold what a person wrote.
pub(crate) fn fingerprint(arguments: &Value) -> String {
    let mut text = String::new();
    write(&mut text, arguments);
    let digest = Sha256::digest(&text);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// JSON with sorted fields. Depth is bounded by the parser that made the value.
fn write(into: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            into.push('{');
            for (name, value) in sorted {
                write(into, &Value::from(name.as_str()));
                into.push(':');
                write(into, value);
                into.push(',');
            }
            into.push('}');
        }
        Value::Array(items) => {
            into.push('[');
            for item in items {
                write(into, item);
                into.push(',');
            }
            into.push(']');
        }
        plain => {
            use std::fmt::Write as _;
            // Writing to a string does not fail.
            let _ = write!(into, "{plain}");
        }
    }
}

#[cfg(test)]
mod tests {
    use lyceum_core::Scope;
    use serde_json::json;

    use super::*;

    fn key(tenant: &str, audience: Audience, strategy: &KeyStrategy, arguments: &str) -> CacheKey {
        let mut call = CallContext::new(Scope::local());
        call.scope.tenant = tenant.parse().unwrap();
        let arguments = serde_json::from_str(arguments).unwrap();
        CacheKey::new(&call, audience, strategy, &arguments)
    }

    #[test]
    fn equal_arguments_have_one_key_in_any_order_of_fields() {
        let all = |arguments| key("a", Audience::Public, &KeyStrategy::All, arguments);
        assert_eq!(all(r#"{"q":"x","n":1}"#), all(r#"{ "n": 1, "q": "x" }"#));
        assert_ne!(all(r#"{"q":"x","n":1}"#), all(r#"{"q":"x","n":"1"}"#));
        assert_ne!(all(r#"{"q":["a","b"]}"#), all(r#"{"q":["b","a"]}"#));
    }

    #[test]
    fn only_chosen_fields_count() {
        let chosen = KeyStrategy::Chosen(vec!["q".to_owned()]);
        let chosen = |arguments| key("a", Audience::Public, &chosen, arguments);
        assert_eq!(chosen(r#"{"q":"x","id":1}"#), chosen(r#"{"q":"x","id":2}"#));
        assert_ne!(chosen(r#"{"q":"x"}"#), chosen(r#"{"q":"y"}"#));
        let none = |arguments| key("a", Audience::Public, &KeyStrategy::None, arguments);
        assert_eq!(none(r#"{"q":"x"}"#), none(r#"{"q":"y"}"#));
    }

    #[test]
    fn tenants_have_keys_of_their_own_unless_results_are_public() {
        let of = |tenant, audience| key(tenant, audience, &KeyStrategy::All, "{}");
        assert_ne!(of("a", Audience::Tenant), of("b", Audience::Tenant));
        assert_ne!(of("a", Audience::User), of("a", Audience::Tenant));
        assert_eq!(of("a", Audience::Public), of("b", Audience::Public));
    }

    #[test]
    fn a_fingerprint_is_short_and_says_nothing() {
        let print = fingerprint(&json!({"q": "my secret"}));
        assert_eq!(print.len(), 16);
        assert_eq!(print, fingerprint(&json!({"q": "my secret"})));
        assert_ne!(print, fingerprint(&json!({"q": "my other"})));
    }
}
