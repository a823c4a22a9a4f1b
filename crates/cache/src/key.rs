//! What an entry is called: a namespace, a tenant and the caller's own key.
//!
//! Invariant: two keys are equal only if namespace, tenant and text are. The tenant is a field
//! of its own and never glued to the text, so no text of one tenant spells another's key.

use std::fmt;

use equivalent::Equivalent;
use lyceum_core::TenantId;
use serde::{Deserialize, Serialize};

use crate::Glob;

/// The longest text of a key, in bytes. What has a longer one is never cached.
pub const MAX_KEY_BYTES: usize = 1024;

/// The longest name of a namespace, in bytes.
const MAX_NAMESPACE_BYTES: usize = 32;

/// Why a text cannot name a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name a namespace {0:?}: it takes 1 to 32 characters of a-z, 0-9 and _")]
pub struct NamespaceError(String);

/// A kind of entry: what its values are and who invalidates them. It is a metric's label, so
/// a program has a handful of them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(std::borrow::Cow<'static, str>);

impl Namespace {
    /// What was said in a conversation.
    pub const CONVERSATION: Self = Self(std::borrow::Cow::Borrowed("conversation"));
    /// What is known of a user.
    pub const USER: Self = Self(std::borrow::Cow::Borrowed("user"));
    /// What is known of a document without its text.
    pub const DOCUMENT: Self = Self(std::borrow::Cow::Borrowed("document"));
    /// A session's state.
    pub const SESSION: Self = Self(std::borrow::Cow::Borrowed("session"));
    /// Answers of models.
    pub const ANSWER: Self = Self(std::borrow::Cow::Borrowed("answer"));

    /// A namespace of another name.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] unless it is 1 to 32 characters of `a-z`, `0-9` and `_`.
    pub fn new(name: impl Into<String>) -> Result<Self, NamespaceError> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match !name.is_empty() && name.len() <= MAX_NAMESPACE_BYTES && name.chars().all(allowed) {
            true => Ok(Self(name.into())),
            false => Err(NamespaceError(name.chars().take(64).collect())),
        }
    }

    /// Borrows the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Namespace {
    type Error = NamespaceError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.0.into_owned()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key as a shared tier sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The kind of entry.
    pub namespace: Namespace,
    /// Whose it is.
    pub tenant: TenantId,
    /// The caller's text: any text of up to [`MAX_KEY_BYTES`].
    pub text: String,
}

/// Entries of a namespace: one tenant's or everybody's, those whose text a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The kind of entry.
    pub namespace: Namespace,
    /// Whose; `None` for all tenants, which is the operator's business.
    pub tenant: Option<TenantId>,
    /// Which.
    pub glob: Glob,
}

impl Selection {
    /// Exactly this key.
    #[must_use]
    pub fn exactly(key: &Key) -> Self {
        Self {
            namespace: key.namespace.clone(),
            tenant: Some(key.tenant.clone()),
            glob: Glob::literal(&key.text),
        }
    }

    /// Whether a key is one of them.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.namespace == key.namespace && self.holds_text(&key.tenant, &key.text)
    }

    /// The same within the namespace.
    pub(crate) fn holds_text(&self, tenant: &TenantId, text: &str) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant) && self.glob.matches(text)
    }
}

/// A key within one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LocalKey {
    pub(crate) tenant: TenantId,
    pub(crate) text: Box<str>,
}

impl LocalKey {
    pub(crate) fn in_namespace(&self, namespace: &Namespace) -> Key {
        Key {
            namespace: namespace.clone(),
            tenant: self.tenant.clone(),
            text: self.text.to_string(),
        }
    }
}

/// The same, borrowed: looking up allocates nothing. Its hash is that of [`LocalKey`].
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct KeyRef<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) text: &'a str,
}

impl KeyRef<'_> {
    pub(crate) fn to_owned(self) -> LocalKey {
        LocalKey {
            tenant: self.tenant.clone(),
            text: self.text.into(),
        }
    }
}

impl Equivalent<LocalKey> for KeyRef<'_> {
    fn equivalent(&self, key: &LocalKey) -> bool {
        self.text == &*key.text && *self.tenant == key.tenant
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn a_borrowed_key_finds_the_owned_one() {
        let tenant = TenantId::new("acme").unwrap();
        let borrowed = KeyRef {
            tenant: &tenant,
            text: "user:1",
        };
        let owned = borrowed.to_owned();
        let hasher = RandomState::new();
        assert_eq!(hasher.hash_one(borrowed), hasher.hash_one(&owned));
        assert!(borrowed.equivalent(&owned));
    }

    #[test]
    fn a_namespace_is_fit_for_a_label() {
        assert!(Namespace::new("document_2").is_ok());
        for bad in ["", "Ünïcode", "a/b", "a*", &"x".repeat(33)] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
    }
}
