//! What the reference holds, in documents that a store of files can keep.
//!
//! Invariant: every change of the ports is a change of whole documents, and all but cleaning up
//! and claiming change one document only, so that replacing one file is their transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use lyceum_core::{Scope, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{InMemory, Owner, State, jobs, sessions};
use crate::{
    Clock, JobId, MemoryRecord, NewMemory, Saved, Session, StoredMessage, Timestamp, TurnId,
};

/// What belongs to one session of an owner, or to the owner and no session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Whose it is, and of which session.
    pub scope: Scope,
    session: Option<Session>,
    messages: Vec<StoredMessage>,
    turns: Vec<Turn>,
    memories: Vec<MemoryRecord>,
    jobs: Vec<Job>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    id: TurnId,
    first_seq: u64,
    last_seq: u64,
    digest: Option<[u8; 32]>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    id: JobId,
    kind: String,
    payload: Value,
    epoch: u64,
    attempts: u32,
    created_at: Timestamp,
    phase: jobs::Phase,
}

/// A change since changes were last taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The document is this now.
    Kept(Box<Document>),
    /// Nothing is left of the scope's document.
    Gone(Scope),
}

impl Change {
    /// Whose document changed.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Kept(document) => &document.scope,
            Self::Gone(scope) => scope,
        }
    }
}

/// The documents that changed, where somebody wants to know.
pub(super) type Touched = Option<HashSet<(Owner, Option<SessionId>)>>;

impl InMemory {
    /// An empty store that remembers which documents change.
    #[must_use]
    pub fn recording(clock: Arc<dyn Clock>) -> Self {
        let store = Self::with_clock(clock);
        store.state().touched = Some(HashSet::new());
        store
    }

    /// The changes since the last call; none unless the store is [`recording`](Self::recording).
    #[must_use]
    pub fn take_changes(&self) -> Vec<Change> {
        let mut state = self.state();
        let touched = state.touched.as_mut().map(std::mem::take);
        let touched = touched.into_iter().flatten();
        touched
            .map(|(owner, session)| state.document(&owner, session))
            .collect()
    }

    /// Holds this document, in place of what its scope has.
    pub fn load(&self, document: Document) {
        let mut state = self.state();
        state.unload(&document.scope);
        state.load(document);
    }

    /// Forgets what the scope's document holds.
    pub fn unload(&self, scope: &Scope) {
        self.state().unload(scope);
    }
}

impl State {
    /// Notes that a document changed.
    pub(super) fn touch(&mut self, owner: &Owner, session: Option<&SessionId>) {
        if let Some(touched) = &mut self.touched {
            touched.insert((owner.clone(), session.cloned()));
        }
    }

    fn document(&self, owner: &Owner, session: Option<SessionId>) -> Change {
        let scope = Scope {
            session: session.clone(),
            ..owner.scope()
        };
        let shelf = self.memories.get(owner).into_iter();
        let memories = shelf.flat_map(|shelf| shelf.records());
        let memories: Vec<MemoryRecord> = memories
            .filter(|record| record.session == session)
            .cloned()
            .collect();
        let jobs = self.jobs.iter().filter(|row| row.scope == scope);
        let jobs: Vec<Job> = jobs.map(job).collect();
        let key = session.map(|session| (owner.clone(), session));
        let row = key.and_then(|key| self.sessions.get(&key));
        if row.is_none() && memories.is_empty() && jobs.is_empty() {
            return Change::Gone(scope);
        }
        let (session, messages, turns) = row.map(parts).unwrap_or_default();
        Change::Kept(Box::new(Document {
            scope,
            session,
            messages,
            turns,
            memories,
            jobs,
        }))
    }

    fn load(&mut self, document: Document) {
        let scope = document.scope;
        let owner = Owner::from(&scope);
        if let (Some(session), Some(id)) = (document.session, scope.session.clone()) {
            let turns = document.turns.into_iter().map(|turn| {
                let saved = Saved {
                    first_seq: turn.first_seq,
                    last_seq: turn.last_seq,
                    replayed: false,
                };
                (turn.id, (saved, turn.digest))
            });
            let row = sessions::Row {
                session,
                messages: document.messages,
                turns: turns.collect(),
            };
            self.sessions.insert((owner, id), row);
        }
        for record in document.memories {
            let at = record.recorded_at;
            self.put(&scope, &NewMemory::from(record), at);
        }
        for job in document.jobs {
            self.jobs.push(jobs::Row {
                id: job.id,
                scope: scope.clone(),
                kind: job.kind,
                payload: job.payload,
                epoch: job.epoch,
                attempts: job.attempts,
                created_at: job.created_at,
                phase: job.phase,
            });
        }
        // Ids are ordered by the time of their making.
        self.jobs
            .sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        // What was there before is no change.
        if let Some(touched) = &mut self.touched {
            touched.remove(&(Owner::from(&scope), scope.session));
        }
    }

    fn unload(&mut self, scope: &Scope) {
        let owner = Owner::from(scope);
        self.jobs.retain(|row| row.scope != *scope);
        if let Some(shelf) = self.memories.get_mut(&owner) {
            shelf.retain(|record| record.session != scope.session);
        }
        if let Some(session) = &scope.session {
            self.sessions.remove(&(owner, session.clone()));
        }
    }
}

fn job(row: &jobs::Row) -> Job {
    Job {
        id: row.id.clone(),
        kind: row.kind.clone(),
        payload: row.payload.clone(),
        epoch: row.epoch,
        attempts: row.attempts,
        created_at: row.created_at,
        phase: row.phase.clone(),
    }
}

fn parts(row: &sessions::Row) -> (Option<Session>, Vec<StoredMessage>, Vec<Turn>) {
    let turns: &HashMap<_, _> = &row.turns;
    let turns = turns.iter().map(|(id, (saved, digest))| Turn {
        id: id.clone(),
        first_seq: saved.first_seq,
        last_seq: saved.last_seq,
        digest: *digest,
    });
    let mut turns: Vec<Turn> = turns.collect();
    turns.sort_by_key(|turn| turn.first_seq);
    (Some(row.session.clone()), row.messages.clone(), turns)
}
