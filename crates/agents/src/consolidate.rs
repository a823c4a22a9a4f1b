//! Consolidation: what was taught becomes a memory, and long conversations a summary.
//!
//! What the learner said is stored as memories in the turn's own transaction, so it is
//! found again at once and costs no model call. Summarising is background work: a job,
//! stored with the turn that makes it due.
//!
//! Invariant: a job's result is stored in the transaction that ends it and covers more
//! than the last one, so a job that runs twice leaves one result. Sources are never
//! deleted, and recalled text is never extracted again.

use std::time::Duration;

use lyceum_core::{CallContext, Priority, Scope, Turn};
use lyceum_memory::{ClaimedJob, JobResults, Memory, MemoryError, NewJob, Summary};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Mind,
    summarise::{MESSAGE_CHARS, TOTAL_CHARS, Talk, WHO_CHARS, summarise},
};

/// The jobs this worker understands.
const KIND: &str = "consolidate";
/// From this many messages on the beginning of a conversation is summarised.
const SUMMARISE_FROM: u64 = 20;
/// The last messages stay as they are.
const KEEP_RECENT: u64 = 10;
/// Messages read at a time.
const READ: u64 = 100;
/// A third of the lease that the memory gives by default.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long to wait after a store that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The job that a turn makes due: with it the conversation has so many messages, and its
/// summary covers so many.
pub(crate) fn due(messages: u64, covered: u64) -> Option<NewJob> {
    let is_due = messages >= SUMMARISE_FROM && messages - KEEP_RECENT >= covered + KEEP_RECENT;
    is_due.then(|| NewJob {
        kind: KIND.to_owned(),
        payload: origin(),
    })
}

/// The trace of the turn, as headers, for the job to name; null where nothing is traced.
fn origin() -> Value {
    let mut headers = Map::new();
    lyceum_core::propagate(&mut |name, value| {
        headers.insert(name.to_owned(), value.into());
    });
    match headers.is_empty() {
        true => Value::Null,
        false => Value::Object(headers),
    }
}

/// The headers that [`origin`] kept.
fn headers(payload: &Value) -> Vec<(String, String)> {
    let headers = payload.as_object().into_iter().flatten();
    headers
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
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
        let span = tracing::info_span!(
            "job",
            otel.name = format_args!("job {KIND}"),
            otel.kind = "consumer",
            kind = KIND,
        );
        span.in_scope(|| lyceum_core::link_to(&headers(&job.payload)));
        self.finish(job).instrument(span).await
    }

    async fn finish(&self, job: &ClaimedJob) -> Result<(), MemoryError> {
        let mut lease = job.lease.clone();
        let work = self.summary(&job.lease.scope);
        tokio::pin!(work);
        let summary = loop {
            tokio::select! {
                summary = &mut work => break summary,
                () = tokio::time::sleep(HEARTBEAT) => lease = self.memory.heartbeat(&lease).await?,
            }
        };
        match summary {
            Ok(summary) => {
                let results = JobResults {
                    summary,
                    ..JobResults::default()
                };
                self.memory.complete_job(&lease, &results).await
            }
            Err(error) => {
                self.memory
                    .fail_job(job, error.is_retryable(), error.label())
                    .await?;
                Err(error)
            }
        }
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
        let call = CallContext::new(scope.clone()).with_priority(Priority::Low);
        let mut text = session.summary.map(|summary| summary.text);
        let mut done = covered;
        // A long gap, as an imported conversation has, is gone through in order, so that the
        // summary has seen all that it says to cover.
        while done < upto_seq {
            let end = upto_seq.min(done + READ);
            let messages = sessions
                .messages(scope, Some(end + 1), (end - done) as usize)
                .await?;
            let turns = messages.into_iter().map(|message| Turn {
                role: message.role,
                content: message.content,
            });
            let turns: Vec<Turn> = turns.collect();
            for turns in portions(&turns) {
                done += turns.len() as u64;
                let talk = Talk {
                    topic: &session.topic,
                    earlier: text.as_deref(),
                    turns,
                    covered: done as usize,
                };
                text = Some(summarise(&self.mind, call.clone(), talk).await.text);
            }
            // The session was deleted meanwhile, or the store lost messages.
            if done < end {
                return Ok(None);
            }
        }
        Ok(text.map(|text| Summary { upto_seq, text }))
    }
}

/// Cuts turns into as many as one call of a model is shown.
fn portions(turns: &[Turn]) -> impl Iterator<Item = &[Turn]> {
    let mut rest = turns;
    std::iter::from_fn(move || {
        let mut chars = 0;
        let fitting = rest.iter().take_while(|turn| {
            chars += turn.content.chars().count().min(MESSAGE_CHARS) + WHO_CHARS;
            chars <= TOTAL_CHARS
        });
        let (portion, left) = rest.split_at(fitting.count().max(1).min(rest.len()));
        rest = left;
        (!portion.is_empty()).then_some(portion)
    })
}
