//! JSON of what is kept of a user.

use lyceum_core::{MemoryEntry, Page, Remembered, SessionEntry, Transcript, Utterance};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::convert;
use crate::whole;

/// The longest query and memory, in bytes.
pub(crate) const QUERY_BYTES: usize = 8 << 10;
pub(crate) const MEMORY_BYTES: usize = 64 << 10;

/// A conversation in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionOutput {
    /// Its id.
    session_id: String,
    /// Its subject.
    topic: String,
    /// How many messages it has.
    messages: u64,
    /// Whether it was marked as completed; such conversations are removed when they are idle.
    completed: bool,
    /// When it began, in RFC 3339.
    created_at: String,
    /// When its last turn came, in RFC 3339.
    updated_at: String,
}

/// Conversations, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionsOutput {
    /// The conversations.
    sessions: Vec<SessionOutput>,
    /// What to send as `before` for the next ones; null at the end.
    next: Option<String>,
}

/// One message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UtteranceOutput {
    /// Its number, from 1.
    seq: u64,
    /// `user`, `assistant` or `system`.
    role: String,
    /// What was said.
    content: String,
    /// When, in RFC 3339.
    at: String,
}

/// A conversation with its last messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TranscriptOutput {
    /// What the list says of it.
    #[serde(flatten)]
    session: SessionOutput,
    /// The summary of its beginning, where one was made.
    summary: Option<String>,
    /// Messages, oldest first.
    conversation: Vec<UtteranceOutput>,
    /// What to send as `before` for the messages before these; null at the beginning.
    next_before: Option<u64>,
}

/// A memory.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoryOutput {
    /// Its id.
    id: String,
    /// `summary`, `fact`, `preference` or `episode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// Its subject.
    topic: String,
    /// What is remembered.
    text: String,
    /// How much it matters, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    importance: Option<f32>,
    /// How well it fits, comparable within one answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// When it came to be, in RFC 3339.
    created_at: String,
    /// From when on it is the case.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    /// From when on it is the case no longer, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to: Option<String>,
    /// Since when it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<String>,
    /// The memory that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<String>,
    /// Since when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_at: Option<String>,
}

/// Memories, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoriesOutput {
    /// The memories.
    memories: Vec<MemoryOutput>,
    /// What to send as `before` for the next ones; null at the end.
    next: Option<String>,
}

/// What to look for.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MemoryQuery {
    /// Words or a question, at most 8 KiB.
    #[schema(max_length = 8192, pattern = r"\S")]
    pub(crate) query: String,
    /// At most so many, 1 to 100; default 10.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 100)]
    pub(crate) limit: Option<u32>,
    /// Only what was the case at this moment, in RFC 3339; default now.
    #[schema(format = DateTime)]
    pub(crate) as_of: Option<String>,
    /// As far as it was known at this moment, in RFC 3339; default now.
    #[schema(format = DateTime)]
    pub(crate) known_at: Option<String>,
}

/// What was found, best first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundOutput {
    /// The memories.
    memories: Vec<MemoryOutput>,
    /// The parts that were missing, e.g. `embedding`.
    degraded: Vec<&'static str>,
}

/// A memory's new text.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MemoryEdit {
    /// At most 64 KiB.
    #[schema(max_length = 65536, pattern = r"\S")]
    pub(crate) text: String,
}

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErasedOutput {
    /// Conversations.
    pub(crate) sessions: usize,
    /// Memories.
    pub(crate) memories: usize,
}

impl From<SessionEntry> for SessionOutput {
    fn from(entry: SessionEntry) -> Self {
        Self {
            session_id: entry.session.as_str().to_owned(),
            topic: entry.topic,
            messages: entry.messages,
            completed: entry.completed,
            created_at: rfc3339(entry.created_at_ms),
            updated_at: rfc3339(entry.updated_at_ms),
        }
    }
}

impl From<Page<SessionEntry>> for SessionsOutput {
    fn from(page: Page<SessionEntry>) -> Self {
        Self {
            sessions: convert(page.items),
            next: page.next,
        }
    }
}

impl From<Utterance> for UtteranceOutput {
    fn from(said: Utterance) -> Self {
        Self {
            seq: said.seq,
            role: said.role.as_str().to_owned(),
            content: said.content,
            at: rfc3339(said.at_ms),
        }
    }
}

impl From<Transcript> for TranscriptOutput {
    fn from(transcript: Transcript) -> Self {
        let first = transcript.messages.first().map(|first| first.seq);
        Self {
            session: transcript.entry.into(),
            summary: transcript.summary,
            conversation: convert(transcript.messages),
            next_before: first.filter(|&first| first > 1),
        }
    }
}

impl From<MemoryEntry> for MemoryOutput {
    fn from(entry: MemoryEntry) -> Self {
        let validity = entry.validity;
        let told = validity.as_ref();
        Self {
            valid_from: told.map(|times| rfc3339(times.from_ms)),
            valid_to: told.and_then(|times| times.to_ms).map(rfc3339),
            recorded_at: told.map(|times| rfc3339(times.recorded_at_ms)),
            superseded_at: told.and_then(|times| times.superseded_at_ms).map(rfc3339),
            superseded_by: validity.and_then(|times| times.superseded_by),
            id: entry.id,
            kind: entry.kind,
            topic: entry.topic,
            text: entry.text,
            importance: entry.importance,
            score: entry.score,
            created_at: rfc3339(entry.created_at_ms),
        }
    }
}

impl From<Page<MemoryEntry>> for MemoriesOutput {
    fn from(page: Page<MemoryEntry>) -> Self {
        Self {
            memories: convert(page.items),
            next: page.next,
        }
    }
}

impl From<Remembered> for FoundOutput {
    fn from(found: Remembered) -> Self {
        Self {
            memories: convert(found.memories),
            degraded: found.degraded,
        }
    }
}

/// Times that RFC 3339 cannot write are far away.
fn rfc3339(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
