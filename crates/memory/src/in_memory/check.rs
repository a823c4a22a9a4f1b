//! The operator's port over plain maps, where nothing can differ from the rows.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lyceum_core::Scope;

use super::{InMemory, Owner};
use crate::{Checked, Erased, StoreCheck, StoreError, Whose};

#[async_trait]
impl StoreCheck for InMemory {
    async fn verify(&self) -> Result<Checked, StoreError> {
        let state = self.state();
        let mut checked = Checked {
            owners: state.owners().len() as u64,
            sessions: state.sessions.len() as u64,
            ..Checked::default()
        };
        for ((_, session), row) in &state.sessions {
            checked.messages += row.messages.len() as u64;
            let seqs = row.messages.iter().map(|message| message.seq);
            if !seqs.eq(1..=row.session.messages) {
                checked.fault("messages", format!("session {session} has a gap"));
            }
        }
        let shelves = state.memories.values();
        checked.memories = shelves.map(|shelf| shelf.records().count() as u64).sum();
        Ok(checked)
    }

    async fn rebuild(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn owners(&self, after: Option<&Scope>, limit: usize) -> Result<Vec<Scope>, StoreError> {
        let key = |scope: &Scope| {
            (
                scope.tenant.clone(),
                scope.user.clone(),
                scope.agent.clone(),
            )
        };
        let after = after.map(key);
        let all = self.state().owners();
        let later = all.into_iter().filter(|owner| {
            let place = (
                owner.tenant.clone(),
                owner.user.clone(),
                owner.agent.clone(),
            );
            after.as_ref().is_none_or(|after| place > *after)
        });
        Ok(later.take(limit).map(|owner| owner.scope()).collect())
    }

    async fn erase(&self, whose: &Whose) -> Result<Erased, StoreError> {
        let mut state = self.state();
        let is_theirs = |owner: &Owner| whose.has(&owner.scope());
        let sessions: Vec<_> = state.sessions.keys().cloned().collect();
        let mut erased = Erased::default();
        for (owner, session) in sessions.into_iter().filter(|(owner, _)| is_theirs(owner)) {
            state.touch(&owner, Some(&session));
            state.sessions.remove(&(owner, session));
            erased.sessions += 1;
        }
        let owners: Vec<Owner> = state.memories.keys().cloned().collect();
        for owner in owners.into_iter().filter(is_theirs) {
            let Some(shelf) = state.memories.remove(&owner) else {
                continue;
            };
            for record in shelf.records() {
                erased.memories += 1;
                state.touch(&owner, record.session.as_ref());
            }
        }
        state.jobs.retain(|row| !whose.has(&row.scope));
        for settled in state.vectors.values_mut() {
            settled.retain(|(owner, _), _| !is_theirs(owner));
        }
        Ok(erased)
    }

    async fn forget_deleted(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl super::State {
    fn owners(&self) -> BTreeSet<Owner> {
        let sessions = self.sessions.keys().map(|(owner, _)| owner);
        let with_memories = self.memories.iter();
        let memories = with_memories.filter(|(_, shelf)| shelf.records().next().is_some());
        sessions
            .chain(memories.map(|(owner, _)| owner))
            .cloned()
            .collect()
    }
}
