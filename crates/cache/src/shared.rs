//! The driver around a shared tier: time-outs, the gate, and invalidations that wait.
//!
//! Invariant: what this process invalidated is never read back from the shared tier. While
//! an invalidation waits for the tier to return, nothing is read from it. Deliberately
//! absent: retries of reads; the source answers instead.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{
    Announcements, Announcer, CacheTier, Glob, Invalidation, Key, Namespace, Origin, Selection,
    Stored, TierError, TierStats, gate::Gate, metrics,
};

/// How many invalidations wait one by one; more become one of the whole namespace.
const MOST_WAITING: usize = 1024;

/// Why the tier gave nothing.
#[derive(Debug)]
pub(crate) enum Passed {
    /// It was not asked: it failed a moment ago.
    Skipped,
    /// It failed now.
    Failed,
}

#[derive(Debug)]
pub(crate) struct Shared {
    tier: Arc<dyn CacheTier>,
    announcer: Arc<dyn Announcer>,
    namespace: Namespace,
    origin: Origin,
    call_timeout: Duration,
    sweep_timeout: Duration,
    gate: Mutex<Gate>,
    waiting: Mutex<Vec<Selection>>,
    flushing: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        tier: Arc<dyn CacheTier>,
        announcer: Arc<dyn Announcer>,
        namespace: Namespace,
        (call_timeout, sweep_timeout): (Duration, Duration),
    ) -> Self {
        Self {
            tier,
            announcer,
            namespace,
            origin: Origin(rand::random()),
            call_timeout,
            sweep_timeout,
            gate: Mutex::default(),
            waiting: Mutex::default(),
            flushing: AtomicBool::new(false),
        }
    }

    pub(crate) fn listen(&self) -> Announcements {
        self.announcer.listen()
    }

    pub(crate) fn is_own(&self, invalidation: &Invalidation) -> bool {
        invalidation.origin == self.origin
    }

    pub(crate) async fn get(self: &Arc<Self>, key: &Key) -> Result<Option<Stored>, Passed> {
        self.call("get", self.tier.get(key)).await
    }

    pub(crate) async fn set(
        self: &Arc<Self>,
        key: &Key,
        value: &[u8],
        ttl: Duration,
    ) -> Result<(), Passed> {
        self.call("set", self.tier.set(key, value, ttl)).await
    }

    pub(crate) async fn stats(self: &Arc<Self>) -> Result<TierStats, Passed> {
        self.call("stats", self.tier.stats()).await
    }

    /// Forgets the selection in the tier and tells the other processes. Says how many entries
    /// the tier forgot; `None` when it cannot now, and will once it is back.
    pub(crate) async fn invalidate(self: &Arc<Self>, selection: Selection) -> Option<u64> {
        // First among those that wait: dropped on the way, it is not forgotten.
        {
            let mut waiting = self.waiting();
            match waiting.len() < MOST_WAITING {
                true => waiting.push(selection),
                false => *waiting = vec![self.everything()],
            }
        }
        self.flush().await
    }

    /// Tells the other processes that a key has a new value, which the tier has too.
    pub(crate) async fn announce(self: &Arc<Self>, selection: Selection) {
        let invalidation = Invalidation {
            origin: self.origin,
            selection: selection.clone(),
        };
        let told = self.call("announce", self.announcer.announce(&invalidation));
        if told.await.is_err() {
            // The tier may hold an earlier value, and nobody knows of the new one.
            self.invalidate(selection).await;
        }
    }

    /// Sends what waits, if the tier is asked at all.
    pub(crate) async fn flush(self: &Arc<Self>) -> Option<u64> {
        if !self.gate().admits(Instant::now()) {
            return None;
        }
        let mut total = 0;
        loop {
            // What fails, and what comes meanwhile, is there the next time.
            let next = self.waiting().first().cloned();
            let Some(selection) = next else {
                return Some(total);
            };
            let limit = self.sweep_timeout;
            let result = timeout(limit, self.forget(&selection)).await;
            total += self.judge("invalidate", result, limit).ok()?;
            let mut waiting = self.waiting();
            if let Some(at) = waiting.iter().position(|one| *one == selection) {
                waiting.remove(at);
            }
        }
    }

    async fn forget(&self, selection: &Selection) -> Result<u64, TierError> {
        let forgotten = match (selection.glob.as_literal(), &selection.tenant) {
            (Some(text), Some(tenant)) => {
                let key = Key {
                    namespace: selection.namespace.clone(),
                    tenant: tenant.clone(),
                    text,
                };
                u64::from(self.tier.delete(&key).await?)
            }
            _ => self.tier.delete_pattern(selection).await?,
        };
        let invalidation = Invalidation {
            origin: self.origin,
            selection: selection.clone(),
        };
        // The tier first: who hears of it reads the tier afresh.
        self.announcer.announce(&invalidation).await?;
        Ok(forgotten)
    }

    async fn call<R>(
        self: &Arc<Self>,
        what: &'static str,
        call: impl Future<Output = Result<R, TierError>>,
    ) -> Result<R, Passed> {
        if !self.waiting().is_empty() {
            self.flush_behind();
            return Err(Passed::Skipped);
        }
        if !self.gate().admits(Instant::now()) {
            return Err(Passed::Skipped);
        }
        let result = timeout(self.call_timeout, call).await;
        let value = self.judge(what, result, self.call_timeout)?;
        // One may have come while the tier was asked; then this is perhaps what it forgets.
        match self.waiting().is_empty() {
            true => Ok(value),
            false => Err(Passed::Skipped),
        }
    }

    /// Sends what waits without anybody waiting for it.
    pub(crate) fn flush_behind(self: &Arc<Self>) {
        if self.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            this.flush().await;
            this.flushing.store(false, Ordering::Release);
        });
    }

    fn judge<R>(
        &self,
        what: &'static str,
        result: Result<Result<R, TierError>, tokio::time::error::Elapsed>,
        after: Duration,
    ) -> Result<R, Passed> {
        let error = match result {
            Ok(Ok(value)) => {
                if self.gate().succeeded() {
                    metrics::tier_is_back(&self.namespace);
                }
                return Ok(value);
            }
            Ok(Err(error)) => error,
            Err(_) => TierError::Timeout { after },
        };
        if self.gate().failed(Instant::now()) {
            metrics::tier_failed(&self.namespace, what, &error);
        }
        Err(Passed::Failed)
    }

    fn everything(&self) -> Selection {
        Selection {
            namespace: self.namespace.clone(),
            tenant: None,
            glob: Glob::all(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.gate().is_open()
    }

    /// Poison is ignored: every change is complete.
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Selection>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
