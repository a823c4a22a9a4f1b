//! A saver that fails when it is told to.
//!
//! Invariant: what is not told to fail reaches the saver behind it unchanged. Deliberately
//! absent: chance; a test says which call it means.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;

use crate::saver::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Saved, Saver, SaverError, ThreadId,
};

/// A method of [`Saver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`Saver::acquire`].
    Acquire,
    /// [`Saver::release`].
    Release,
    /// [`Saver::commit`].
    Commit,
    /// [`Saver::load`].
    Load,
    /// [`Saver::history`].
    History,
    /// [`Saver::prune`].
    Prune,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and [`SaverError::Backend`] is reported.
    Fails,
    /// It is done, and [`SaverError::Backend`] is reported: the reply was lost.
    LosesReply,
    /// Nothing is done, and nothing is reported, ever: with a run that is then dropped, the
    /// crash of its process before the call.
    Hangs,
    /// It is done, and nothing is reported, ever: the crash just after the call.
    DoesAndHangs,
}

/// A saver in front of another one. Clones share the faults and the counts.
#[derive(Debug, Clone)]
pub struct Failpoints {
    saver: Arc<dyn Saver>,
    points: Arc<Mutex<Points>>,
}

#[derive(Debug, Default)]
struct Points {
    faults: BTreeMap<(Operation, u64), Fault>,
    calls: BTreeMap<Operation, u64>,
}

impl Failpoints {
    /// In front of a saver, with no fault yet.
    #[must_use]
    pub fn new(saver: Arc<dyn Saver>) -> Self {
        let points = Arc::default();
        Self { saver, points }
    }

    /// The `n`-th call of an operation from the first one on (the first is 1) meets a fault.
    #[must_use]
    pub fn at(self, operation: Operation, n: u64, fault: Fault) -> Self {
        self.points().faults.insert((operation, n), fault);
        self
    }

    /// How often an operation was called.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.points().calls.get(&operation).copied().unwrap_or(0)
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, operation: Operation) -> Option<Fault> {
        let mut points = self.points();
        let calls = points.calls.entry(operation).or_default();
        *calls += 1;
        let key = (operation, *calls);
        points.faults.get(&key).copied()
    }

    async fn through<T>(
        &self,
        operation: Operation,
        call: BoxFuture<'_, Result<T, SaverError>>,
    ) -> Result<T, SaverError> {
        let Some(fault) = self.next(operation) else {
            return call.await;
        };
        let broken = |_| SaverError::Backend {
            source: format!("a fault was asked for: {operation:?} {fault:?}").into(),
        };
        match fault {
            Fault::Fails => Err(broken(())),
            Fault::LosesReply => Err(call.await.map_or_else(|error| error, |_| broken(()))),
            Fault::Hangs => pending().await,
            Fault::DoesAndHangs => {
                call.await?;
                pending().await
            }
        }
    }
}

impl Saver for Failpoints {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        Box::pin(async move {
            let call = Box::pin(async move { self.saver.acquire(thread, ttl, claim).await });
            self.through(Operation::Acquire, call).await
        })
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        let call = Box::pin(async move { self.saver.release(lease).await });
        Box::pin(self.through(Operation::Release, call))
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        let call = Box::pin(async move { self.saver.commit(lease, batch).await });
        Box::pin(self.through(Operation::Commit, call))
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        let call = Box::pin(async move { self.saver.load(thread, namespace, id).await });
        Box::pin(self.through(Operation::Load, call))
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        let call = Box::pin(async move {
            let heads = self.saver.history(thread, namespace, before, limit);
            heads.await
        });
        Box::pin(self.through(Operation::History, call))
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        let call = Box::pin(async move { self.saver.prune(lease, keep).await });
        Box::pin(self.through(Operation::Prune, call))
    }
}
