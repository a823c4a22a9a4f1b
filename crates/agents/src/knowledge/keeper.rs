//! Keeps the knowledge of each conversation on a durable thread of its own.
//!
//! The thread's id is a digest of the whole scope, so a conversation of one user is not
//! another's, whatever ids they choose. Invariant: one checkpoint a conversation is kept.
//! Deliberately absent: the conversation itself, which the memory stores.

use std::{
    fmt::{self, Write},
    sync::Arc,
    time::Duration,
};

use lyceum_core::{Knowledge, Scope, TenantId};
use lyceum_graph::{
    Claim, CompileError, Context, END, Graph, GraphBuilder, Keep, RunError, START, Saver,
    SaverError, State, Thread, ThreadId, Threads,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long forgetting may take before another may write.
const LEASE: Duration = Duration::from_secs(30);

/// What the names of these threads begin with.
const PREFIX: &str = "knowledge-";

/// Threads that are listed at a time.
const PAGE: usize = 256;

/// Finds the saver of a tenant.
type Of = dyn Fn(&TenantId) -> Arc<dyn Saver> + Send + Sync;

/// What keeps the threads of each tenant.
#[derive(Clone)]
pub struct Savers(Arc<Of>);

impl Savers {
    /// A saver for each tenant, e.g. one that seals with the tenant's own key.
    #[must_use]
    pub fn by_tenant(of: impl Fn(&TenantId) -> Arc<dyn Saver> + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }
}

/// One saver for all tenants.
impl From<Arc<dyn Saver>> for Savers {
    fn from(saver: Arc<dyn Saver>) -> Self {
        Self::by_tenant(move |_| Arc::clone(&saver))
    }
}

impl fmt::Debug for Savers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Savers")
    }
}

/// What a thread holds.
#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    knowledge: Knowledge,
}

/// Reads and writes the knowledge of conversations.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    graph: Graph<Kept, (), ()>,
    savers: Savers,
}

impl Keeper {
    pub(crate) fn new(savers: Savers) -> Result<Self, CompileError> {
        let graph = GraphBuilder::new()
            .node("learn", async |_: Arc<Kept>, _: Context<(), ()>| {
                Ok(KeptUpdate::new())
            })
            .edge(START, "learn")
            .edge("learn", END)
            .compile()?;
        Ok(Self { graph, savers })
    }

    /// What is known of the scope's conversation; nothing where nothing was kept.
    pub(crate) async fn load(&self, scope: &Scope) -> Result<Knowledge, RunError> {
        let Some(thread) = self.thread(scope) else {
            return Ok(Knowledge::default());
        };
        let snapshot = thread.snapshot(None).await?;
        Ok(snapshot.map_or_else(Knowledge::default, |kept| kept.state.knowledge.clone()))
    }

    pub(crate) async fn save(&self, scope: &Scope, knowledge: Knowledge) -> Result<(), RunError> {
        if let Some(thread) = self.thread(scope) {
            let update = KeptUpdate::new().knowledge(knowledge);
            thread.keep_last(1).update(update, None).await?;
        }
        Ok(())
    }

    /// Removes what is known of the scope's conversation.
    pub(crate) async fn forget(&self, scope: &Scope) -> Result<(), SaverError> {
        let Some(thread) = self.thread(scope) else {
            return Ok(());
        };
        let saver = (self.savers.0)(&scope.tenant);
        prune(&*saver, thread.id()).await
    }

    /// Writes what is known of the scope's conversation anew, sealed as the saver seals now.
    async fn reseal(&self, scope: &Scope) -> Result<bool, RunError> {
        let known = self.load(scope).await?;
        let is_something = known != Knowledge::default();
        if is_something {
            self.save(scope, known).await?;
        }
        Ok(is_something)
    }

    /// A scope without a conversation has no thread.
    fn thread(&self, scope: &Scope) -> Option<Thread<Kept, (), ()>> {
        let id = knowledge_thread(scope)?;
        Some(self.graph.thread((self.savers.0)(&scope.tenant), id))
    }
}

async fn prune(saver: &dyn Saver, thread: &ThreadId) -> Result<(), SaverError> {
    let lease = saver.acquire(thread, LEASE, Claim::IfFree).await?;
    let pruned = saver.prune(&lease, Keep::Nothing).await;
    saver.release(&lease).await?;
    pruned.map(|_| ())
}

/// The thread on which the knowledge of the scope's conversation stands; a scope without a
/// conversation has none.
#[must_use]
pub fn knowledge_thread(scope: &Scope) -> Option<ThreadId> {
    let session = scope.session.as_ref()?;
    let mut digest = Sha256::new();
    // No id holds the separator, so no two scopes have the same text.
    for part in [
        scope.tenant.as_str(),
        scope.user.as_str(),
        scope.agent.as_str(),
        session.as_str(),
    ] {
        digest.update(part);
        digest.update("/");
    }
    let mut name = PREFIX.to_owned();
    for byte in digest.finalize() {
        // Writing to a string never fails.
        let _ = write!(name, "{byte:02x}");
    }
    ThreadId::new(name).ok()
}

/// Forgets what was taught in the scope's conversation: nothing of it is left on its thread.
///
/// # Errors
///
/// [`ForgetError`] when the saver fails.
pub async fn forget_knowledge(savers: impl Into<Savers>, scope: &Scope) -> Result<(), ForgetError> {
    Ok(Keeper::new(savers.into())?.forget(scope).await?)
}

/// Writes what was taught in the scope's conversation anew, as the saver seals now; says whether
/// there was anything.
///
/// # Errors
///
/// [`ForgetError`] when the saver fails.
pub async fn reseal_knowledge(
    savers: impl Into<Savers>,
    scope: &Scope,
) -> Result<bool, ForgetError> {
    Ok(Keeper::new(savers.into())?.reseal(scope).await?)
}

/// Forgets what was taught in conversations that are there no longer: the threads whose last write
/// is `idle` ago and that are not among the `living`. Says how many it forgot.
///
/// # Errors
///
/// The saver's failure; what was forgotten until then stays so.
pub async fn sweep_knowledge(
    threads: &dyn Threads,
    idle: Duration,
    is_living: impl Fn(&ThreadId) -> bool,
) -> Result<u64, SaverError> {
    let (mut after, mut swept) = (None, 0);
    loop {
        let page = threads.threads(idle, after.as_ref(), PAGE).await?;
        for entry in &page {
            let is_ours = entry.thread.as_str().starts_with(PREFIX);
            if is_ours && !is_living(&entry.thread) {
                prune(threads, &entry.thread).await?;
                swept += 1;
            }
        }
        match page.into_iter().last() {
            Some(last) => after = Some(last.thread),
            None => return Ok(swept),
        }
    }
}

/// Why what was taught could not be forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The workflow does not compile, which only a change of its code can cause.
    #[error("compile the workflow of what was taught")]
    Workflow(#[from] CompileError),
    /// The thread could not be read or written.
    #[error("forget what was taught")]
    Saver(#[from] SaverError),
    /// What was taught could not be written anew.
    #[error("write what was taught anew")]
    Run(#[from] RunError),
}
