//! Identifiers, each its own type, validated where they enter the system.
//!
//! Invariant: a value of these types is 1 to 128 bytes of `A-Z a-z 0-9 . _ : @ -`
//! and is neither `.` nor `..`, so it is safe in a path, a key, a label or a log.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest identifier, in bytes.
const MAX_BYTES: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is empty.
    #[error("an id is empty: give 1 to {MAX_BYTES} characters or leave the field out")]
    Empty,
    /// The text is longer than 128 bytes.
    #[error("an id has {0} bytes: at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// The text holds a character outside the allowed set.
    #[error("an id holds {0:?}: only letters, digits and . _ : @ - are allowed")]
    Character(char),
    /// The text is `.` or `..`.
    #[error("an id is a relative path: use letters and digits")]
    Relative,
}

fn check(text: &str) -> Result<(), IdError> {
    match text {
        "" => return Err(IdError::Empty),
        "." | ".." => return Err(IdError::Relative),
        _ if text.len() > MAX_BYTES => return Err(IdError::TooLong(text.len())),
        _ => {}
    }
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'@' | b'-');
    // All that is allowed is ASCII, so the first byte that is not begins a character.
    match text.bytes().position(|b| !allowed(b)) {
        Some(at) => Err(IdError::Character(
            text[at..].chars().next().unwrap_or_default(),
        )),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates a text as this identifier.
            ///
            /// # Errors
            ///
            /// [`IdError`] when the text is empty, too long, a relative path or holds
            /// a character outside the allowed set.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                check(text.as_ref()).map(|()| Self(text.as_ref().into()))
            }

            /// Makes a new, time-ordered, globally unique identifier (UUID version 7).
            #[must_use]
            pub fn random() -> Self {
                Self(uuid::Uuid::now_v7().to_string().into())
            }

            /// Borrows the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

id!(
    /// Names an organisation whose data no other tenant may see.
    TenantId
);
id!(
    /// Names a person or a service account inside a tenant.
    UserId
);
id!(
    /// Names an agent, e.g. `feynman`.
    AgentId
);
id!(
    /// Names one conversation; it is also the workflow's thread id.
    SessionId
);
id!(
    /// Names one request, for logs and support.
    RequestId
);

/// Whose data a call may touch. It is an argument of every call, never ambient.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The tenant; no call crosses it.
    pub tenant: TenantId,
    /// The user inside the tenant.
    pub user: UserId,
    /// The agent that the user speaks with.
    pub agent: AgentId,
    /// The conversation, where the call belongs to one.
    pub session: Option<SessionId>,
}

impl Scope {
    /// The scope of the person at this machine: tenant `local`, user `local`, agent `feynman`.
    #[must_use]
    pub fn local() -> Self {
        Self {
            tenant: TenantId("local".into()),
            user: UserId("local".into()),
            agent: AgentId("feynman".into()),
            session: None,
        }
    }

    /// The same scope narrowed to one conversation.
    #[must_use]
    pub fn with_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_characters_are_refused() {
        assert_eq!(SessionId::new("../etc"), Err(IdError::Character('/')));
        assert_eq!(SessionId::new(".."), Err(IdError::Relative));
        assert_eq!(SessionId::new("a\0b"), Err(IdError::Character('\0')));
        assert_eq!(SessionId::new(""), Err(IdError::Empty));
        assert_eq!(SessionId::new("x".repeat(129)), Err(IdError::TooLong(129)));
        assert!(SessionId::new("alice@example.org:1").is_ok());
    }

    #[test]
    fn serde_validates() {
        assert!(serde_json::from_str::<SessionId>("\"a b\"").is_err());
        let id: SessionId = serde_json::from_str("\"a-b\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"a-b\"");
    }
}
