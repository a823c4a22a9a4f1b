//! The archive of conversations, with the queues told of what is deleted.
//!
//! Invariant: what waits for a conversation's sake stops waiting before the conversation is
//! deleted, so that no call is paid for whose answer nobody can read any more. Calls that
//! run already go on to their end.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{
    Archive, CallContext, Erased, Export, Page, Scope, SessionEntry, SessionId, TeachError,
    Transcript,
};
use lyceum_queue::Queue;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Cancelling {
    pub archive: Arc<dyn Archive>,
    pub queues: Vec<Queue>,
}

#[async_trait]
impl Archive for Cancelling {
    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<SessionEntry>>, TeachError> {
        self.archive.sessions(scope, after, limit).await
    }

    async fn transcript(
        &self,
        scope: &Scope,
        session: &SessionId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<Transcript>, TeachError> {
        self.archive.transcript(scope, session, before, limit).await
    }

    async fn complete(&self, scope: &Scope, session: &SessionId) -> Result<bool, TeachError> {
        self.archive.complete(scope, session).await
    }

    async fn delete(&self, call: CallContext, session: &SessionId) -> Result<bool, TeachError> {
        let scope = call.scope.clone().with_session(session.clone());
        let cancelled: usize = self
            .queues
            .iter()
            .map(|queue| queue.cancel_conversation(&scope))
            .sum();
        if cancelled > 0 {
            tracing::info!(cancelled, "calls of a deleted conversation wait no longer");
        }
        self.archive.delete(call, session).await
    }

    fn export(&self, scope: Scope) -> Export {
        self.archive.export(scope)
    }

    async fn erase(&self, call: CallContext) -> Result<Erased, TeachError> {
        self.archive.erase(call).await
    }
}
