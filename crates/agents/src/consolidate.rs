//! Consolidation: after each answer, what was taught becomes a memory, in the background.
//!
//! Invariant: a job's results are stored in the transaction that ends it, under ids made
//! from what they were made of, so a job that runs twice leaves one result. Sources are
//! never deleted, and recalled text is never extracted again: only the learner's own
//! words of the job's turn are.

use std::time::Duration;

use lyceum_core::{CallContext, Priority, Role, Scope, Turn};
use lyceum_memory::{
    ClaimedJob, JobResults, Memory, MemoryError, MemoryId, MemoryKind, NewJob, NewMemory, Summary,
    TurnId,
};
use serde::{Deserialize, Serialize};
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

/// What a job needs to know, so that a short conversation's is done without reading it.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    /// The turn, which names its memory.
    turn: String,
    topic: String,
    /// What the learner taught in it.
    taught: String,
    /// The conversation's messages with this turn.
    messages: u64,
}

/// The job that remembers a turn, after which the conversation has so many messages.
pub(crate) fn job(turn: &TurnId, topic: &str, taught: &str, messages: u64) -> NewJob {
    let payload = json!({
        "turn": turn.as_str(),
        "topic": topic,
        "taught": taught.chars().take(MAX_CHARS).collect::<String>(),
        "messages": messages,
    });
    NewJob {
        kind: KIND.to_owned(),
        payload,
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
        // A payload of another version of this program has nothing to say to this one.
        let Ok(payload) = Payload::deserialize(&job.payload) else {
            tracing::warn!(job = %job.lease.job, "a consolidation job cannot be read");
            return Ok(JobResults::default());
        };
        let summary = match payload.messages >= SUMMARISE_FROM {
            true => self.summary(&job.lease.scope).await?,
            false => None,
        };
        let memories = episode(payload).into_iter().collect();
        Ok(JobResults {
            memories,
            summary,
            ..JobResults::default()
        })
    }

    /// A new summary of the conversation's beginning, when enough was said since the last one.
    async fn summary(&self, scope: &Scope) -> Result<Option<Summary>, MemoryError> {
        let sessions = self.memory.sessions();
        // A session that was deleted since has nothing to summarise.
        let Some(session) = sessions.session(scope).await? else {
            return Ok(None);
        };
        let covered = session
            .summary
            .as_ref()
            .map_or(0, |summary| summary.upto_seq);
        let upto_seq = session.messages.saturating_sub(KEEP_RECENT);
        if upto_seq < covered + KEEP_RECENT {
            return Ok(None);
        }
        let messages = sessions.messages(scope, Some(upto_seq + 1), READ).await?;
        let earlier = session.summary.map(|summary| Turn {
            role: Role::Assistant,
            content: summary.text,
        });
        let since = messages.into_iter().filter(|message| message.seq > covered);
        let turns = since.map(|message| Turn {
            role: message.role,
            content: message.content,
        });
        let turns: Vec<Turn> = earlier.into_iter().chain(turns).collect();
        let call = CallContext::new(scope.clone()).with_priority(Priority::Low);
        let text = summarise(&self.mind, call, &session.topic, &turns)
            .await
            .text;
        Ok(Some(Summary { upto_seq, text }))
    }
}

/// What the learner said in the turn, as a memory.
fn episode(payload: Payload) -> Option<NewMemory> {
    if payload.taught.chars().count() < MIN_CHARS {
        return None;
    }
    let id = MemoryId::new(&payload.turn).ok()?;
    Some(NewMemory {
        id,
        ..NewMemory::new(MemoryKind::Episode, payload.topic, payload.taught)
    })
}
