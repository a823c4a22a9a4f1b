//! Results of a node, kept for a while and given again for the same key.
//!
//! Invariant: at most `capacity` results are kept; the one that expires first makes room.
//! Deliberately absent: sharing between graphs or processes, and failures, which are never
//! kept.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Command, State};

/// How long and how many results of a node are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long a result is given again. Default: 5 min.
    pub ttl: Duration,
    /// The most results that are kept. Default: 1,024.
    pub capacity: NonZeroUsize,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            capacity: NonZeroUsize::MIN.saturating_add(1023),
        }
    }
}

pub(crate) type KeyFn<S> = Arc<dyn Fn(&S) -> String + Send + Sync>;

/// The kept results of one node.
pub(crate) struct NodeCache<S: State> {
    policy: CachePolicy,
    key: KeyFn<S>,
    kept: Mutex<HashMap<String, (Instant, Command<S>)>>,
}

impl<S: State> NodeCache<S> {
    pub(crate) fn new(policy: CachePolicy, key: KeyFn<S>) -> Self {
        Self {
            policy,
            key,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn key(&self, state: &S) -> String {
        (self.key)(state)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Command<S>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (expires, command) = kept.get(key)?;
        (*expires > Instant::now()).then(|| command.clone())
    }

    pub(crate) fn put(&self, key: String, command: Command<S>) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.policy.capacity.get() && !kept.contains_key(&key) {
            kept.retain(|_, (expires, _)| *expires > now);
        }
        if kept.len() >= self.policy.capacity.get() && !kept.contains_key(&key) {
            let oldest = kept.iter().min_by_key(|(_, (expires, _))| *expires);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                kept.remove(&oldest);
            }
        }
        kept.insert(key, (now + self.policy.ttl, command));
    }
}
