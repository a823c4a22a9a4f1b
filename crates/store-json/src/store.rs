//! The ports over the folder: the reference in memory, and a file for every document changed.
//!
//! Invariant: nobody sees a change before it is on the disk, and one that does not get there
//! did not happen. One writer at a time; readers wait for it.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt;
use lyceum_core::Scope;
use lyceum_memory::{
    AsOf, Beside, Change, Checked, Claim, ClaimRequest, Clock, DeadJob, Erased, FailedJob,
    InMemory, JobId, JobResults, JobStore, Lease, MemoryCursor, MemoryId, MemoryRecord,
    MemoryStore, Near, NewMemory, NewTurn, NewVector, Recollection, Saved, Session, SessionArchive,
    SessionCursor, SessionStore, StoreCheck, StoreError, StoredMessage, SystemClock, Unembedded,
    VectorCount, VectorSpace, VectorStore, Whose,
};
use tokio::sync::RwLock;

use crate::files::{Files, OpenError};

/// Sessions, memories and jobs in a folder. Clones share it; needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct JsonStore {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug)]
struct Inner {
    held: InMemory,
    files: Files,
}

type Outcome<T> = Result<T, StoreError>;

impl JsonStore {
    /// Opens a folder, which is made where there is none, and reads all of it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the folder cannot be used, is open elsewhere, or holds a file that this
    /// store did not write. Nothing is changed then.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        Self::with_clock(folder, Arc::new(SystemClock::default()))
    }

    /// The same by another clock.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn with_clock(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let files = Files::open(folder)?;
        let held = InMemory::recording(clock);
        for document in files.read_all()? {
            held.load(document);
        }
        Ok(Self {
            inner: Arc::new(RwLock::new(Inner { held, files })),
        })
    }

    /// Changes what is held and then the files, on a thread that may block. A caller who
    /// leaves stops neither.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&InMemory) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let inner = Arc::clone(&self.inner).write_owned().await;
        let changed = tokio::task::spawn_blocking(move || inner.change(work));
        changed.await.map_err(|source| StoreError::Internal {
            source: Box::new(source),
        })?
    }
}

impl Inner {
    fn change<T>(&self, work: impl FnOnce(&InMemory) -> Outcome<T>) -> Outcome<T> {
        let result = work(&self.held);
        let changes = self.held.take_changes();
        for (at, change) in changes.iter().enumerate() {
            let kept = match change {
                Change::Kept(document) => self.files.keep(document),
                Change::Gone(scope) => self.files.remove(scope),
            };
            if let Err(error) = kept {
                self.take_back(&changes[at..])?;
                return Err(error);
            }
        }
        result
    }

    /// Holds again what the files say of documents whose change did not get there.
    fn take_back(&self, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            let scope = change.scope();
            let document = self.files.read(scope);
            match document.map_err(|error| StoreError::Corrupt {
                source: Box::new(error),
            })? {
                Some(document) => self.held.load(document),
                None => self.held.unload(scope),
            }
        }
        Ok(())
    }
}

/// The reference never waits.
fn now<T>(call: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    call.now_or_never().unwrap_or(Err(StoreError::Closed))
}

#[async_trait]
impl SessionStore for JsonStore {
    async fn append(&self, scope: &Scope, turn: &NewTurn) -> Outcome<Saved> {
        let (scope, turn) = (scope.clone(), turn.clone());
        self.change(move |held| now(held.append(&scope, &turn)))
            .await
    }

    async fn messages(
        &self,
        scope: &Scope,
        before: Option<u64>,
        limit: usize,
    ) -> Outcome<Vec<StoredMessage>> {
        self.inner
            .read()
            .await
            .held
            .messages(scope, before, limit)
            .await
    }

    async fn session(&self, scope: &Scope) -> Outcome<Option<Session>> {
        self.inner.read().await.held.session(scope).await
    }

    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Outcome<Vec<Session>> {
        self.inner
            .read()
            .await
            .held
            .sessions(scope, after, limit)
            .await
    }

    async fn complete(&self, scope: &Scope) -> Outcome<bool> {
        let scope = scope.clone();
        self.change(move |held| now(SessionStore::complete(held, &scope)))
            .await
    }

    async fn delete(&self, scope: &Scope) -> Outcome<bool> {
        let scope = scope.clone();
        self.change(move |held| now(SessionStore::delete(held, &scope)))
            .await
    }

    async fn expire(&self, idle: Duration, limit: usize) -> Outcome<Vec<Scope>> {
        self.change(move |held| now(held.expire(idle, limit))).await
    }
}

#[async_trait]
impl SessionArchive for JsonStore {
    async fn restore(
        &self,
        scope: &Scope,
        session: &Session,
        messages: &[StoredMessage],
    ) -> Outcome<bool> {
        let (scope, session, messages) = (scope.clone(), session.clone(), messages.to_vec());
        self.change(move |held| now(held.restore(&scope, &session, &messages)))
            .await
    }
}

#[async_trait]
impl MemoryStore for JsonStore {
    async fn put(&self, scope: &Scope, memory: &NewMemory) -> Outcome<bool> {
        let (scope, memory) = (scope.clone(), memory.clone());
        self.change(move |held| now(held.put(&scope, &memory)))
            .await
    }

    async fn get(&self, scope: &Scope, id: &MemoryId) -> Outcome<Option<MemoryRecord>> {
        self.inner.read().await.held.get(scope, id).await
    }

    async fn get_many(&self, scope: &Scope, ids: &[MemoryId]) -> Outcome<Vec<MemoryRecord>> {
        self.inner.read().await.held.get_many(scope, ids).await
    }

    async fn search(&self, scope: &Scope, query: &str, limit: usize) -> Outcome<Vec<Recollection>> {
        self.inner
            .read()
            .await
            .held
            .search(scope, query, limit)
            .await
    }

    async fn search_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        query: &str,
        limit: usize,
    ) -> Outcome<Vec<Recollection>> {
        let inner = self.inner.read().await;
        inner.held.search_as_of(scope, as_of, query, limit).await
    }

    async fn beside(&self, scope: &Scope, ids: &[MemoryId]) -> Outcome<Vec<Beside>> {
        self.inner.read().await.held.beside(scope, ids).await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Outcome<Vec<MemoryRecord>> {
        self.inner.read().await.held.list(scope, after, limit).await
    }

    async fn list_as_of(
        &self,
        scope: &Scope,
        as_of: AsOf,
        after: Option<&MemoryCursor>,
        limit: usize,
    ) -> Outcome<Vec<MemoryRecord>> {
        let inner = self.inner.read().await;
        inner.held.list_as_of(scope, as_of, after, limit).await
    }

    async fn delete(&self, scope: &Scope, id: &MemoryId) -> Outcome<bool> {
        let (scope, id) = (scope.clone(), id.clone());
        self.change(move |held| now(MemoryStore::delete(held, &scope, &id)))
            .await
    }
}

#[async_trait]
impl JobStore for JsonStore {
    async fn claim(&self, request: &ClaimRequest<'_>) -> Outcome<Claim> {
        let kinds: Vec<String> = request.kinds.iter().map(|&kind| kind.to_owned()).collect();
        let (lease, max_attempts) = (request.lease, request.max_attempts);
        let claim = move |held: &InMemory| {
            let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
            now(held.claim(&ClaimRequest {
                kinds: &kinds,
                lease,
                max_attempts,
            }))
        };
        self.change(claim).await
    }

    async fn heartbeat(&self, lease: &Lease, extend: Duration) -> Outcome<Lease> {
        let lease = lease.clone();
        self.change(move |held| now(held.heartbeat(&lease, extend)))
            .await
    }

    async fn complete(&self, lease: &Lease, results: &JobResults) -> Outcome<()> {
        let (lease, results) = (lease.clone(), results.clone());
        self.change(move |held| now(JobStore::complete(held, &lease, &results)))
            .await
    }

    async fn fail(
        &self,
        lease: &Lease,
        retry_in: Option<Duration>,
        reason: &str,
    ) -> Outcome<FailedJob> {
        let (lease, reason) = (lease.clone(), reason.to_owned());
        self.change(move |held| now(held.fail(&lease, retry_in, &reason)))
            .await
    }

    async fn dead(&self, scope: &Scope, limit: usize) -> Outcome<Vec<DeadJob>> {
        self.inner.read().await.held.dead(scope, limit).await
    }

    async fn revive(&self, scope: &Scope, job: &JobId) -> Outcome<bool> {
        let (scope, job) = (scope.clone(), job.clone());
        self.change(move |held| now(held.revive(&scope, &job)))
            .await
    }
}

/// Vectors are not in the files: after a start all memories wait for theirs again.
#[async_trait]
impl VectorStore for JsonStore {
    async fn unembedded(&self, space: &VectorSpace, limit: usize) -> Outcome<Vec<Unembedded>> {
        self.inner.read().await.held.unembedded(space, limit).await
    }

    async fn set_vectors(&self, space: &VectorSpace, vectors: &[NewVector]) -> Outcome<usize> {
        self.inner
            .read()
            .await
            .held
            .set_vectors(space, vectors)
            .await
    }

    async fn nearest(
        &self,
        scope: &Scope,
        space: &VectorSpace,
        query: &[f32],
        limit: usize,
        also: &[MemoryId],
    ) -> Outcome<Vec<Near>> {
        let inner = self.inner.read().await;
        inner.held.nearest(scope, space, query, limit, also).await
    }

    async fn count_vectors(&self, space: &VectorSpace) -> Outcome<VectorCount> {
        self.inner.read().await.held.count_vectors(space).await
    }

    async fn forget_vectors(&self, space: &VectorSpace) -> Outcome<u64> {
        self.inner.read().await.held.forget_vectors(space).await
    }
}

/// What is held is made from the files at every start, so only they can differ from it.
#[async_trait]
impl StoreCheck for JsonStore {
    async fn verify(&self) -> Outcome<Checked> {
        let inner = Arc::clone(&self.inner).read_owned().await;
        let mut checked = inner.held.verify().await?;
        let read = tokio::task::spawn_blocking(move || {
            let documents = inner.files.read_all();
            let held = InMemory::default();
            match documents {
                Ok(documents) => documents.into_iter().for_each(|one| held.load(one)),
                Err(error) => return Err(error.to_string()),
            }
            Ok(held)
        });
        let read = read.await.map_err(|source| StoreError::Internal {
            source: Box::new(source),
        })?;
        match read {
            Ok(held) => {
                let files = held.verify().await?;
                let counts = |of: &Checked| (of.owners, of.sessions, of.messages, of.memories);
                if counts(&files) != counts(&checked) {
                    checked.fault(
                        "files",
                        "they hold other sessions or memories than this process",
                    );
                }
            }
            Err(error) => checked.fault("files", error),
        }
        Ok(checked)
    }

    async fn rebuild(&self) -> Outcome<()> {
        Ok(())
    }

    async fn owners(&self, after: Option<&Scope>, limit: usize) -> Outcome<Vec<Scope>> {
        self.inner.read().await.held.owners(after, limit).await
    }

    async fn erase(&self, whose: &Whose) -> Outcome<Erased> {
        let whose = whose.clone();
        self.change(move |held| now(held.erase(&whose))).await
    }

    async fn forget_deleted(&self) -> Outcome<()> {
        Ok(())
    }
}
