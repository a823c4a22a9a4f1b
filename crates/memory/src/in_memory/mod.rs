//! The reference implementation of all ports: plain maps behind one lock.
//!
//! Invariant: it defines what the ports mean; a store that differs from it is wrong.
//! Deliberately absent: durability and speed. For tests, and for runs that may forget.

mod check;
mod document;
mod jobs;
mod memories;
mod sessions;
mod vectors;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lyceum_core::{AgentId, Scope, SessionId, TenantId, UserId};

use crate::{Clock, SystemClock, Timestamp, VectorSpace};

pub use document::{Change, Document};

/// Sessions, memories and jobs in the memory of this process.
#[derive(Debug)]
pub struct InMemory {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Default for InMemory {
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock::default()))
    }
}

impl InMemory {
    /// An empty store that takes the time from `clock`.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A panic of another thread leaves whole changes only, as none happens between two of them.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<(Owner, SessionId), sessions::Row>,
    memories: HashMap<Owner, memories::Shelf>,
    vectors: HashMap<VectorSpace, vectors::Vectors>,
    /// In the order of their making.
    jobs: Vec<jobs::Row>,
    /// The documents that changed, where somebody wants to know.
    touched: document::Touched,
}

/// What everything belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Owner {
    tenant: TenantId,
    user: UserId,
    agent: AgentId,
}

impl From<&Scope> for Owner {
    fn from(scope: &Scope) -> Self {
        Self {
            tenant: scope.tenant.clone(),
            user: scope.user.clone(),
            agent: scope.agent.clone(),
        }
    }
}
