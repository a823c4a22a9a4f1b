//! Identifiers of turns, memories and jobs.
//!
//! Invariant: they follow the rules of the core's identifiers (1 to 128 bytes of
//! `A-Z a-z 0-9 . _ : @ -`). An id alone never grants access: every call also takes a scope.

use std::fmt;

use lyceum_core::{IdError, RequestId};
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(RequestId);

        impl $name {
            /// Validates a text as this identifier.
            ///
            /// # Errors
            ///
            /// [`IdError`] when the text is empty, too long, a relative path or holds
            /// a character outside the allowed set.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                RequestId::new(text).map(Self)
            }

            /// Makes a new, time-ordered, globally unique identifier (UUID version 7).
            #[must_use]
            pub fn random() -> Self {
                Self(RequestId::random())
            }

            /// Borrows the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// Names one turn of a session; chosen by the caller, so that a repeated append is known.
    TurnId
);
id!(
    /// Names one memory; chosen by the caller, so that a repeated put is known.
    MemoryId
);
id!(
    /// Names one background job.
    JobId
);
