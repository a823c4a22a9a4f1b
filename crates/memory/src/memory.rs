//! The memory that agents use: limits, degradation and wake-ups over the three ports.
//!
//! Invariant: reading a context never fails because a store does; the answer says what is
//! missing. Writing fails visibly or is durable. Deliberately absent: any model call.

use std::{future::Future, sync::Arc, time::Duration};

use lyceum_core::{Scope, Scrubber};
use tokio::sync::Notify;

use crate::{
    Assembled, Budget, Found, Limits, Meaning, MemoryConfig, MemoryError, MemoryId, MemoryStore,
    NewMemory, NewTurn, Parts, Recollection, Saved, SessionStore, StoreError, StoredMessage,
    Summary, assemble, config::prefix, job::JobStore,
};

/// How much of each part a context may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextLimits {
    /// The most messages of the session, the newest ones. Default 10.
    pub recent: usize,
    /// The most memories. Default 3.
    pub knowledge: usize,
}

impl Default for ContextLimits {
    fn default() -> Self {
        Self {
            recent: 10,
            knowledge: 3,
        }
    }
}

/// What the memory has to say to a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// The summary of the session's beginning, where one was made.
    pub summary: Option<Summary>,
    /// The newest messages of the session, oldest first.
    pub recent: Vec<StoredMessage>,
    /// The memories that fit the query, best first.
    pub knowledge: Vec<Recollection>,
    /// The parts that are missing because their store failed or was slow:
    /// `summary`, `recent`, `knowledge`, and those of [`Found::degraded`].
    pub degraded: Vec<&'static str>,
}

/// Sessions, memories and jobs of all scopes. Cheap to clone; clones are the same memory.
#[derive(Debug, Clone)]
pub struct Memory {
    pub(crate) sessions: Arc<dyn SessionStore>,
    pub(crate) memories: Arc<dyn MemoryStore>,
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) config: Arc<MemoryConfig>,
    pub(crate) work: Arc<Notify>,
    pub(crate) meaning: Option<Arc<Meaning>>,
    pub(crate) scrubber: Option<Arc<dyn Scrubber>>,
}

impl Memory {
    /// A memory over three stores, which usually are one.
    #[must_use]
    pub fn new(
        sessions: Arc<dyn SessionStore>,
        memories: Arc<dyn MemoryStore>,
        jobs: Arc<dyn JobStore>,
        config: MemoryConfig,
    ) -> Self {
        Self {
            sessions,
            memories,
            jobs,
            config: Arc::new(config),
            work: Arc::default(),
            meaning: None,
            scrubber: None,
        }
    }

    /// The same memory, which shows the model that makes vectors nothing that the scrubber takes
    /// out: neither of memories nor of queries. What is stored stays as it was said.
    #[must_use]
    pub fn with_scrubber(mut self, scrubber: Arc<dyn Scrubber>) -> Self {
        self.scrubber = Some(scrubber);
        self
    }

    /// Collects what is known to a query: the session's summary and newest messages, and the
    /// memories that fit, read at the same time. A scope without a session has memories only.
    ///
    /// # Errors
    ///
    /// None of a store: its part is named in [`Context::degraded`].
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    #[tracing::instrument(level = "debug", name = "memory", skip_all, fields(otel.name = "retrieval memory"))]
    pub async fn context(
        &self,
        scope: &Scope,
        query: &str,
        limits: ContextLimits,
    ) -> Result<Context, MemoryError> {
        let query = prefix(query, self.limits().query_bytes);
        let in_session = scope.session.is_some();
        let session = async {
            match in_session {
                true => self.sessions.session(scope).await,
                false => Ok(None),
            }
        };
        let recent = async {
            match in_session && limits.recent > 0 {
                true => {
                    self.sessions
                        .messages(scope, None, self.page(limits.recent))
                        .await
                }
                false => Ok(Vec::new()),
            }
        };
        let knowledge = async {
            match limits.knowledge > 0 {
                true => self.find(scope, query, limits.knowledge).await,
                false => Ok(Found::default()),
            }
        };
        let (session, recent, knowledge) = tokio::join!(
            self.part("summary", session),
            self.part("recent", recent),
            self.part("knowledge", knowledge),
        );
        let mut context = Context::default();
        match session {
            Some(session) => context.summary = session.and_then(|session| session.summary),
            None => context.degraded.push("summary"),
        }
        match recent {
            Some(recent) => context.recent = recent,
            None => context.degraded.push("recent"),
        }
        match knowledge {
            Some(Found { memories, degraded }) => {
                context.knowledge = memories;
                context.degraded.extend(degraded);
            }
            None => context.degraded.push("knowledge"),
        }
        Ok(context)
    }

    /// Collects what is known to a query as [`context`](Self::context) does, and puts it together
    /// under a budget of tokens; [`Assembled::trace`] says what was taken and why.
    ///
    /// # Errors
    ///
    /// None of a store: its part is named in [`Assembled::degraded`].
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    #[tracing::instrument(level = "debug", name = "memory", skip_all, fields(otel.name = "retrieval memory"))]
    pub async fn assemble(
        &self,
        scope: &Scope,
        query: &str,
        budget: &Budget,
    ) -> Result<Assembled, MemoryError> {
        let limits = ContextLimits {
            recent: budget.messages,
            knowledge: budget.candidates,
        };
        let context = self.context(scope, query, limits).await?;
        let parts = Parts {
            summary: context.summary,
            messages: context.recent,
            knowledge: context.knowledge,
        };
        let mut assembled = assemble(parts, budget);
        assembled.degraded = context.degraded;
        Ok(assembled)
    }

    /// Stores a turn, its memories and its jobs, durably and together, and wakes a waiting worker.
    /// Saving the same turn again gives the same result with [`Saved::replayed`] set.
    ///
    /// # Errors
    ///
    /// [`StoreError::SessionRequired`] for a scope without a session,
    /// [`StoreError::TurnConflict`] when the turn id was used for other content, a limit of
    /// [`Limits`], or the store's failure.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have stored the turn; saving it again is safe.
    #[tracing::instrument(level = "debug", name = "memory", skip_all, fields(otel.name = "memory save_turn"))]
    pub async fn save_turn(&self, scope: &Scope, turn: NewTurn) -> Result<Saved, MemoryError> {
        self.limits().check_turn(&turn)?;
        let saved = self.sessions.append(scope, &turn).await?;
        if !turn.jobs.is_empty() {
            self.work.notify_waiters();
        }
        Ok(saved)
    }

    /// Stores a memory. A memory whose id is known already stays as it is.
    ///
    /// # Errors
    ///
    /// A limit of [`Limits`], or the store's failure.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have stored the memory; storing it again is safe.
    #[tracing::instrument(level = "debug", name = "memory", skip_all, fields(otel.name = "memory remember"))]
    pub async fn remember(
        &self,
        scope: &Scope,
        memory: NewMemory,
    ) -> Result<MemoryId, MemoryError> {
        self.limits().check_memory(&memory)?;
        self.memories.put(scope, &memory).await?;
        Ok(memory.id)
    }

    /// Deletes completed sessions whose last turn is older than `idle`, and says which, so that
    /// what is kept beside them can go too.
    /// Sessions with unfinished jobs stay until these are done.
    ///
    /// # Errors
    ///
    /// The store's failure; what was deleted until then stays deleted.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped between any two batches and called again.
    pub async fn expire(&self, idle: Duration) -> Result<Vec<Scope>, MemoryError> {
        let batch = self.limits().page;
        let mut all = Vec::new();
        loop {
            let expired = self.sessions.expire(idle, batch).await?;
            let is_last = expired.len() < batch;
            all.extend(expired);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// The store of sessions, for reading, listing and deleting them.
    #[must_use]
    pub fn sessions(&self) -> &Arc<dyn SessionStore> {
        &self.sessions
    }

    /// The store of memories, for reading, listing and deleting them.
    #[must_use]
    pub fn memories(&self) -> &Arc<dyn MemoryStore> {
        &self.memories
    }

    /// The store of jobs, for listing and reviving dead ones.
    #[must_use]
    pub fn jobs(&self) -> &Arc<dyn JobStore> {
        &self.jobs
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    fn page(&self, wish: usize) -> usize {
        wish.min(self.limits().page)
    }

    /// The part, or `None` when its store failed or was slow; logged here, because the
    /// caller gets an answer and no error.
    async fn part<T>(
        &self,
        name: &'static str,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let after = self.config.part_timeout;
        let error = match tokio::time::timeout(after, read).await {
            Ok(Ok(part)) => return Some(part),
            Ok(Err(error)) => MemoryError::Store(error),
            Err(_) => MemoryError::Timeout { after },
        };
        let (label, error) = (error.label(), &error as &dyn std::error::Error);
        tracing::warn!(part = name, label, error, "context goes without a part");
        None
    }
}
