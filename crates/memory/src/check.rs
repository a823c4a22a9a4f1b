//! The operator's port: whether what follows from the rows says what they say, making it anew,
//! and forgetting whole users and tenants.
//!
//! Invariant: rows are the truth. What is made from them, the index of words, statistics, numbers
//! of messages, can be thrown away and made again; a check changes nothing.
//! Deliberately absent: vectors' values, which only their model could judge.

use std::fmt;

use async_trait::async_trait;
use lyceum_core::{Scope, TenantId, UserId};

use crate::StoreError;

/// The most faults that a check describes; more are counted.
pub const DESCRIBED: usize = 100;

/// Something that is not as the rows say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, of a bounded set, e.g. `words`.
    pub what: &'static str,
    /// Where, for a person; without a word of what was said.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.detail)
    }
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Tenants' users' agents that anything was stored for.
    pub owners: u64,
    /// Sessions.
    pub sessions: u64,
    /// Messages.
    pub messages: u64,
    /// Memories.
    pub memories: u64,
    /// How many faults there are.
    pub faults: u64,
    /// The first [`DESCRIBED`] of them.
    pub described: Vec<Fault>,
}

impl Checked {
    /// Whether all is as it should be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults == 0
    }

    /// Adds what a check of another part found.
    pub fn add(&mut self, other: Self) {
        self.owners += other.owners;
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.memories += other.memories;
        self.faults += other.faults;
        let room = DESCRIBED.saturating_sub(self.described.len());
        self.described
            .extend(other.described.into_iter().take(room));
    }

    /// Notes a fault.
    pub fn fault(&mut self, what: &'static str, detail: impl Into<String>) {
        self.faults += 1;
        if self.described.len() < DESCRIBED {
            let detail = detail.into();
            self.described.push(Fault { what, detail });
        }
    }
}

/// Whom to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The tenant.
    pub tenant: TenantId,
    /// One of its users; all of them where there is none.
    pub user: Option<UserId>,
}

impl Whose {
    /// Whether something of this scope belongs to them.
    #[must_use]
    pub fn has(&self, scope: &Scope) -> bool {
        let is_user = |user: &UserId| *user == scope.user;
        self.tenant == scope.tenant && self.user.as_ref().is_none_or(is_user)
    }
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Sessions, their messages and jobs.
    pub sessions: u64,
    /// Memories, their words and vectors.
    pub memories: u64,
    /// Records of the server's own; of a whole tenant only.
    pub records: u64,
}

impl Erased {
    /// Whether there was nothing to forget.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Checks and mends a store, and erases from it. All calls are the operator's and see all scopes.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened; all of them can be repeated.
#[async_trait]
pub trait StoreCheck: Send + Sync + fmt::Debug {
    /// Reads everything and compares what follows from the rows with them.
    async fn verify(&self) -> Result<Checked, StoreError>;

    /// Makes everything that follows from the rows anew.
    async fn rebuild(&self) -> Result<(), StoreError>;

    /// Up to `limit` owners after this one, as scopes without a session, in the order of tenant,
    /// user and agent.
    async fn owners(&self, after: Option<&Scope>, limit: usize) -> Result<Vec<Scope>, StoreError>;

    /// Deletes all that belongs to a tenant, or to one of its users: sessions, messages, jobs,
    /// memories, their words and vectors. Once it returns nothing of it is in a file that the
    /// store writes; older copies are not its own.
    async fn erase(&self, whose: &Whose) -> Result<Erased, StoreError>;

    /// Leaves nothing of what was deleted by other calls in a file that the store writes.
    async fn forget_deleted(&self) -> Result<(), StoreError>;
}
