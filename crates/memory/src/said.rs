//! What is said becomes findable at once: every message of a turn is a memory of its own.
//!
//! A message alone often does not hold the words it is asked for ("Yes, last week!"), so it is
//! searched together with its surroundings: the message before it and the day it was said on.
//! Invariant: no model is asked, and the same turn gives the same memories.
//! Deliberately absent: judging what is worth remembering.

use lyceum_core::{Role, Scope};
use sha2::{Digest as _, Sha256};

use crate::{
    Memory, MemoryError, MemoryId, MemoryKind, NewMemory, NewTurn, Saved, StoreError, Timestamp,
    TurnId, config::prefix,
};

/// How much of the message before is searched, in bytes; the rest of it is its own memory's.
const BEFORE_BYTES: usize = 2_000;

/// What a text stands in, for [`NewMemory::context`]: the text before it and the day.
#[must_use]
pub fn surroundings(before: Option<&str>, at: Timestamp) -> String {
    let before = prefix(before.unwrap_or_default(), BEFORE_BYTES);
    let day = at.day();
    match before.is_empty() {
        true => day.to_string(),
        false => format!("{before}\n{day}"),
    }
}

/// The id of the memory that message number `place` (from 0) of a turn becomes.
///
/// # Errors
///
/// [`StoreError::SessionRequired`] for a scope without a session.
pub fn said_id(scope: &Scope, turn: &TurnId, place: usize) -> Result<MemoryId, StoreError> {
    let session = scope.session.as_ref().ok_or(StoreError::SessionRequired)?;
    let mut hash = Sha256::new();
    for text in [session.as_str(), turn.as_str()] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update((place as u64).to_le_bytes());
    let digest: String = hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // It has letters, digits and a hyphen only.
    MemoryId::new(format!("said-{digest}")).map_err(|source| StoreError::Internal {
        source: source.into(),
    })
}

impl Memory {
    /// Stores a turn as [`save_turn`](Self::save_turn) does, and with it a memory
    /// ([`MemoryKind::Episode`]) of each message of the user and the assistant. `at` is when it
    /// was said, for conversations from elsewhere; `None` for now.
    ///
    /// # Errors
    ///
    /// As [`save_turn`](Self::save_turn); a turn of more messages than
    /// [`Limits::memories`](crate::Limits::memories) has too many memories.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have stored the turn; saving it again is safe.
    pub async fn save_said(
        &self,
        scope: &Scope,
        turn: NewTurn,
        at: Option<Timestamp>,
    ) -> Result<Saved, MemoryError> {
        self.save_with(scope, turn, at, &[Role::User, Role::Assistant])
            .await
    }

    /// The same with memories of the user's messages only, for an agent that must not take what
    /// it said itself for what it was told. Its words stand in the memory that follows them.
    ///
    /// # Errors
    ///
    /// As [`save_said`](Self::save_said).
    ///
    /// # Cancel safety
    ///
    /// As [`save_said`](Self::save_said).
    pub async fn save_heard(
        &self,
        scope: &Scope,
        turn: NewTurn,
        at: Option<Timestamp>,
    ) -> Result<Saved, MemoryError> {
        self.save_with(scope, turn, at, &[Role::User]).await
    }

    async fn save_with(
        &self,
        scope: &Scope,
        mut turn: NewTurn,
        at: Option<Timestamp>,
        voices: &[Role],
    ) -> Result<Saved, MemoryError> {
        let last = self.sessions.messages(scope, None, 1).await?;
        // A repeated turn is its own predecessor; its memories are there and stay as they are.
        let mut before = last.into_iter().next().map(|message| message.content);
        let day = at.unwrap_or_else(|| self.config.clock.now());
        let most = self.limits().memory_bytes;
        for (place, message) in turn.messages.iter().enumerate() {
            let is_said = voices.contains(&message.role);
            if is_said && !message.content.trim().is_empty() {
                turn.memories.push(NewMemory {
                    id: said_id(scope, &turn.turn_id, place)?,
                    context: surroundings(before.as_deref(), day),
                    created_at: at,
                    ..NewMemory::new(
                        MemoryKind::Episode,
                        turn.topic.clone(),
                        prefix(&message.content, most),
                    )
                });
            }
            before = Some(message.content.clone());
        }
        self.save_turn(scope, turn).await
    }
}
