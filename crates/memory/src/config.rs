//! The limits of a memory.
//!
//! Invariant: a value that passed [`Limits`] fits every store. Deliberately absent:
//! reading files or the environment; the server does that once and hands values over.

use std::{sync::Arc, time::Duration};

use crate::{Clock, Fusion, JobResults, MemoryError, NewJob, NewMemory, NewTurn, SystemClock};

/// What a call may carry.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest message, in bytes. Default 1,048,576; zero refuses every text.
    pub message_bytes: usize,
    /// The most messages in a turn: an imported conversation is one. Default 1,024.
    pub turn_messages: usize,
    /// The most jobs that one call makes. Default 16.
    pub jobs: usize,
    /// The longest job payload, in bytes of JSON. Default 65,536.
    pub payload_bytes: usize,
    /// The longest memory or summary, in bytes. Default 65,536.
    pub memory_bytes: usize,
    /// The most memories that one turn or job stores. Default 1,280: each message of a turn may
    /// be one.
    pub memories: usize,
    /// The longest topic, job kind or failure reason, in bytes. Default 1,024.
    pub label_bytes: usize,
    /// The longest part of a query that is read, in bytes; the rest is ignored. Default 8,192.
    pub query_bytes: usize,
    /// The most items of one answer; a larger wish gets this many. Default 1,000.
    pub page: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1024 * 1024,
            turn_messages: 1_024,
            jobs: 16,
            payload_bytes: 64 * 1024,
            memory_bytes: 64 * 1024,
            memories: 1_280,
            label_bytes: 1024,
            query_bytes: 8 * 1024,
            page: 1000,
        }
    }
}

/// How a [`Memory`](crate::Memory) behaves.
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    /// What a call may carry.
    pub limits: Limits,
    /// How long a part of a context may take before the answer goes without it. Default 2 s,
    /// so that a slow store delays an answer and never prevents it.
    pub part_timeout: Duration,
    /// How long a worker may be silent before its job is given to another. Default 60 s.
    pub lease: Duration,
    /// How often a job is tried before it becomes a dead letter; at least 1. Default 5.
    pub max_attempts: u32,
    /// The wait before the second attempt; it doubles with each further one. Default 2 s.
    pub retry_base: Duration,
    /// The longest wait between two attempts. Default 5 min.
    pub retry_cap: Duration,
    /// How often an idle worker looks for jobs that another process made. Default 1 s, the
    /// bound on what a lost wake-up can cost.
    pub idle_poll: Duration,
    /// How what was found is ranked.
    pub fusion: Fusion,
    /// What says on which day something was said, and how long ago. Default the machine's clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            part_timeout: Duration::from_secs(2),
            lease: Duration::from_secs(60),
            max_attempts: 5,
            retry_base: Duration::from_secs(2),
            retry_cap: Duration::from_secs(300),
            idle_poll: Duration::from_secs(1),
            fusion: Fusion::default(),
            clock: Arc::new(SystemClock::default()),
        }
    }
}

impl MemoryConfig {
    /// The wait after attempt number `attempts` failed.
    pub(crate) fn backoff(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.retry_base
            .saturating_mul(1 << doublings)
            .min(self.retry_cap)
    }
}

impl Limits {
    pub(crate) fn check_turn(&self, turn: &NewTurn) -> Result<(), MemoryError> {
        if turn.messages.is_empty() {
            return Err(MemoryError::EmptyTurn);
        }
        length("topic", &turn.topic, self.label_bytes)?;
        count(
            "messages in a turn",
            turn.messages.len(),
            self.turn_messages,
        )?;
        for message in &turn.messages {
            length("message", &message.content, self.message_bytes)?;
        }
        count("memories of a turn", turn.memories.len(), self.memories)?;
        for memory in &turn.memories {
            self.check_memory(memory)?;
        }
        self.check_jobs(&turn.jobs)
    }

    pub(crate) fn check_memory(&self, memory: &NewMemory) -> Result<(), MemoryError> {
        length("topic", &memory.topic, self.label_bytes)?;
        length("memory", &memory.text, self.memory_bytes)?;
        length("context of a memory", &memory.context, self.memory_bytes)?;
        if memory.text.trim().is_empty() {
            return Err(MemoryError::Empty { what: "memory" });
        }
        count(
            "superseded memories",
            memory.supersedes.len(),
            self.memories,
        )?;
        if let (Some(from), Some(to)) = (memory.valid_from, memory.valid_to)
            && to <= from
        {
            return Err(MemoryError::Validity { from, to });
        }
        match memory.importance {
            0.0..=1.0 => Ok(()),
            value => Err(MemoryError::Importance { value }),
        }
    }

    pub(crate) fn check_results(&self, results: &JobResults) -> Result<(), MemoryError> {
        count("memories of a job", results.memories.len(), self.memories)?;
        for memory in &results.memories {
            self.check_memory(memory)?;
        }
        if let Some(summary) = &results.summary {
            length("summary", &summary.text, self.memory_bytes)?;
        }
        self.check_jobs(&results.jobs)
    }

    fn check_jobs(&self, jobs: &[NewJob]) -> Result<(), MemoryError> {
        count("jobs", jobs.len(), self.jobs)?;
        for job in jobs {
            length("job kind", &job.kind, self.label_bytes)?;
            length("job payload", &job.payload.to_string(), self.payload_bytes)?;
            if job.kind.is_empty() {
                return Err(MemoryError::Empty { what: "job kind" });
            }
        }
        Ok(())
    }
}

fn count(what: &'static str, count: usize, max: usize) -> Result<(), MemoryError> {
    match count <= max {
        true => Ok(()),
        false => Err(MemoryError::TooMany { what, count, max }),
    }
}

fn length(what: &'static str, text: &str, max: usize) -> Result<(), MemoryError> {
    match text.len() <= max {
        true => Ok(()),
        false => Err(MemoryError::TooLong {
            what,
            bytes: text.len(),
            max,
        }),
    }
}

/// The beginning of a text, at most `max` bytes, cut between characters.
pub(crate) fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
