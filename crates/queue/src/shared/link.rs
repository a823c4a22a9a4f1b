//! Drives a [`Replica`]: the clock, the lock, the time-outs and the one task.
//!
//! Invariant: one claim is on its way at a time, as only the queue's pump asks. The task
//! lives from the first claim until the link is dropped; then it reports what is left.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    Beyond, Ended, LedgerError, QuotaLedger, ReplicaId, SharedConfig, Standing,
    replica::{Need, Replica, Step, Work},
};
use crate::{driver::nanos, metrics::LedgerMetrics};

/// A claim's outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    Granted(u64),
    Later { after: Duration, paused: bool },
}

/// One process's connection to a ledger.
pub(crate) struct Link {
    core: Arc<Core>,
}

struct Core {
    ledger: Arc<dyn QuotaLedger>,
    config: SharedConfig,
    origin: Instant,
    replica: Mutex<Replica>,
    /// Work for the task.
    work: Notify,
    /// News for the queue: quota may be free.
    news: Notify,
    running: AtomicBool,
    closed: AtomicBool,
    metrics: LedgerMetrics,
}

impl Link {
    pub(crate) fn new(
        ledger: Arc<dyn QuotaLedger>,
        config: SharedConfig,
        metrics: LedgerMetrics,
    ) -> Self {
        let id = ReplicaId(rand::random());
        let terms = ledger.terms();
        let core = Core {
            ledger,
            config,
            origin: Instant::now(),
            replica: Mutex::new(Replica::new(id, config, terms)),
            work: Notify::new(),
            news: Notify::new(),
            running: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            metrics,
        };
        Self {
            core: Arc::new(core),
        }
    }

    /// Asks to start a call.
    pub(crate) async fn reserve(&self, need: &Need) -> Answer {
        let core = &self.core;
        core.ensure_task();
        let step = core.lock().want(need, core.now());
        let claim = match step {
            Step::Ask(claim) => claim,
            other => return answer(other),
        };
        let said = core.bounded("reserve", core.ledger.reserve(&claim)).await;
        let mut replica = core.lock();
        let before = replica.is_linked();
        let lost = said.is_none();
        let step = replica.answered(&claim, said, core.now());
        let changed = before != replica.is_linked();
        drop(replica);
        if changed {
            core.changed();
        }
        if lost {
            let step = core.lock().want(need, core.now());
            return match step {
                Step::Ask(_) => answer(Step::Later {
                    after: Duration::ZERO,
                    paused: false,
                }),
                other => answer(other),
            };
        }
        answer(step)
    }

    /// Ends a call.
    pub(crate) fn end(&self, ended: Ended, beyond: Beyond) {
        let core = &self.core;
        core.lock().end(ended, beyond, core.now());
        core.work.notify_one();
    }

    /// Passes on a pause.
    pub(crate) fn pause(&self, pause: Duration) {
        let core = &self.core;
        core.lock().pause(pause, core.now());
        core.work.notify_one();
    }

    /// The upstream's window, in nanoseconds.
    pub(crate) fn window(&self) -> u64 {
        nanos(self.core.ledger.terms().window)
    }

    /// Waits until another question may have another answer.
    pub(crate) async fn news(&self) {
        self.core.news.notified().await;
    }

    /// Whether the ledger is in reach, how many processes share it, and what it said last.
    pub(crate) fn status(&self) -> (bool, u32, Standing) {
        let replica = self.core.lock();
        (
            !replica.is_cut_off(),
            replica.replicas(),
            replica.standing().clone(),
        )
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.core.closed.store(true, Ordering::Release);
        self.core.work.notify_one();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("ledger", &self.core.ledger)
            .finish_non_exhaustive()
    }
}

fn answer(step: Step) -> Answer {
    match step {
        Step::Granted(seq) => Answer::Granted(seq),
        Step::Later { after, paused } => Answer::Later { after, paused },
        Step::Ask(_) => Answer::Later {
            after: Duration::ZERO,
            paused: false,
        },
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    /// Runs an operation for as long as it may take. An error is counted, not told: the
    /// replica goes on alone.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        run: impl Future<Output = Result<T, LedgerError>>,
    ) -> Option<T> {
        let limit = self.config.timeout;
        let result = match timeout(limit, run).await {
            Ok(result) => result,
            Err(_) => Err(LedgerError::TimedOut(limit)),
        };
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.metrics.failed(operation, error.label());
                None
            }
        }
    }

    fn changed(&self) {
        let replica = self.lock();
        self.metrics.linked(replica.is_linked(), replica.replicas());
        drop(replica);
        self.work.notify_one();
        self.news.notify_one();
    }

    fn ensure_task(self: &Arc<Self>) {
        if !self.running.swap(true, Ordering::AcqRel) {
            let guard = Task(Arc::clone(self));
            tokio::spawn(async move { guard.0.keep().await });
        }
    }

    async fn keep(&self) {
        loop {
            let closed = self.closed.load(Ordering::Acquire);
            let work = self.lock().work(self.now());
            let linked = self.lock().is_linked();
            match work {
                Work::Sleep(_) if closed => return,
                Work::Beat | Work::Join(_) if closed => return,
                Work::Sleep(until) => {
                    let until = self.origin + Duration::from_nanos(until);
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = self.work.notified() => {}
                    }
                    continue;
                }
                Work::Tell(note) => {
                    let told = self.bounded("tell", self.ledger.tell(&note)).await;
                    self.lock().told(&note, told.is_some(), self.now());
                    self.news.notify_one();
                }
                Work::Beat => {
                    let id = self.lock().id();
                    let said = self.bounded("beat", self.ledger.beat(id)).await;
                    self.lock().beaten(said, self.now());
                }
                Work::Join(join) => {
                    let said = self.bounded("join", self.ledger.join(&join)).await;
                    self.lock().joined(said, self.now());
                }
            }
            if linked != self.lock().is_linked() {
                self.changed();
            }
        }
    }
}

/// Lets another task start when this one's runtime is torn down.
struct Task(Arc<Core>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}
