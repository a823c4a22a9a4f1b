//! Results that are given again, and equal calls that are one call.
//!
//! Invariant: at any time at most one call of a key is under way; the others wait for it.
//! When it is given up one of them takes its place. Degraded results are never kept.

mod key;
mod shelf;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lyceum_core::{Audience, CallContext, ToolError, ToolOutput};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

pub(crate) use self::key::{CacheKey, fingerprint};
use self::shelf::Shelf;
use crate::{CachePolicy, WarmPolicy};

/// How a call under way ended; errors are shared too.
type Ended = Option<Result<Arc<ToolOutput>, ToolError>>;

/// The kept results of one tool.
#[derive(Debug)]
pub(crate) struct Cache {
    policy: CachePolicy,
    audience: Audience,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shelf: Shelf,
    flights: HashMap<CacheKey, watch::Receiver<Ended>>,
}

/// What a caller has to do.
#[derive(Debug)]
pub(crate) enum Asked<'a> {
    /// Nothing: here it is.
    Kept(Arc<ToolOutput>),
    /// Call, and tell the others.
    Lead(Lead<'a>),
    /// Wait for the one who calls.
    Follow(Follow),
}

impl Cache {
    /// `audience` is the tool's own; the policy may narrow it.
    pub(crate) fn new(policy: CachePolicy, audience: Audience) -> Self {
        let state = State {
            shelf: Shelf::new(&policy),
            flights: HashMap::new(),
        };
        Self {
            audience: audience.min(policy.audience),
            policy,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn key(&self, call: &CallContext, arguments: &Value) -> CacheKey {
        CacheKey::new(call, self.audience, &self.policy.key, arguments)
    }

    pub(crate) fn ask(&self, key: CacheKey) -> Asked<'_> {
        let mut state = self.lock();
        if let Some(output) = state.shelf.fresh(&key, now()) {
            return Asked::Kept(output);
        }
        if let Some(flight) = state.flights.get(&key) {
            return Asked::Follow(Follow(flight.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        state.flights.insert(key, receiver);
        Asked::Lead(Lead {
            cache: self,
            key,
            sender,
        })
    }

    /// What may stand in for a result that cannot be had.
    pub(crate) fn stale(&self, key: &CacheKey) -> Option<Arc<ToolOutput>> {
        self.lock().shelf.stale(key, now())
    }

    /// How results are kept warm, if they are: only those for everybody.
    pub(crate) fn warm(&self) -> Option<WarmPolicy> {
        self.policy
            .warm
            .filter(|_| self.audience == Audience::Public)
    }

    /// The calls to be made again now.
    pub(crate) fn hot(&self, warm: &WarmPolicy) -> Vec<(CacheKey, Value)> {
        let mut state = self.lock();
        state.shelf.hot(now(), warm.every, warm.hottest)
    }

    pub(crate) fn put(&self, key: CacheKey, arguments: &Value, output: &Arc<ToolOutput>) {
        if output.degraded {
            return;
        }
        let arguments = self.warm().map(|_| arguments.clone());
        let output = Arc::clone(output);
        self.lock().shelf.put(key, output, arguments, now());
    }

    /// The state stays sound when a holder panics, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// The duty to call for all who ask the same. Dropping it unfinished hands it on.
#[derive(Debug)]
pub(crate) struct Lead<'a> {
    cache: &'a Cache,
    key: CacheKey,
    sender: watch::Sender<Ended>,
}

impl Lead<'_> {
    pub(crate) fn finish(self, arguments: &Value, result: Result<Arc<ToolOutput>, ToolError>) {
        if let Ok(output) = &result {
            self.cache.put(self.key, arguments, output);
        }
        // Nobody may be waiting.
        let _ = self.sender.send(Some(result));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.cache.lock().flights.remove(&self.key);
    }
}

/// Waits for another's call.
#[derive(Debug)]
pub(crate) struct Follow(watch::Receiver<Ended>);

impl Follow {
    /// How it ended; `None` when it was given up.
    pub(crate) async fn ended(mut self) -> Ended {
        match self.0.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            Err(_) => None,
        }
    }
}
