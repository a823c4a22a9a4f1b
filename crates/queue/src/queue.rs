//! The queue that callers hold.
//!
//! Every decision is [`Admission`]'s; here calls get their place, their outcome and
//! their end. A queue spawns nothing until a call has to wait; then one task sleeps
//! until the next decision, and ends when nobody waits.

use std::{
    fmt,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

use lyceum_core::{QueuePosition, Scope, Usage};
use slab::Slab;
use tokio::sync::Notify;

use crate::{
    Ask, ObservedLimits, QueueConfig, QueueSnapshot, Refused, Reservation, WaitError, Waiter,
    admission::{Admission, Admitted, Ticket},
    driver::{Call, CallId, Pump, Running, Shared, Stage, State, nanos, pump},
    metrics::{LedgerMetrics, QueueMetrics},
    quota::SharedView,
    shared::{Link, QuotaLedger, SharedConfig, SharedStatus},
};

/// Admission to one upstream: one model behind one key. Clones are the same queue.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use lyceum_core::{Scope, Tokens, Usage};
/// use lyceum_queue::{Ask, Estimate, Queue, QueueConfig, Quotas};
///
/// let quotas = Quotas { requests: Some(500), concurrency: Some(50), ..Quotas::default() };
/// let queue = Queue::new(QueueConfig { quotas, ..QueueConfig::default() });
///
/// let waiter = queue.enqueue(Ask::new(Scope::local(), Estimate::new(1_200, 400))).unwrap();
/// let reservation = waiter.await.unwrap();
/// // ... call the upstream ...
/// reservation.settle(Usage { input: Tokens(1_180), output: Tokens(260), ..Usage::default() });
/// assert_eq!(queue.snapshot().requests.unwrap().used, 1);
/// # }
/// ```
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    /// A queue with these limits, called `default` in metrics.
    #[must_use]
    pub fn new(config: QueueConfig) -> Self {
        Self::named("default", config)
    }

    /// A queue with these limits. Its name labels its metrics and must come from a small
    /// fixed set, e.g. the configured models.
    #[must_use]
    pub fn named(name: impl Into<Arc<str>>, config: QueueConfig) -> Self {
        Self::build(&name.into(), config, None)
    }

    /// A queue that shares its quotas with other processes through a ledger. All of them
    /// must give the same quotas. While the ledger is out of reach the queue spends its
    /// share. The ledger's terms replace [`QueueConfig::jitter`] and
    /// [`QueueConfig::burst`].
    ///
    /// Calls then start by a task alone: every one waits for the ledger's answer.
    #[must_use]
    pub fn shared(
        name: impl Into<Arc<str>>,
        config: QueueConfig,
        ledger: Arc<dyn QuotaLedger>,
        sharing: SharedConfig,
    ) -> Self {
        let name = name.into();
        let link = Link::new(ledger, sharing, LedgerMetrics::new(&name));
        Self::build(&name, config, Some(link))
    }

    fn build(name: &Arc<str>, config: QueueConfig, link: Option<Link>) -> Self {
        let mut admission = Admission::new(config, 0);
        if let Some(link) = &link {
            admission.share(SharedView {
                window: link.window(),
                among: 1,
                used: [0; 4],
            });
        }
        let shared = Shared {
            origin: tokio::time::Instant::now().into_std(),
            config,
            metrics: QueueMetrics::new(name),
            changed: Notify::new(),
            link,
            state: Mutex::new(State {
                admission,
                calls: Slab::new(),
                serial: 0,
                pump: Pump::Stopped,
            }),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Asks for a call to be sent. It has its place from now on; awaiting the
    /// [`Waiter`] needs a tokio runtime with time.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the queue is full, when the call would still wait at its
    /// deadline, or when it alone exceeds a quota.
    pub fn enqueue(&self, ask: Ask) -> Result<Waiter, Refused> {
        let shared = &self.shared;
        let now = shared.now();
        let deadline = ask.deadline.map(|at| shared.nanos(at));
        let mut state = shared.lock();
        let owner = state.calls.vacant_key();
        match state.admission.enqueue(ask, deadline, owner, now) {
            Ok(Admitted::Now(ticket)) => {
                shared.report(&state);
                drop(state);
                shared.metrics.admitted(&ticket);
                Ok(Waiter::ready(self.reservation(ticket)))
            }
            Ok(Admitted::Waiting(index)) => {
                state.serial += 1;
                let serial = state.serial;
                let stage = Stage::Waiting(index, None);
                state.calls.insert(Call { serial, stage });
                shared.drive(state, now);
                Ok(Waiter::waiting(self.clone(), CallId { owner, serial }))
            }
            Err(refused) => {
                drop(state);
                shared.metrics.shed(refused.label(), 1);
                Err(refused)
            }
        }
    }

    /// Cancels every waiting call of a scope's conversation, or of what its user asks outside
    /// of any where it names none, and returns their number. Calls that were let through go
    /// on.
    pub fn cancel_conversation(&self, scope: &Scope) -> usize {
        let mut state = self.shared.lock();
        let cancelled = state.admission.cancel(scope);
        let mut wakers = Vec::new();
        for owner in &cancelled {
            state.finish(*owner, Stage::Failed(WaitError::Cancelled), &mut wakers);
        }
        self.shared.drive(state, self.shared.now());
        wakers.into_iter().for_each(Waker::wake);
        let reason = WaitError::Cancelled.label();
        self.shared.metrics.shed(reason, cancelled.len());
        cancelled.len()
    }

    /// Adopts what the headers of an answer said about the upstream's limits.
    pub fn observe(&self, limits: &ObservedLimits) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        state.admission.observe(limits, now);
        self.shared.drive(state, now);
    }

    /// Notes that the upstream refused a call for its rate or load (429, 529): nothing is
    /// sent for `retry_after`, and the quotas shrink and then recover slowly. The refused
    /// call's own reservation is settled, dropped or refunded by its holder.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        let pause = retry_after.unwrap_or(self.shared.config.default_pause);
        let now = self.shared.now();
        let mut state = self.shared.lock();
        state.admission.throttled(nanos(pause), now);
        self.shared.drive(state, now);
        self.shared.metrics.throttled();
        if let Some(link) = &self.shared.link {
            link.pause(pause);
        }
    }

    /// The queue at this moment.
    #[must_use]
    pub fn snapshot(&self) -> QueueSnapshot {
        let now = self.shared.now();
        self.shared.lock().admission.snapshot(now)
    }

    /// How the queue stands to the ledger that it shares with other processes; `None`
    /// when it shares nothing.
    #[must_use]
    pub fn shared_status(&self) -> Option<SharedStatus> {
        let (linked, replicas, _) = self.shared.link.as_ref()?.status();
        Some(SharedStatus { linked, replicas })
    }

    pub(crate) fn update_interval(&self) -> Duration {
        self.shared.config.update_interval
    }

    /// Where a call stands; `None` when it does not wait any more.
    pub(crate) fn position(&self, id: CallId) -> Option<QueuePosition> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let call = state.calls.get(id.owner)?;
        match call.stage {
            Stage::Waiting(index, _) if call.serial == id.serial => {
                state.admission.position(index, now)
            }
            _ => None,
        }
    }

    /// Fetches the outcome of a call, or leaves its waker. Not called after an outcome.
    pub(crate) fn poll(&self, id: CallId, waker: &Waker) -> Poll<Result<Reservation, WaitError>> {
        // Wakers are cloned before the lock is taken and dropped after it is given back:
        // both run code of the caller's executor.
        let mut waker = Some(waker.clone());
        let mut state = self.shared.lock();
        if let Some(Call { stage, .. }) = state.calls.get_mut(id.owner)
            && let Stage::Waiting(_, kept) = stage
        {
            std::mem::swap(kept, &mut waker);
            let start = state.pump == Pump::Stopped;
            if start {
                state.pump = Pump::Running(Some(0));
            }
            drop(state);
            if start {
                // Made here, because a runtime may drop the task before it first runs.
                let shared = Arc::clone(&self.shared);
                tokio::spawn(pump(Running {
                    shared,
                    armed: true,
                }));
            }
            return Poll::Pending;
        }
        let mut call = state.calls.try_remove(id.owner);
        if let Some(Stage::Granted(ticket)) = call.as_mut().map(|call| &mut call.stage) {
            // However late its task was woken.
            let now = self.shared.now();
            state.admission.sent(ticket, now);
        }
        drop(state);
        Poll::Ready(match call.map(|call| call.stage) {
            Some(Stage::Granted(ticket)) => Ok(self.reservation(*ticket)),
            Some(Stage::Failed(error)) => Err(error),
            Some(Stage::Waiting(..)) | None => Err(WaitError::Cancelled),
        })
    }

    /// Forgets a call whose waiter was dropped before it had its outcome.
    pub(crate) fn leave(&self, id: CallId) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let mut waker = None;
        match state.calls.try_remove(id.owner).map(|call| call.stage) {
            Some(Stage::Waiting(index, kept)) => {
                waker = kept;
                state.admission.remove(index);
                self.shared.metrics.shed("left", 1);
            }
            Some(Stage::Granted(ticket)) => {
                let ended = state.admission.refund(*ticket, now);
                self.shared.tell(&state, ended, now);
            }
            Some(Stage::Failed(_)) | None => {}
        }
        self.shared.drive(state, now);
        drop(waker);
    }

    pub(crate) fn end(&self, ticket: Ticket, end: End<'_>) {
        let now = self.shared.now();
        if let End::Used(usage) = end {
            let metrics = &self.shared.metrics;
            metrics.settled(ticket.reserved(), usage.total().0);
        }
        let mut state = self.shared.lock();
        let ended = match end {
            End::Used(usage) => state.admission.settle(ticket, usage, now),
            End::Uncertain(seen) => state.admission.abandon(ticket, seen, now),
            End::Rejected => state.admission.rejected(ticket, now),
            End::Unsent => state.admission.refund(ticket, now),
        };
        self.shared.tell(&state, ended, now);
        self.shared.drive(state, now);
    }

    fn reservation(&self, ticket: Ticket) -> Reservation {
        Reservation::new(self.clone(), ticket)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// How a reservation ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End<'a> {
    Used(&'a Usage),
    Uncertain(&'a Usage),
    Rejected,
    Unsent,
}
