//! A saver of one tenant's threads: what it keeps is sealed with the tenant's key.
//!
//! Invariant: the keys are those that the file has when the call is made, so threads go the way
//! of all else that belongs to the tenant. Deliberately absent: which threads are whose.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use lyceum_core::TenantId;
use lyceum_graph::{
    Batch, Checkpoint, CheckpointId, Claim, Encrypted, Keep, Lease, Saved, Saver, SaverError,
    ThreadId,
};
use lyceum_memory::StoreError;
use lyceum_vault::{Clear, TenantKeys};

use crate::SqliteStore;

impl SqliteStore {
    /// What keeps the threads of a tenant's own: sealed where the store seals.
    #[must_use]
    pub fn saver_of(self: &Arc<Self>, tenant: &TenantId) -> Arc<dyn Saver> {
        match self.keys().masters() {
            None => Arc::clone(self) as Arc<dyn Saver>,
            Some(_) => Arc::new(TenantSaver {
                store: Arc::clone(self),
                tenant: tenant.clone(),
            }),
        }
    }
}

#[derive(Debug)]
struct TenantSaver {
    store: Arc<SqliteStore>,
    tenant: TenantId,
}

impl TenantSaver {
    fn sealing(&self, keys: &TenantKeys) -> Encrypted<Arc<SqliteStore>> {
        let sealing = Encrypted::new(Arc::clone(&self.store), keys.ring().clone());
        match keys.clear() {
            Clear::Refused => sealing,
            Clear::Accepted => sealing.reading_unsealed(),
        }
    }

    /// To write; the tenant gets a key where it has none.
    async fn writing(&self) -> Result<Encrypted<Arc<SqliteStore>>, SaverError> {
        if let Some(sealing) = self.reading().await? {
            return Ok(sealing);
        }
        let tenant = self.tenant.to_string();
        let keys = self.store.write_in_turn("make_key", move |db, _| {
            Ok(db.texts_to_write(&tenant)?.keys().cloned())
        });
        let keys = keys.await.map_err(failed)?;
        let keys = keys.ok_or_else(|| failed(StoreError::Closed))?;
        Ok(self.sealing(&keys))
    }

    /// To read; `None` where the tenant has no keys, so that nothing can be sealed with them.
    async fn reading(&self) -> Result<Option<Encrypted<Arc<SqliteStore>>>, SaverError> {
        let tenant = self.tenant.to_string();
        let keys = self
            .store
            .read_in_turn("read_key", move |db| Ok(db.texts(&tenant)?.keys().cloned()));
        let keys = keys.await.map_err(failed)?;
        Ok(keys.map(|keys| self.sealing(&keys)))
    }
}

fn failed(error: StoreError) -> SaverError {
    SaverError::Backend {
        source: error.into(),
    }
}

impl Saver for TenantSaver {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        self.store.acquire(thread, ttl, claim)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        self.store.release(lease)
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        async move { self.writing().await?.commit(lease, batch).await }.boxed()
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        async move {
            match self.reading().await? {
                Some(sealing) => sealing.load(thread, namespace, id).await,
                None => Ok(None),
            }
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        async move {
            match self.reading().await? {
                Some(sealing) => sealing.history(thread, namespace, before, limit).await,
                None => Ok(Vec::new()),
            }
        }
        .boxed()
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        self.store.prune(lease, keep)
    }
}
