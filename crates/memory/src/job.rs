//! Jobs: background work that is never lost and never done by two at once.
//!
//! Invariant: at most one lease on a job is valid. Each claim raises the job's epoch, and
//! every later call carries that epoch, so a worker that lost its lease writes nothing.
//! Attempts count at the claim: a job that kills its worker becomes a dead letter too.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use lyceum_core::Scope;
use serde_json::Value;

use crate::{JobId, NewMemory, StoreError, Summary, Timestamp};

/// Work to be done in the background.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Which worker understands it, e.g. `consolidate`.
    pub kind: String,
    /// What the worker needs to know.
    pub payload: Value,
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct ClaimRequest<'a> {
    /// The kinds of job the worker understands; none means no job.
    pub kinds: &'a [&'a str],
    /// How long the worker may be silent.
    pub lease: Duration,
    /// After this many claims a job is dead, whether it failed or its workers vanished.
    pub max_attempts: u32,
}

/// The right to work on a job, until it ends or another claim replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// Whose work it is; results are stored under this scope.
    pub scope: Scope,
    /// Which claim of the job this is; each is one higher.
    pub epoch: u64,
    /// When the right ends unless a heartbeat moves it.
    pub until: Timestamp,
}

/// A job to work on.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    /// The right to work on it.
    pub lease: Lease,
    /// Its kind.
    pub kind: String,
    /// What it needs to know.
    pub payload: Value,
    /// How often it was claimed, this time included.
    pub attempts: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a claim gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// A job.
    Job(Box<ClaimedJob>),
    /// Nothing is due now.
    Idle {
        /// How long until the next job of these kinds is due or its lease ends; `None` when
        /// there is none.
        due_in: Option<Duration>,
    },
}

/// What a job achieved; stored in the transaction that completes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobResults {
    /// New memories.
    pub memories: Vec<NewMemory>,
    /// A new summary of the session; ignored when it covers less than the stored one.
    pub summary: Option<Summary>,
    /// Jobs that follow.
    pub jobs: Vec<NewJob>,
}

/// What becomes of a job that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedJob {
    /// It will be due again.
    RetryAt(Timestamp),
    /// It will never run again unless somebody revives it.
    Dead,
}

/// A job that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadJob {
    /// Its id.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// What it needed to know.
    pub payload: Value,
    /// How often it was claimed.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub reason: String,
    /// When it was given up.
    pub died_at: Timestamp,
}

/// Keeps jobs. They are made by [`SessionStore::append`](crate::SessionStore::append) and
/// by the completion of other jobs, always in the transaction of what caused them.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened. A claim that is dropped ends with its lease.
#[async_trait]
pub trait JobStore: Send + Sync + fmt::Debug {
    /// Claims the job that is due longest, of any scope: the one call without a scope, as it
    /// gives one. A job whose lease ended is due again; one that was claimed `max_attempts`
    /// times becomes a dead letter instead.
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError>;

    /// Extends a lease to `lease` from now.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseLost`] when it is no longer valid.
    async fn heartbeat(&self, lease: &Lease, extend: Duration) -> Result<Lease, StoreError>;

    /// Stores the results and removes the job, in one transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseLost`] when the lease is no longer valid; nothing is stored then.
    async fn complete(&self, lease: &Lease, results: &JobResults) -> Result<(), StoreError>;

    /// Makes the job due again after `retry_in`, or gives it up where that is `None`.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseLost`] when the lease is no longer valid.
    async fn fail(
        &self,
        lease: &Lease,
        retry_in: Option<Duration>,
        reason: &str,
    ) -> Result<FailedJob, StoreError>;

    /// Up to `limit` dead jobs of the scope's user and agent, last died first.
    async fn dead(&self, scope: &Scope, limit: usize) -> Result<Vec<DeadJob>, StoreError>;

    /// Makes a dead job of the scope due now, its attempts forgotten; says whether there was one.
    async fn revive(&self, scope: &Scope, job: &JobId) -> Result<bool, StoreError>;
}

/// The reason of a dead job whose workers never reported a failure.
pub const VANISHED: &str = "its workers vanished before they reported an end";
