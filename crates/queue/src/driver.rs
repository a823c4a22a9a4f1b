//! What drives a queue: the clock, the lock, the wakers and the one task.
//!
//! Invariants: no waker is cloned, woken or dropped under the lock; while a call waits
//! that was polled, the pump runs, or its waker was woken to start another one. The pump
//! ends when nobody waits. Deliberately absent: decisions.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::sync::Notify;

use crate::{
    QueueConfig, WaitError,
    admission::{Admission, Decision, Owner, Ticket},
    metrics::QueueMetrics,
    order::Index,
    quota::SharedView,
    shared::{Answer, Ended, Link, Need},
};

/// What all clones of a queue share.
pub(crate) struct Shared {
    pub(crate) origin: Instant,
    pub(crate) config: QueueConfig,
    pub(crate) metrics: QueueMetrics,
    pub(crate) changed: Notify,
    /// Set when several processes share the quotas.
    pub(crate) link: Option<Link>,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) admission: Admission,
    /// Calls that wait, or whose outcome was not fetched yet.
    pub(crate) calls: Slab<Call>,
    pub(crate) serial: u64,
    pub(crate) pump: Pump,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pump {
    Stopped,
    /// Sleeping until this time, or until told.
    Running(Option<u64>),
}

/// A waiting call between the driver and its [`Waiter`](crate::Waiter).
pub(crate) struct Call {
    pub(crate) serial: u64,
    pub(crate) stage: Stage,
}

pub(crate) enum Stage {
    Waiting(Index, Option<Waker>),
    Granted(Box<Ticket>),
    Failed(WaitError),
}

/// What the pump does next.
enum Due {
    /// Sleep until this time, or until told.
    At(Option<u64>),
    /// Ask the ledger for this call.
    Ask(CallId, Index, Need),
}

/// Names a waiting call; the serial number tells it from a later one in its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallId {
    pub(crate) owner: Owner,
    pub(crate) serial: u64,
}

impl Shared {
    /// The state stays sound when a holder of the lock panics: every decision is made
    /// completely or not at all, so poison is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        self.nanos(tokio::time::Instant::now().into_std())
    }

    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.origin))
    }

    /// Makes all decisions that are due, and wakes whom they concern.
    pub(crate) fn drive(&self, mut state: MutexGuard<'_, State>, now: u64) {
        if state.admission.is_idle() {
            self.report(&state);
            return;
        }
        let mut wakers = Vec::new();
        let next = match self.decide(&mut state, now, &mut wakers) {
            Due::At(next) => next,
            // The pump asks.
            Due::Ask(..) => Some(now),
        };
        let tell = match state.pump {
            Pump::Stopped => false,
            Pump::Running(until) => match (until, next) {
                (_, None) => state.admission.is_idle(),
                (None, Some(_)) => true,
                (Some(until), Some(next)) => next < until,
            },
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if tell {
            self.changed.notify_one();
        }
    }

    /// Decides until nothing is due; returns when something will be.
    fn decide(&self, state: &mut State, now: u64, wakers: &mut Vec<Waker>) -> Due {
        let due = loop {
            match state.admission.next(now) {
                Decision::Grant(owner, ticket) => {
                    self.metrics.admitted(&ticket);
                    state.finish(owner, Stage::Granted(Box::new(ticket)), wakers);
                }
                Decision::Ask(owner, index, need) => {
                    let serial = state.calls.get(owner).map_or(0, |call| call.serial);
                    break Due::Ask(CallId { owner, serial }, index, need);
                }
                Decision::Expired(owner) => {
                    self.metrics.shed(WaitError::Expired.label(), 1);
                    state.finish(owner, Stage::Failed(WaitError::Expired), wakers);
                }
                Decision::Wait(until) => break Due::At(until),
            }
        };
        self.report(state);
        due
    }

    /// Asks the ledger for a call, and lets it start when the ledger agrees.
    async fn ask(&self, link: &Link, id: CallId, index: Index, need: &Need) {
        let answer = link.reserve(need).await;
        let now = self.now();
        let mut wakers = Vec::new();
        let mut state = self.lock();
        match answer {
            Answer::Granted(seq) => {
                state.admission.ask_at(now);
                let waits = state.calls.get(id.owner).is_some_and(|call| {
                    let Stage::Waiting(place, _) = call.stage else {
                        return false;
                    };
                    call.serial == id.serial && place == index
                });
                let ticket = if waits {
                    state.admission.grant_shared(index, seq, now)
                } else {
                    None
                };
                match ticket {
                    Some(ticket) => {
                        self.metrics.admitted(&ticket);
                        state.finish(id.owner, Stage::Granted(Box::new(ticket)), &mut wakers);
                    }
                    // It left while the ledger was asked.
                    None => link.end(Ended::unsent(seq), state.admission.beyond(now)),
                }
            }
            Answer::Later { after, paused } => {
                if paused && state.admission.pause_seen(nanos(after), now) {
                    self.metrics.throttled();
                }
                // Not all at once, and a little later than told rather than too early.
                let spread = 1.0 + rand::random::<f64>() * 0.05;
                let after = (nanos(after) as f64 * spread) as u64;
                state.admission.ask_at(now + after.max(1_000_000));
            }
        }
        let (linked, replicas, standing) = link.status();
        let waiting = if linked { standing.waiting } else { replicas };
        let mut used = [0; 4];
        for spent in &standing.spent {
            for (used, amount) in used.iter_mut().zip(spent.amounts) {
                *used += amount;
            }
        }
        state.admission.share(SharedView {
            window: link.window(),
            among: waiting.max(1),
            used,
        });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells the ledger, if there is one, that a call ended.
    pub(crate) fn tell(&self, state: &State, ended: Option<Ended>, now: u64) {
        if let (Some(link), Some(ended)) = (&self.link, ended) {
            link.end(ended, state.admission.beyond(now));
        }
    }

    pub(crate) fn report(&self, state: &State) {
        let (waiting, running) = state.admission.lengths();
        self.metrics.lengths(waiting, running);
    }
}

impl State {
    pub(crate) fn finish(&mut self, owner: Owner, outcome: Stage, wakers: &mut Vec<Waker>) {
        let Some(call) = self.calls.get_mut(owner) else {
            return;
        };
        if let Stage::Waiting(_, Some(waker)) = std::mem::replace(&mut call.stage, outcome) {
            wakers.push(waker);
        }
    }
}

/// Marks the pump as stopped when its runtime is torn down under it, and wakes those who
/// wait, so that one on another runtime starts it again.
pub(crate) struct Running {
    pub(crate) shared: Arc<Shared>,
    pub(crate) armed: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let mut state = self.shared.lock();
        state.pump = Pump::Stopped;
        let stages = state.calls.iter_mut().map(|(_, call)| &mut call.stage);
        let wakers: Vec<Waker> = stages
            .filter_map(|stage| match stage {
                Stage::Waiting(_, waker) => waker.take(),
                Stage::Granted(_) | Stage::Failed(_) => None,
            })
            .collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

pub(crate) async fn pump(mut running: Running) {
    let shared = Arc::clone(&running.shared);
    loop {
        let changed = shared.changed.notified();
        let mut wakers = Vec::new();
        let due = {
            let mut state = shared.lock();
            let now = shared.now();
            let due = shared.decide(&mut state, now, &mut wakers);
            if state.admission.is_idle() {
                // Under the same lock as the check, so that no arrival is missed.
                state.pump = Pump::Stopped;
                running.armed = false;
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
                return;
            }
            state.pump = Pump::Running(match &due {
                Due::At(until) => *until,
                Due::Ask(..) => Some(0),
            });
            due
        };
        wakers.into_iter().for_each(Waker::wake);
        let until = match (due, &shared.link) {
            (Due::At(until), _) => until,
            (Due::Ask(id, index, need), Some(link)) => {
                shared.ask(link, id, index, &need).await;
                continue;
            }
            (Due::Ask(..), None) => None,
        };
        let news = async {
            match &shared.link {
                Some(link) => link.news().await,
                None => std::future::pending().await,
            }
        };
        let changed = pin!(changed);
        match until {
            None => tokio::select! {
                () = news => shared.lock().admission.news(),
                () = changed => {}
            },
            Some(until) => {
                let until = shared.origin + Duration::from_nanos(until);
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = news => shared.lock().admission.news(),
                    () = changed => {}
                }
            }
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
