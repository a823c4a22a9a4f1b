//! What was taught in a conversation, read and brought up to date.
//!
//! Invariant: the stored conversation is the truth; turns that the kept knowledge does not
//! cover (an older conversation, a crash between two writes) are taken in by rules.

use std::time::{SystemTime, UNIX_EPOCH};

use lyceum_core::{Knowledge, Scope, Turn};
use lyceum_memory::{Memory, MemoryError};

use crate::knowledge::{self, keeper::Keeper};

/// The most messages read to catch up.
const CATCH_UP: usize = 100;

/// The clock of this machine.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// What is known of the scope's conversation, and what was missing while reading it.
/// `heard` is a conversation that the store does not have.
pub(super) async fn load(
    keeper: &Keeper,
    memory: &Memory,
    scope: &Scope,
    topic: &str,
    heard: &[Turn],
) -> (Knowledge, Option<String>) {
    let mut degraded = None;
    let mut learnt = keeper.load(scope).await.unwrap_or_else(|error| {
        tracing::error!(error = %error, "what was taught cannot be read");
        degraded = Some("knowledge".to_owned());
        Knowledge::default()
    });
    if let Err(error) = catch_up(keeper, &mut learnt, memory, scope).await {
        tracing::warn!(error = %error, label = error.label(), "the conversation cannot be read again");
        degraded = Some("knowledge".to_owned());
    }
    if learnt.turns == 0 && !heard.is_empty() {
        knowledge::replay(&mut learnt, topic, heard, now_ms());
    }
    (learnt, degraded)
}

/// Takes in the turns that were stored since.
pub(super) async fn catch_up(
    keeper: &Keeper,
    learnt: &mut Knowledge,
    memory: &Memory,
    scope: &Scope,
) -> Result<(), MemoryError> {
    let sessions = memory.sessions();
    let Some(session) = sessions.session(scope).await? else {
        // Deleted since: what was known of it goes with it.
        if *learnt != Knowledge::default() {
            *learnt = Knowledge::default();
            if let Err(error) = keeper.forget(scope).await {
                tracing::warn!(error = %error, "what was taught in a deleted conversation is still kept");
            }
        }
        return Ok(());
    };
    if session.messages <= learnt.messages {
        return Ok(());
    }
    let messages = sessions.messages(scope, None, CATCH_UP).await?;
    let turns = messages
        .into_iter()
        .filter(|message| message.seq > learnt.messages)
        .map(|message| Turn {
            role: message.role,
            content: message.content,
        });
    let turns: Vec<Turn> = turns.collect();
    knowledge::replay(learnt, &session.topic, &turns, now_ms());
    learnt.messages = session.messages;
    Ok(())
}
