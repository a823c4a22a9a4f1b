//! The job port over plain maps.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{InMemory, Owner, State};
use crate::{
    Claim, ClaimRequest, ClaimedJob, DeadJob, FailedJob, JobId, JobResults, JobStore, Lease,
    NewJob, StoreError, Timestamp, job::VANISHED,
};

#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: JobId,
    pub(super) scope: Scope,
    pub(super) kind: String,
    pub(super) payload: Value,
    pub(super) epoch: u64,
    pub(super) attempts: u32,
    pub(super) created_at: Timestamp,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Due(Timestamp),
    Leased(Timestamp),
    Dead { at: Timestamp, reason: String },
}

impl Row {
    /// Whether it is unfinished work of the session.
    pub(super) fn belongs_to(&self, (owner, session): &(Owner, SessionId)) -> bool {
        !matches!(self.phase, Phase::Dead { .. })
            && self.scope.session.as_ref() == Some(session)
            && Owner::from(&self.scope) == *owner
    }

    fn due(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Due(at) | Phase::Leased(at) => Some(at),
            Phase::Dead { .. } => None,
        }
    }
}

impl State {
    pub(super) fn add_jobs(&mut self, scope: &Scope, jobs: &[NewJob], now: Timestamp) {
        self.jobs.extend(jobs.iter().map(|job| Row {
            id: JobId::random(),
            scope: scope.clone(),
            kind: job.kind.clone(),
            payload: job.payload.clone(),
            epoch: 0,
            attempts: 0,
            created_at: now,
            phase: Phase::Due(now),
        }));
    }

    /// The place of the job, while the lease on it is valid.
    fn leased(&self, lease: &Lease, now: Timestamp) -> Result<usize, StoreError> {
        let valid = |row: &Row| {
            row.id == lease.job
                && row.scope == lease.scope
                && row.epoch == lease.epoch
                && matches!(row.phase, Phase::Leased(until) if until > now)
        };
        let lost = || StoreError::LeaseLost {
            job: lease.job.clone(),
        };
        self.jobs.iter().position(valid).ok_or_else(lost)
    }
}

#[async_trait]
impl JobStore for InMemory {
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let now = self.now();
        let mut state = self.state();
        let State { jobs, touched, .. } = &mut *state;
        let mut touched = touched.as_mut();
        loop {
            let first = jobs
                .iter_mut()
                .filter(|row| request.kinds.contains(&row.kind.as_str()))
                .filter_map(|row| Some((row.due()?, row)))
                .min_by_key(|(due, _)| *due);
            let row = match first {
                None => return Ok(Claim::Idle { due_in: None }),
                Some((due, _)) if due > now => {
                    return Ok(Claim::Idle {
                        due_in: Some(due.since(now)),
                    });
                }
                Some((_, row)) => row,
            };
            let place = (Owner::from(&row.scope), row.scope.session.clone());
            if let Some(touched) = &mut touched {
                touched.insert(place);
            }
            if row.attempts >= request.max_attempts {
                row.phase = Phase::Dead {
                    at: now,
                    reason: VANISHED.to_owned(),
                };
                continue;
            }
            let until = now.after(request.lease);
            row.attempts += 1;
            row.epoch += 1;
            row.phase = Phase::Leased(until);
            return Ok(Claim::Job(Box::new(ClaimedJob {
                lease: Lease {
                    job: row.id.clone(),
                    scope: row.scope.clone(),
                    epoch: row.epoch,
                    until,
                },
                kind: row.kind.clone(),
                payload: row.payload.clone(),
                attempts: row.attempts,
                created_at: row.created_at,
            })));
        }
    }

    async fn heartbeat(&self, lease: &Lease, extend: Duration) -> Result<Lease, StoreError> {
        let now = self.now();
        let mut state = self.state();
        let at = state.leased(lease, now)?;
        state.touch(&Owner::from(&lease.scope), lease.scope.session.as_ref());
        let until = now.after(extend);
        state.jobs[at].phase = Phase::Leased(until);
        Ok(Lease {
            until,
            ..lease.clone()
        })
    }

    async fn complete(&self, lease: &Lease, results: &JobResults) -> Result<(), StoreError> {
        let now = self.now();
        let mut state = self.state();
        let at = state.leased(lease, now)?;
        state.touch(&Owner::from(&lease.scope), lease.scope.session.as_ref());
        state.jobs.remove(at);
        for memory in &results.memories {
            state.put(&lease.scope, memory, now);
        }
        if let (Some(summary), Some(session)) = (&results.summary, &lease.scope.session) {
            let key = (Owner::from(&lease.scope), session.clone());
            if let Some(row) = state.sessions.get_mut(&key) {
                let covered = row.session.summary.as_ref().map_or(0, |s| s.upto_seq);
                if summary.upto_seq > covered {
                    row.session.summary = Some(summary.clone());
                }
            }
        }
        state.add_jobs(&lease.scope, &results.jobs, now);
        Ok(())
    }

    async fn fail(
        &self,
        lease: &Lease,
        retry_in: Option<Duration>,
        reason: &str,
    ) -> Result<FailedJob, StoreError> {
        let now = self.now();
        let mut state = self.state();
        let at = state.leased(lease, now)?;
        state.touch(&Owner::from(&lease.scope), lease.scope.session.as_ref());
        let (phase, outcome) = match retry_in {
            Some(wait) => {
                let due = now.after(wait);
                (Phase::Due(due), FailedJob::RetryAt(due))
            }
            None => {
                let reason = reason.to_owned();
                (Phase::Dead { at: now, reason }, FailedJob::Dead)
            }
        };
        state.jobs[at].phase = phase;
        Ok(outcome)
    }

    async fn dead(&self, scope: &Scope, limit: usize) -> Result<Vec<DeadJob>, StoreError> {
        let owner = Owner::from(scope);
        let mut dead: Vec<DeadJob> = self
            .state()
            .jobs
            .iter()
            .filter(|row| Owner::from(&row.scope) == owner)
            .filter_map(|row| match &row.phase {
                Phase::Dead { at, reason } => Some(DeadJob {
                    id: row.id.clone(),
                    kind: row.kind.clone(),
                    payload: row.payload.clone(),
                    attempts: row.attempts,
                    reason: reason.clone(),
                    died_at: *at,
                }),
                Phase::Due(_) | Phase::Leased(_) => None,
            })
            .collect();
        dead.sort_by_key(|job| std::cmp::Reverse(job.died_at));
        dead.truncate(limit);
        Ok(dead)
    }

    async fn revive(&self, scope: &Scope, job: &JobId) -> Result<bool, StoreError> {
        let (now, owner) = (self.now(), Owner::from(scope));
        let mut state = self.state();
        let State { jobs, touched, .. } = &mut *state;
        let row = jobs.iter_mut().find(|row| {
            row.id == *job
                && Owner::from(&row.scope) == owner
                && matches!(row.phase, Phase::Dead { .. })
        });
        Ok(row
            .map(|row| {
                row.attempts = 0;
                row.phase = Phase::Due(now);
                if let Some(touched) = touched {
                    touched.insert((owner, row.scope.session.clone()));
                }
            })
            .is_some())
    }
}
