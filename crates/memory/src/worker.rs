//! The worker's side of a [`Memory`]: waiting for jobs, keeping and ending them.
//!
//! Invariant: a worker in this process is woken when a job is made or ends, and otherwise
//! sleeps until the next one is due. Deliberately absent: the loop and what a job does.

use std::{pin::pin, time::Duration};

use crate::{
    Claim, ClaimRequest, ClaimedJob, FailedJob, JobResults, Lease, Memory, MemoryError,
    config::prefix,
};

impl Memory {
    /// Claims a job of the given kinds, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// The store's failure; the caller waits a little and calls again.
    ///
    /// # Cancel safety
    ///
    /// Dropping it while it waits loses nothing. Dropping it in the middle of a claim may
    /// leave a job that is due again when its lease ends.
    pub async fn next_job(&self, kinds: &[&str]) -> Result<ClaimedJob, MemoryError> {
        loop {
            // Listening starts before the claim, so a job made between it and the wait is heard.
            // All workers are woken, as only some of them understand the job.
            let mut made = pin!(self.work.notified());
            made.as_mut().enable();
            let wait = match self.claim_job(kinds).await? {
                Claim::Job(job) => return Ok(*job),
                Claim::Idle { due_in: None } => self.config.idle_poll,
                Claim::Idle {
                    due_in: Some(due_in),
                } => self.config.idle_poll.min(due_in),
            };
            tokio::select! {
                () = made => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Claims a job of the given kinds where one is due.
    ///
    /// # Errors
    ///
    /// The store's failure.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave a job that is due again when its lease ends.
    pub async fn claim_job(&self, kinds: &[&str]) -> Result<Claim, MemoryError> {
        let request = ClaimRequest {
            kinds,
            lease: self.config.lease,
            max_attempts: self.config.max_attempts.max(1),
        };
        Ok(self.jobs.claim(&request).await?)
    }

    /// Says that the job is still worked on; call it at least twice per lease.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::StoreError::LeaseLost) means: stop, another worker has the job.
    pub async fn heartbeat(&self, lease: &Lease) -> Result<Lease, MemoryError> {
        Ok(self.jobs.heartbeat(lease, self.config.lease).await?)
    }

    /// Stores what the job achieved and removes it, in one transaction.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::StoreError::LeaseLost), a limit of [`Limits`](crate::Limits), or the
    /// store's failure. Nothing is stored then. A job whose results break a limit should be
    /// failed for good: trying it again gives the same.
    pub async fn complete_job(
        &self,
        lease: &Lease,
        results: &JobResults,
    ) -> Result<(), MemoryError> {
        self.limits().check_results(results)?;
        self.jobs.complete(lease, results).await?;
        if !results.jobs.is_empty() {
            self.work.notify_waiters();
        }
        Ok(())
    }

    /// Ends an attempt that failed. Where `retryable` the job is due again after a growing
    /// wait, until its attempts are used up; else it becomes a dead letter at once.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::StoreError::LeaseLost), or the store's failure.
    pub async fn fail_job(
        &self,
        job: &ClaimedJob,
        retryable: bool,
        reason: &str,
    ) -> Result<FailedJob, MemoryError> {
        let again = retryable && job.attempts < self.config.max_attempts;
        let retry_in: Option<Duration> = again.then(|| self.config.backoff(job.attempts));
        let reason = prefix(reason, self.limits().label_bytes);
        let outcome = self.jobs.fail(&job.lease, retry_in, reason).await?;
        // A sleeping worker has to learn when the job is due.
        self.work.notify_waiters();
        Ok(outcome)
    }
}
