//! The ports by which a user sees and governs what is kept of them: conversations, memories.
//!
//! Invariant: everything is looked up in the scope's tenant, user and agent, so what belongs to
//! somebody else is not found, and nothing tells it from what never was. Deliberately absent:
//! teaching, which is the student's.

use std::{fmt, pin::Pin};

use async_trait::async_trait;
use futures_core::Stream;

use crate::{CallContext, Role, Scope, SessionId, TeachError};

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEntry {
    /// Its id.
    pub session: SessionId,
    /// Its subject.
    pub topic: String,
    /// How many messages it has.
    pub messages: u64,
    /// Whether it was marked as completed.
    pub completed: bool,
    /// Milliseconds since 1970 of its first turn.
    pub created_at_ms: i64,
    /// Milliseconds since 1970 of its last turn.
    pub updated_at_ms: i64,
}

/// A part of a list, and where the next one begins; `None` at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The things, newest first.
    pub items: Vec<T>,
    /// What to ask the next part with.
    pub next: Option<String>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utterance {
    /// Its number, from 1.
    pub seq: u64,
    /// Who spoke.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// What the list says of it.
    pub entry: SessionEntry,
    /// The summary of its beginning, where one was made.
    pub summary: Option<String>,
    /// A part of its messages, oldest first.
    pub messages: Vec<Utterance>,
}

/// What was erased or moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Conversations.
    pub sessions: usize,
    /// Memories.
    pub memories: usize,
}

/// A user's data as JSON Lines, in pieces of whole lines.
pub type Export = Pin<Box<dyn Stream<Item = Result<Vec<u8>, TeachError>> + Send>>;

/// A user's conversations.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened; all of them can be repeated.
#[async_trait]
pub trait Archive: Send + Sync + fmt::Debug {
    /// Up to `limit` conversations after the cursor, newest first; `None` for a cursor that is
    /// none.
    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<SessionEntry>>, TeachError>;

    /// A conversation with up to `limit` messages before number `before`, from the end where
    /// it is `None`; `None` where there is no such conversation.
    async fn transcript(
        &self,
        scope: &Scope,
        session: &SessionId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<Transcript>, TeachError>;

    /// Marks a conversation as completed; says whether there is one.
    async fn complete(&self, scope: &Scope, session: &SessionId) -> Result<bool, TeachError>;

    /// Deletes a conversation with everything kept under its name; says whether there was one.
    async fn delete(&self, call: CallContext, session: &SessionId) -> Result<bool, TeachError>;

    /// The user's conversations and memories.
    fn export(&self, scope: Scope) -> Export;

    /// Erases the user's conversations, what is known of them, and memories.
    async fn erase(&self, call: CallContext) -> Result<Erased, TeachError>;
}

/// A memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryEntry {
    /// Its id.
    pub id: String,
    /// `summary`, `fact`, `preference` or `episode`; `None` where a search does not tell.
    pub kind: Option<&'static str>,
    /// Its subject.
    pub topic: String,
    /// What is remembered.
    pub text: String,
    /// How much it matters, 0 to 1; `None` where a search does not tell.
    pub importance: Option<f32>,
    /// How well it fits, comparable within one search only.
    pub score: Option<f64>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it holds; `None` where a search does not tell.
    pub validity: Option<Validity>,
}

/// When a memory holds, and since when that is known. All are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// From when on it is the case.
    pub from_ms: i64,
    /// From when on it is the case no longer; `None` where no end is known.
    pub to_ms: Option<i64>,
    /// Since when it is known.
    pub recorded_at_ms: i64,
    /// The memory that took its place.
    pub superseded_by: Option<String>,
    /// Since when that is known.
    pub superseded_at_ms: Option<i64>,
}

/// A point on both axes of time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What was the case then …
    pub valid_ms: i64,
    /// … as far as it was known at this moment.
    pub known_ms: i64,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remembered {
    /// The memories, best first.
    pub memories: Vec<MemoryEntry>,
    /// The parts that were missing.
    pub degraded: Vec<&'static str>,
}

/// A user's memories.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened; all of them but [`Notebook::edit`] can be
/// repeated.
#[async_trait]
pub trait Notebook: Send + Sync + fmt::Debug {
    /// Up to `limit` memories after the cursor, newest first, of those that held at a moment
    /// where one is given, else of all; `None` for a cursor that is none.
    async fn memories(
        &self,
        scope: &Scope,
        then: Option<Moment>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<MemoryEntry>>, TeachError>;

    /// The memories that fit best, of those that hold now, or held at a moment: these are found
    /// by their words alone.
    async fn search(
        &self,
        scope: &Scope,
        then: Option<Moment>,
        query: &str,
        limit: usize,
    ) -> Result<Remembered, TeachError>;

    /// Puts another memory with this text in the place of one, which is deleted; `None` where
    /// there is no such memory, or it was deleted meanwhile.
    async fn edit(
        &self,
        scope: &Scope,
        id: &str,
        text: String,
    ) -> Result<Option<MemoryEntry>, TeachError>;

    /// Deletes a memory; says whether there was one.
    async fn forget(&self, scope: &Scope, id: &str) -> Result<bool, TeachError>;
}
