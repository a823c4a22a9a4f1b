//! The operator's port to the keys that a store seals texts with.
//!
//! A change of keys is begun, carried through row by row, and ended; meanwhile rows of the old
//! keys are read as those of the new. Invariant: whoever ends half-way through begins again and
//! goes on with the same keys; nothing is ever sealed with a key that could be gone.
//! Deliberately absent: when to change them.

use std::fmt;

use async_trait::async_trait;

use crate::StoreError;

/// How a store's texts are sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyState {
    /// Tenants whose texts are sealed, or being sealed.
    pub tenants: u64,
    /// Tenants some of whose texts may be clear.
    pub unsealed: u64,
    /// Tenants whose change of keys is under way.
    pub changing: u64,
    /// Tenants whose keys another master key wraps than the newest.
    pub outdated: u64,
}

/// Where a change of keys is. The store's own numbers; the beginning is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being sealed.
    pub step: u32,
    /// The last row of it that was looked at.
    pub row: i64,
    /// Rows sealed anew so far.
    pub sealed: u64,
}

impl Progress {
    /// Where the change is once a portion was `done`: the last row that was looked at, and how
    /// many were sealed anew; `None` where there was none left of what is being sealed.
    #[must_use]
    pub const fn after(self, done: Option<(i64, u64)>) -> Self {
        match done {
            Some((row, sealed)) => Self {
                row,
                sealed: self.sealed + sealed,
                ..self
            },
            None => Self {
                step: self.step + 1,
                row: 0,
                ..self
            },
        }
    }
}

/// Changes the keys of a store. All calls are the operator's and concern all tenants.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened; all of them can be repeated.
#[async_trait]
pub trait StoreKeys: Send + Sync + fmt::Debug {
    /// How the texts are sealed at present.
    async fn key_state(&self) -> Result<KeyState, StoreError>;

    /// Wraps every tenant's keys with the newest master key; says how many keys that were.
    async fn wrap_keys(&self) -> Result<u64, StoreError>;

    /// Gives every tenant a new key: a first one to those that have rows and none. Where a change
    /// was begun and not ended it is taken up again. Says how many tenants it concerns.
    async fn begin_keys(&self) -> Result<u64, StoreError>;

    /// Seals the next rows with the newest keys; `None` where there are no more.
    async fn reseal(&self, from: Progress) -> Result<Option<Progress>, StoreError>;

    /// Destroys the keys that nothing is sealed with any more, and believes no clear text from now
    /// on. To be called when [`reseal`](Self::reseal) has gone through everything. What was there
    /// in the clear is in no file that the store writes once it returns.
    async fn end_keys(&self) -> Result<u64, StoreError>;
}
