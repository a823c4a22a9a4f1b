//! A saver that notes what the saver beneath it has stored, and that has failpoints.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use lyceum_graph::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Saved, Saver, SaverError, ThreadId,
};

use super::ledger::{Entry, Ledger, StoredCheckpoint};

/// Watches another saver.
#[derive(Debug)]
pub struct Watched {
    /// The saver that does the work.
    pub saver: Arc<dyn Saver>,
    /// Where acknowledged batches are noted.
    pub ledger: Arc<Ledger>,
}

/// The reply to a commit was lost.
#[derive(Debug)]
struct LostReply;

impl std::fmt::Display for LostReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hear whether it was committed")
    }
}

impl std::error::Error for LostReply {}

fn backend(source: impl std::error::Error + Send + Sync + 'static) -> SaverError {
    let source = Box::new(source);
    SaverError::Backend { source }
}

impl Watched {
    async fn committed(&self, lease: &Lease, batch: &Batch) -> Result<(), SaverError> {
        self.ledger.pass("before_commit");
        self.saver.commit(lease, batch).await?;
        self.ledger.pass("after_commit");
        if self.ledger.arrives("lost_reply") {
            return Err(backend(LostReply));
        }
        let stored = |head: &Checkpoint| StoredCheckpoint {
            id: head.id.0,
            namespace: head.namespace.clone(),
            step: head.step,
        };
        let records = batch.records.iter();
        let entry = Entry::Stored {
            thread: lease.thread.as_str().to_owned(),
            checkpoints: batch.checkpoints.iter().map(stored).collect(),
            records: records
                .map(|record| (record.checkpoint.0, record.task, record.key.clone()))
                .collect(),
        };
        self.ledger.note(&entry).map_err(backend)?;
        self.ledger.pass("after_reply");
        Ok(())
    }
}

impl Saver for Watched {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        async move {
            let lease = self.saver.acquire(thread, ttl, claim).await?;
            self.ledger.pass("acquired");
            Ok(lease)
        }
        .boxed()
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        async move {
            self.ledger.pass("before_release");
            self.saver.release(lease).await?;
            self.ledger.pass("released");
            Ok(())
        }
        .boxed()
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        self.committed(lease, batch).boxed()
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        self.saver.load(thread, namespace, id)
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        self.saver.history(thread, namespace, before, limit)
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        self.saver.prune(lease, keep)
    }
}
