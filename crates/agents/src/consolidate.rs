//! Consolidation: after each answer, what was taught becomes a memory, in the background.
//!
//! Invariant: a job's results are stored in the transaction that ends it, under ids made
//! from what they were made of, so a job that runs twice leaves one result. Sources are
//! never deleted, and recalled text is never extracted again: only the learner's own
//! words of the job's turn are.

use std::time::Duration;

use lyceum_core::{CallContext, Priority, Role, Turn};
use lyceum_memory::{
    ClaimedJob, JobResults, Memory, MemoryError, MemoryId, MemoryKind, NewJob, NewMemory,
    StoredMessage, Summary, TurnId,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Mind, summarise::summarise};

/// The jobs this worker understands.
const KIND: &str = "consolidate";
/// From this many messages on the beginning of a conversation is summarised.
const SUMMARISE_FROM: u64 = 20;
/// The last messages stay as they are.
const KEEP_RECENT: u64 = 10;
/// Messages read for one job.
const READ: usize = 200;
/// An explanation shorter than this teaches nothing worth recalling.
const MIN_CHARS: usize = 12;
/// Characters of an explanation that are kept as a memory.
const MAX_CHARS: usize = 4_000;
/// A third of the lease that the memory gives by default.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long to wait after a store that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The job that remembers a turn.
pub(crate) fn job(turn: &TurnId) -> NewJob {
    NewJob {
        kind: KIND.to_owned(),
        payload: json!({ "turn": turn.as_str() }),
    }
}

/// Works through consolidation jobs.
#[derive(Debug, Clone)]
pub struct Consolidator {
    memory: Memory,
    mind: Mind,
}

impl Consolidator {
    /// A worker on a memory, with the mind that writes summaries.
    #[must_use]
    pub fn new(memory: Memory, mind: Mind) -> Self {
        Self { memory, mind }
    }

    /// Works until it is cancelled. A job in hand is given back by its lease.
    pub async fn run(self, stop: CancellationToken) {
        while let Some(claimed) = stop
            .run_until_cancelled(self.memory.next_job(&[KIND]))
            .await
        {
            let done = async {
                match claimed {
                    Ok(job) => self.work(&job).await,
                    Err(error) => Err(error),
                }
            };
            match stop.run_until_cancelled(done).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(error = %error, label = error.label(), "consolidation failed");
                    let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                }
                None => return,
            }
        }
    }

    /// Does one job to its end.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] when a store failed; the job is due again later.
    pub async fn work(&self, job: &ClaimedJob) -> Result<(), MemoryError> {
        let mut lease = job.lease.clone();
        let work = self.results(job);
        tokio::pin!(work);
        let results = loop {
            tokio::select! {
                results = &mut work => break results,
                () = tokio::time::sleep(HEARTBEAT) => lease = self.memory.heartbeat(&lease).await?,
            }
        };
        match results {
            Ok(results) => self.memory.complete_job(&lease, &results).await,
            Err(error) => {
                self.memory
                    .fail_job(job, error.is_retryable(), error.label())
                    .await?;
                Err(error)
            }
        }
    }

    async fn results(&self, job: &ClaimedJob) -> Result<JobResults, MemoryError> {
        let scope = &job.lease.scope;
        let sessions = self.memory.sessions();
        // A session that was deleted since has nothing to remember.
        let Some(session) = sessions.session(scope).await? else {
            return Ok(JobResults::default());
        };
        let messages = sessions.messages(scope, None, READ).await?;
        let turn = job
            .payload
            .get("turn")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        let mut results = JobResults {
            memories: episodes(&session.topic, turn, &messages),
            ..JobResults::default()
        };
        let covered = session
            .summary
            .as_ref()
            .map_or(0, |summary| summary.upto_seq);
        let upto = session.messages.saturating_sub(KEEP_RECENT);
        if session.messages >= SUMMARISE_FROM && upto >= covered + KEEP_RECENT {
            let old: Vec<Turn> = session
                .summary
                .iter()
                .map(|summary| Turn {
                    role: Role::Assistant,
                    content: summary.text.clone(),
                })
                .chain(
                    messages
                        .iter()
                        .filter(|message| (covered + 1..=upto).contains(&message.seq))
                        .map(turn_of),
                )
                .collect();
            let call = CallContext::new(scope.clone()).with_priority(Priority::Low);
            let summary = summarise(&self.mind, call, &session.topic, &old).await;
            results.summary = Some(Summary {
                upto_seq: upto,
                text: summary.text,
            });
        }
        Ok(results)
    }
}

/// What the learner said in the turn, as memories.
fn episodes(topic: &str, turn: &str, messages: &[StoredMessage]) -> Vec<NewMemory> {
    let taught = messages
        .iter()
        .filter(|message| message.turn_id.as_str() == turn && message.role == Role::User);
    let long = taught.filter(|message| message.content.chars().count() >= MIN_CHARS);
    long.filter_map(|message| {
        let text: String = message.content.chars().take(MAX_CHARS).collect();
        let id = MemoryId::new(format!("{turn}.{}", message.seq)).ok()?;
        Some(NewMemory {
            id,
            ..NewMemory::new(MemoryKind::Episode, topic, text)
        })
    })
    .collect()
}

fn turn_of(message: &StoredMessage) -> Turn {
    Turn {
        role: message.role,
        content: message.content.clone(),
    }
}
