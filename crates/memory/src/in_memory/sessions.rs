//! The session port over plain maps.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use lyceum_core::{Scope, SessionId};

use super::{InMemory, Owner};
use crate::{
    NewTurn, Saved, Session, SessionArchive, SessionCursor, SessionStore, StoreError,
    StoredMessage, TurnId,
};

#[derive(Debug)]
pub(super) struct Row {
    pub(super) session: Session,
    pub(super) messages: Vec<StoredMessage>,
    /// With the digest of the content, which is not known of a restored turn.
    pub(super) turns: HashMap<TurnId, (Saved, Option<[u8; 32]>)>,
}

fn key(scope: &Scope) -> Result<(Owner, SessionId), StoreError> {
    let session = scope.session.clone().ok_or(StoreError::SessionRequired)?;
    Ok((scope.into(), session))
}

#[async_trait]
impl SessionStore for InMemory {
    async fn append(&self, scope: &Scope, turn: &NewTurn) -> Result<Saved, StoreError> {
        let (key, now, digest) = (key(scope)?, self.now(), turn.digest());
        let mut state = self.state();
        let row = state.sessions.entry(key.clone()).or_insert_with(|| Row {
            session: Session {
                id: key.1.clone(),
                topic: turn.topic.clone(),
                messages: 0,
                summary: None,
                completed: false,
                created_at: now,
                updated_at: now,
            },
            messages: Vec::new(),
            turns: HashMap::new(),
        });
        if let Some((saved, stored)) = row.turns.get(&turn.turn_id) {
            let replayed = Saved {
                replayed: true,
                ..*saved
            };
            let conflict = || StoreError::TurnConflict {
                turn: turn.turn_id.clone(),
            };
            let same = stored.is_none_or(|stored| stored == digest);
            return same.then_some(replayed).ok_or_else(conflict);
        }
        let first_seq = row.session.messages + 1;
        for (seq, message) in (first_seq..).zip(&turn.messages) {
            row.messages.push(StoredMessage {
                seq,
                turn_id: turn.turn_id.clone(),
                role: message.role,
                content: message.content.clone(),
                created_at: now,
            });
        }
        row.session.messages += turn.messages.len() as u64;
        row.session.updated_at = now;
        row.session.completed = false;
        let saved = Saved {
            first_seq,
            last_seq: row.session.messages,
            replayed: false,
        };
        row.turns
            .insert(turn.turn_id.clone(), (saved, Some(digest)));
        state.touch(&key.0, Some(&key.1));
        for memory in &turn.memories {
            state.put(scope, memory, now);
        }
        state.add_jobs(scope, &turn.jobs, now);
        Ok(saved)
    }

    async fn messages(
        &self,
        scope: &Scope,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let key = key(scope)?;
        let state = self.state();
        let all = state
            .sessions
            .get(&key)
            .map_or(&[][..], |row| &row.messages);
        let end = all.partition_point(|message| before.is_none_or(|before| message.seq < before));
        Ok(all[end.saturating_sub(limit)..end].to_vec())
    }

    async fn session(&self, scope: &Scope) -> Result<Option<Session>, StoreError> {
        let key = key(scope)?;
        Ok(self
            .state()
            .sessions
            .get(&key)
            .map(|row| row.session.clone()))
    }

    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let owner = Owner::from(scope);
        let place = |session: &Session| (session.created_at, session.id.clone());
        let mut sessions: Vec<Session> = self
            .state()
            .sessions
            .iter()
            .filter(|((of, _), _)| *of == owner)
            .map(|(_, row)| row.session.clone())
            .filter(|s| after.is_none_or(|at| place(s) < (at.created_at, at.id.clone())))
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(place(session)));
        sessions.truncate(limit);
        Ok(sessions)
    }

    async fn complete(&self, scope: &Scope) -> Result<bool, StoreError> {
        let key = key(scope)?;
        let mut state = self.state();
        state.touch(&key.0, Some(&key.1));
        let row = state.sessions.get_mut(&key);
        Ok(row.map(|row| row.session.completed = true).is_some())
    }

    async fn delete(&self, scope: &Scope) -> Result<bool, StoreError> {
        let key = key(scope)?;
        let mut state = self.state();
        state.jobs.retain(|job| job.scope != *scope);
        state.touch(&key.0, Some(&key.1));
        Ok(state.sessions.remove(&key).is_some())
    }

    async fn expire(&self, idle: Duration, limit: usize) -> Result<Vec<Scope>, StoreError> {
        let cutoff = self.now().before(idle);
        let mut state = self.state();
        let expired: Vec<(Owner, SessionId)> = state
            .sessions
            .iter()
            .filter(|(_, row)| row.session.completed && row.session.updated_at < cutoff)
            .map(|(key, _)| key.clone())
            .filter(|key| !state.jobs.iter().any(|job| job.belongs_to(key)))
            .take(limit)
            .collect();
        for key in &expired {
            state.sessions.remove(key);
            state.touch(&key.0, Some(&key.1));
        }
        let scope = |(owner, session): (Owner, SessionId)| owner.scope().with_session(session);
        Ok(expired.into_iter().map(scope).collect())
    }
}

#[async_trait]
impl SessionArchive for InMemory {
    async fn restore(
        &self,
        scope: &Scope,
        session: &Session,
        messages: &[StoredMessage],
    ) -> Result<bool, StoreError> {
        let key = key(scope)?;
        let mut state = self.state();
        if state.sessions.contains_key(&key) {
            return Ok(false);
        }
        let (mut turns, mut numbered) = (HashMap::new(), Vec::new());
        for (seq, message) in (1..).zip(messages) {
            let message = StoredMessage {
                seq,
                ..message.clone()
            };
            let place = Saved {
                first_seq: seq,
                last_seq: seq,
                replayed: false,
            };
            let turn = turns.entry(message.turn_id.clone());
            turn.or_insert((place, None)).0.last_seq = seq;
            numbered.push(message);
        }
        let session = Session {
            id: key.1.clone(),
            messages: numbered.len() as u64,
            ..session.clone()
        };
        let row = Row {
            session,
            messages: numbered,
            turns,
        };
        state.touch(&key.0, Some(&key.1));
        state.sessions.insert(key, row);
        Ok(true)
    }
}
