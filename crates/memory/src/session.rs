//! Sessions: what was said, turn by turn, in order.
//!
//! Invariant: the messages of a session are numbered 1, 2, 3 … without gaps, a turn's
//! messages stand together, and a turn, its memories and its jobs are stored together or
//! not at all.
//! Everything belongs to the tenant, user and agent of the scope; the same session id
//! under another of them is another session.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use lyceum_core::{Role, Scope, SessionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{NewJob, NewMemory, StoreError, Timestamp, TurnId};

/// The importance that [`NewMemory::new`] gives.
const USUAL: f32 = 0.5;

/// A message to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// One exchange of a conversation, stored as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTurn {
    /// Chosen by the caller; appending the same turn again changes nothing.
    pub turn_id: TurnId,
    /// The conversation's subject; the first turn's is kept.
    pub topic: String,
    /// What was said, oldest first.
    pub messages: Vec<NewMessage>,
    /// What of it is to be found again at once, without waiting for a job.
    pub memories: Vec<NewMemory>,
    /// Background work that the turn causes.
    pub jobs: Vec<NewJob>,
}

impl NewTurn {
    /// A digest of everything but the id: a repeated turn has the same, another turn has not.
    /// What a memory's text stands in is left out: it follows from what the store has, which
    /// a turn that is said again finds changed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        text(&self.topic);
        for message in &self.messages {
            text(message.role.as_str());
            text(&message.content);
        }
        text("memories");
        for memory in &self.memories {
            text(memory.id.as_str());
            text(memory.kind.as_str());
            text(&memory.topic);
            text(&memory.text);
            // Only where they are not the usual ones, so that older digests stay true. An id holds
            // no space, so neither is taken for the next memory.
            if memory.importance.to_bits() != USUAL.to_bits() {
                text(&format!("importance {}", memory.importance));
            }
            if let Some(at) = memory.created_at {
                text(&format!("created at {}", at.0));
            }
            if let Some(at) = memory.valid_from {
                text(&format!("valid from {}", at.0));
            }
            if let Some(at) = memory.valid_to {
                text(&format!("valid to {}", at.0));
            }
            for id in &memory.supersedes {
                text(&format!("supersedes {id}"));
            }
        }
        text("jobs");
        for job in &self.jobs {
            text(&job.kind);
            text(&job.payload.to_string());
        }
        hash.finalize().into()
    }
}

/// Where a turn was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// The number of the turn's first message.
    pub first_seq: u64,
    /// The number of its last message.
    pub last_seq: u64,
    /// Whether it had been stored before.
    pub replayed: bool,
}

/// A message of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// Its number in the session, from 1.
    pub seq: u64,
    /// The turn it belongs to.
    pub turn_id: TurnId,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// A rolling summary of a session's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The last message it covers.
    pub upto_seq: u64,
    /// The summary.
    pub text: String,
}

/// What is known of a session without its messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its subject.
    pub topic: String,
    /// How many messages it has.
    pub messages: u64,
    /// The summary of its beginning, where one was made.
    pub summary: Option<Summary>,
    /// Whether it was marked as completed; a further turn opens it again.
    pub completed: bool,
    /// When its first turn was stored.
    pub created_at: Timestamp,
    /// When its last turn was stored.
    pub updated_at: Timestamp,
}

/// A place in the list of sessions, newest first; the next page starts after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCursor {
    /// The creation time of the last session seen.
    pub created_at: Timestamp,
    /// Its id.
    pub id: SessionId,
}

impl From<&Session> for SessionCursor {
    fn from(session: &Session) -> Self {
        Self {
            created_at: session.created_at,
            id: session.id.clone(),
        }
    }
}

/// Keeps sessions. Reads see all writes acknowledged before them.
///
/// All calls but [`sessions`](Self::sessions) and [`expire`](Self::expire) need a scope
/// with a session, and give [`StoreError::SessionRequired`] without one.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened. All of them can be repeated.
#[async_trait]
pub trait SessionStore: Send + Sync + fmt::Debug {
    /// Appends a turn, its memories and its jobs in one transaction and creates the session
    /// where it is new. A memory whose id is known already stays as it is.
    /// Once it returns, the turn survives a crash of the process. Idempotent on the turn id.
    ///
    /// # Errors
    ///
    /// [`StoreError::TurnConflict`] when the id was used for other content.
    async fn append(&self, scope: &Scope, turn: &NewTurn) -> Result<Saved, StoreError>;

    /// Up to `limit` messages before message number `before` (from the end where it is
    /// `None`), oldest first. An unknown session has none.
    async fn messages(
        &self,
        scope: &Scope,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreError>;

    /// What is known of the session; `None` where there is none.
    async fn session(&self, scope: &Scope) -> Result<Option<Session>, StoreError>;

    /// Up to `limit` sessions of the scope's user and agent after the cursor, newest first.
    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError>;

    /// Marks the session as completed; says whether there is one.
    async fn complete(&self, scope: &Scope) -> Result<bool, StoreError>;

    /// Deletes the session with its messages, turn ids and unfinished jobs; says whether there
    /// was one. Memories made from it stay.
    async fn delete(&self, scope: &Scope) -> Result<bool, StoreError>;

    /// Deletes up to `limit` completed sessions of all scopes whose last turn is older than
    /// `idle`, and says which. The operator's clean-up: the one call without a scope.
    async fn expire(&self, idle: Duration, limit: usize) -> Result<Vec<Scope>, StoreError>;
}

/// Takes sessions from elsewhere.
///
/// # Cancel safety
///
/// A dropped call may or may not have happened; it can be repeated.
#[async_trait]
pub trait SessionArchive: Send + Sync + fmt::Debug {
    /// Stores the session with its messages as they were, under the scope's session id and
    /// numbered anew from 1. One that is there already stays as it is; says whether it was new.
    /// Its turn ids are known from then on, their contents' digests are not.
    ///
    /// # Errors
    ///
    /// [`StoreError::SessionRequired`] for a scope without a session.
    async fn restore(
        &self,
        scope: &Scope,
        session: &Session,
        messages: &[StoredMessage],
    ) -> Result<bool, StoreError>;
}
