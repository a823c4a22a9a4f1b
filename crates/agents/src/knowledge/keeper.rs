//! Keeps the knowledge of each conversation on a durable thread of its own.
//!
//! The thread's id is a digest of the whole scope, so a conversation of one user is not
//! another's, whatever ids they choose. Invariant: one checkpoint a conversation is kept.
//! Deliberately absent: the conversation itself, which the memory stores.

use std::{fmt::Write, sync::Arc, time::Duration};

use lyceum_core::{Knowledge, Scope};
use lyceum_graph::{
    Claim, CompileError, Context, END, Graph, GraphBuilder, Keep, RunError, START, Saver,
    SaverError, State, Thread, ThreadId,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long forgetting may take before another may write.
const LEASE: Duration = Duration::from_secs(30);

/// What a thread holds.
#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Kept {
    knowledge: Knowledge,
}

/// Reads and writes the knowledge of conversations.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    graph: Graph<Kept, (), ()>,
    saver: Arc<dyn Saver>,
}

impl Keeper {
    pub(crate) fn new(saver: Arc<dyn Saver>) -> Result<Self, CompileError> {
        let graph = GraphBuilder::new()
            .node("learn", async |_: Arc<Kept>, _: Context<(), ()>| {
                Ok(KeptUpdate::new())
            })
            .edge(START, "learn")
            .edge("learn", END)
            .compile()?;
        Ok(Self { graph, saver })
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
        let lease = self
            .saver
            .acquire(thread.id(), LEASE, Claim::IfFree)
            .await?;
        let pruned = self.saver.prune(&lease, Keep::Nothing).await;
        self.saver.release(&lease).await?;
        pruned.map(|_| ())
    }

    /// A scope without a conversation has no thread.
    fn thread(&self, scope: &Scope) -> Option<Thread<Kept, (), ()>> {
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
        let mut name = "knowledge-".to_owned();
        for byte in digest.finalize() {
            // Writing to a string never fails.
            let _ = write!(name, "{byte:02x}");
        }
        let id = ThreadId::new(name).ok()?;
        Some(self.graph.thread(self.saver.clone(), id))
    }
}

/// Forgets what was taught in the scope's conversation: nothing of it is left on its thread.
///
/// # Errors
///
/// [`ForgetError`] when the saver fails.
pub async fn forget_knowledge(saver: Arc<dyn Saver>, scope: &Scope) -> Result<(), ForgetError> {
    Ok(Keeper::new(saver)?.forget(scope).await?)
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
}
