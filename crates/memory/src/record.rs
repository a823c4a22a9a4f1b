//! Memories: what an agent knows of its user, found by their words.
//!
//! Invariant: a search ranks by the words of the scope's own memories only, so neither a
//! result nor a score tells anything about another user.
//! Deliberately absent: vectors; they come as a second arm beside this port.

use std::{cmp::Ordering, fmt, str::FromStr};

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};
use serde::{Deserialize, Serialize};

use crate::{AsOf, MemoryId, Recorded, StoreError, Superseded, Timestamp};

/// What a memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MemoryKind {
    /// The summary of a conversation.
    Summary,
    /// Something that is the case.
    Fact,
    /// What the user likes or wants.
    Preference,
    /// What was said, word for word.
    Episode,
}

impl MemoryKind {
    /// The kind's name on the wire and in stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Fact => "fact",
            Self::Preference => "preference",
            Self::Episode => "episode",
        }
    }
}

/// A text names no [`MemoryKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the memory kind {0:?}")]
pub struct UnknownKind(pub String);

impl FromStr for MemoryKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        [Self::Summary, Self::Fact, Self::Preference, Self::Episode]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// A memory to store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewMemory {
    /// Chosen by the caller; storing the same id again changes nothing.
    pub id: MemoryId,
    /// What it is.
    pub kind: MemoryKind,
    /// Its subject; searched together with the text.
    pub topic: String,
    /// What is remembered.
    pub text: String,
    /// What the text stands in, e.g. what was said before it and on which day. It is searched
    /// together with the text and not shown. Default: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// How much it matters, 0 to 1.
    pub importance: f32,
    /// When it came to be; `None` for the moment of storing.
    pub created_at: Option<Timestamp>,
    /// From when on it is the case; `None` from when it came to be, or was stored if that is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
    /// From when on it is the case no longer; `None` where no end is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Timestamp>,
    /// The memories whose place it takes, of the same user and agent: they stay stored, and are
    /// no longer the case from where this one begins. One that was superseded before, or is not
    /// there, stays as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<MemoryId>,
    /// How another store recorded it, for imports; `None` for a memory that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}

impl NewMemory {
    /// A memory of middling importance under a new id.
    #[must_use]
    pub fn new(kind: MemoryKind, topic: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: MemoryId::random(),
            kind,
            topic: topic.into(),
            text: text.into(),
            context: String::new(),
            importance: 0.5,
            created_at: None,
            valid_from: None,
            valid_to: None,
            supersedes: Vec::new(),
            recorded: None,
        }
    }

    /// The texts whose words find it.
    #[must_use]
    pub fn searched(&self) -> [&str; 3] {
        [&self.topic, &self.text, &self.context]
    }
}

/// A stored memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct MemoryRecord {
    /// Its id.
    pub id: MemoryId,
    /// What it is.
    pub kind: MemoryKind,
    /// Its subject.
    pub topic: String,
    /// What is remembered.
    pub text: String,
    /// What the text stands in; searched together with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// How much it matters, 0 to 1.
    pub importance: f32,
    /// The conversation it was made from, where there was one.
    pub session: Option<SessionId>,
    /// When it came to be.
    pub created_at: Timestamp,
    /// From when on it is the case.
    pub valid_from: Timestamp,
    /// From when on it is the case no longer, where that was said when it was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Timestamp>,
    /// Since when it is known.
    pub recorded_at: Timestamp,
    /// What took its place, where something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Superseded>,
}

/// A memory as it was written, perhaps before it had two axes of time.
#[derive(Deserialize)]
struct Written {
    id: MemoryId,
    kind: MemoryKind,
    topic: String,
    text: String,
    #[serde(default)]
    context: String,
    importance: f32,
    session: Option<SessionId>,
    created_at: Timestamp,
    valid_from: Option<Timestamp>,
    valid_to: Option<Timestamp>,
    recorded_at: Option<Timestamp>,
    superseded: Option<Superseded>,
}

impl From<Written> for MemoryRecord {
    fn from(written: Written) -> Self {
        Self {
            id: written.id,
            kind: written.kind,
            topic: written.topic,
            text: written.text,
            context: written.context,
            importance: written.importance,
            session: written.session,
            created_at: written.created_at,
            valid_from: written.valid_from.unwrap_or(written.created_at),
            valid_to: written.valid_to,
            recorded_at: written.recorded_at.unwrap_or(written.created_at),
            superseded: written.superseded,
        }
    }
}

/// A memory that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Recollection {
    /// The memory's id.
    pub id: MemoryId,
    /// Its subject.
    pub topic: String,
    /// What is remembered.
    pub text: String,
    /// How well it fits; positive, comparable within one search only.
    pub score: f64,
    /// How much it matters, 0 to 1.
    pub importance: f32,
    /// When it came to be.
    pub created_at: Timestamp,
}

impl Recollection {
    /// The order of a search's results: better first, then newer, then by id.
    #[must_use]
    pub fn by_rank(&self, other: &Self) -> Ordering {
        let score = other.score.total_cmp(&self.score);
        let age = || other.created_at.cmp(&self.created_at);
        score.then_with(age).then_with(|| self.id.cmp(&other.id))
    }
}

/// A memory that stands beside another one in a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// The memory that was asked for.
    pub of: MemoryId,
    /// What was said directly before or after it. Its score is zero: nothing was searched.
    pub memory: Recollection,
}

/// A place in the list of memories, newest first; the next page starts after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryCursor {
    /// The creation time of the last memory seen.
    pub created_at: Timestamp,
    /// Its id.
    pub id: MemoryId,
}

impl From<&MemoryRecord> for MemoryCursor {
    fn from(memory: &MemoryRecord) -> Self {
        Self {
            created_at: memory.created_at,
            id: memory.id.clone(),
        }
    }
}

/// Keeps memories. They belong to the scope's tenant, user and agent, across sessions;
/// the scope's session, where there is one, is noted as their origin.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened. All of them can be repeated.
#[async_trait]
pub trait MemoryStore: Send + Sync + fmt::Debug {
    /// Stores a memory; a search finds it as soon as this returns. Idempotent on the id:
    /// the first content stays, and nothing is superseded again. Says whether it was new.
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Result<bool, StoreError>;

    /// The memory; `None` where the scope has none of this id.
    async fn get(&self, scope: &Scope, id: &MemoryId) -> Result<Option<MemoryRecord>, StoreError>;

    /// Those of the memories that the scope has, each once, in no particular order.
    async fn get_many(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
    ) -> Result<Vec<MemoryRecord>, StoreError>;

    /// The `limit` memories that hold now and fit the query's words best, best first, newer first
    /// among equals; see [`lexical`](crate::lexical) for how words are found and weighed. Those
    /// that hold no longer count as memories without these words.
    async fn search(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError>;

    /// The same of the memories that held at another point.
    async fn search_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        query: &str,
        limit: usize,
    ) -> Result<Vec<Recollection>, StoreError>;

    /// For each of the ids that names an [`Episode`](MemoryKind::Episode) of a session, the
    /// episodes of that session stored directly before and after it, where there are such and
    /// they hold now: the one before first, in the order of the ids. Others have none.
    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<Beside>, StoreError>;

    /// Up to `limit` memories after the cursor, newest first, whether they hold or not.
    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError>;

    /// The same of the memories that held at a point.
    async fn list_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Result<Vec<MemoryRecord>, StoreError>;

    /// Deletes the memory; says whether there was one. What it superseded stays so.
    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Result<bool, StoreError>;
}
