//! A saver of one tenant's threads: what it keeps is sealed with the tenant's key.
//!
//! Invariant: what is committed is sealed in the transaction that holds the tenant's keys, so
//! threads go the way of all else that belongs to the tenant. Deliberately absent: which threads
//! are whose.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use lyceum_core::TenantId;
use lyceum_graph::{
    Batch, Checkpoint, CheckpointId, Claim, Encrypted, Keep, Lease, Saved, Saver, SaverError,
    ThreadId,
};
use lyceum_memory::StoreError;
use lyceum_vault::{Clear, TenantKeys, Texts};

use crate::{
    PostgresStore,
    checkpoints::{Columns, commit, fenced},
    connection::{Begun, KEYS, Whose, wrapped},
    error::Failure,
    pool::Held,
    sealing::to_write,
};

impl PostgresStore {
    /// What keeps the threads of a tenant's own: sealed where the store seals.
    #[must_use]
    pub fn saver_of(self: &Arc<Self>, tenant: &TenantId) -> Arc<dyn Saver> {
        match self.is_encrypting() {
            false => Arc::clone(self) as Arc<dyn Saver>,
            true => Arc::new(TenantSaver {
                store: Arc::clone(self),
                tenant: tenant.clone(),
            }),
        }
    }
}

#[derive(Debug)]
struct TenantSaver {
    store: Arc<PostgresStore>,
    tenant: TenantId,
}

impl TenantSaver {
    fn sealing(&self, keys: &TenantKeys) -> Encrypted<Arc<PostgresStore>> {
        let sealing = Encrypted::new(Arc::clone(&self.store), keys.ring().clone());
        match keys.clear() {
            Clear::Refused => sealing,
            Clear::Accepted => sealing.reading_unsealed(),
        }
    }

    /// To read; `None` where the tenant has no keys, so that nothing can be sealed with them.
    async fn reading(&self) -> Result<Option<Encrypted<Arc<PostgresStore>>>, SaverError> {
        let tenant = self.tenant.as_str();
        let texts = self
            .store
            .call_in_turn("read_keys", |session: Held| async move {
                let rows = session.ask(Whose::Tenant(tenant), KEYS, &[&tenant]).await?;
                Ok(self.store.keys().texts(tenant, wrapped(&rows)?)?)
            });
        let texts = texts.await.map_err(|error| SaverError::Backend {
            source: error.into(),
        })?;
        Ok(texts.keys().map(|keys| self.sealing(keys)))
    }

    /// A batch as the tenant's newest key seals it.
    fn sealed(&self, texts: &Texts, lease: &Lease, batch: &Batch) -> Result<Batch, Failure> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
            Failure::Store(StoreError::Internal { source })
        };
        let keys = texts.keys().ok_or_else(|| failed("no key".into()))?;
        let sealed = self.sealing(keys).seal(&lease.thread, batch);
        sealed.map_err(|error| failed(error.into()))
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
        let tenant = self.tenant.as_str();
        async move {
            let committed = self
                .store
                .call_in_turn("commit_sealed", |session: Held| async move {
                    let work = async |begun: Begun| {
                        let texts = to_write(self.store.keys(), tenant, begun)?;
                        let batch = self.sealed(&texts, lease, batch)?;
                        commit(&session, lease, &Columns::new(&batch)?).await
                    };
                    session.write(Whose::Tenant(tenant), work).await
                });
            fenced(&lease.thread, committed.await)
        }
        .boxed()
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
