//! What is kept of a user, as the user sees and governs it.
//!
//! Invariant: a conversation goes together with what the student knows of it. Deliberately
//! absent: the stores' rules, which are the memory's.

use std::{
    future::poll_fn,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use async_stream::try_stream;
use async_trait::async_trait;
use lyceum_core::{
    Archive, CallContext, Erased, Export, MemoryEntry, Moment, Notebook, Page, Remembered, Scope,
    SessionEntry, SessionId, TeachError, Transcript, Utterance, Validity,
};
use lyceum_memory::{
    AsOf, MemoryCursor, MemoryError, MemoryId, MemoryRecord, NewMemory, Recollection, Recorded,
    Session, SessionCursor, StoreError, Timestamp,
    transfer::{self, TransferError},
};

use super::{Feynman, storage};

/// How many are erased before the next are looked for.
const BATCH: usize = 100;

fn stored(error: StoreError) -> TeachError {
    storage(MemoryError::from(error))
}

fn moved(error: TransferError) -> TeachError {
    match error {
        TransferError::Store(error) => stored(error),
        other => TeachError::Storage {
            retryable: false,
            source: other.into(),
        },
    }
}

/// A cursor as text: its time and its id.
fn mark(at: Timestamp, id: &str) -> String {
    format!("{}.{id}", at.0)
}

fn place(text: &str) -> Option<(Timestamp, &str)> {
    let (at, id) = text.split_once('.')?;
    Some((Timestamp(at.parse().ok()?), id))
}

fn entry(session: &Session) -> SessionEntry {
    SessionEntry {
        session: session.id.clone(),
        topic: session.topic.clone(),
        messages: session.messages,
        completed: session.completed,
        created_at_ms: session.created_at.0,
        updated_at_ms: session.updated_at.0,
    }
}

/// When it is over, as far as is known now: at its end, or where its successor begins.
fn ends(memory: &MemoryRecord) -> Option<i64> {
    let replaced = memory.superseded.as_ref().map(|past| past.from.0);
    let said = memory.valid_to.map(|end| end.0);
    said.into_iter().chain(replaced).min()
}

fn point(then: Moment) -> AsOf {
    AsOf {
        valid: Timestamp(then.valid_ms),
        known: Timestamp(then.known_ms),
    }
}

fn remembered(memory: MemoryRecord) -> MemoryEntry {
    let validity = Validity {
        from_ms: memory.valid_from.0,
        to_ms: ends(&memory),
        recorded_at_ms: memory.recorded_at.0,
        superseded_by: memory.superseded.as_ref().map(|past| past.by.to_string()),
        superseded_at_ms: memory.superseded.as_ref().map(|past| past.at.0),
    };
    MemoryEntry {
        id: memory.id.to_string(),
        kind: Some(memory.kind.as_str()),
        topic: memory.topic,
        text: memory.text,
        importance: Some(memory.importance),
        score: None,
        created_at_ms: memory.created_at.0,
        validity: Some(validity),
    }
}

fn recalled(found: Recollection) -> MemoryEntry {
    MemoryEntry {
        id: found.id.to_string(),
        kind: None,
        topic: found.topic,
        text: found.text,
        importance: None,
        score: Some(found.score),
        created_at_ms: found.created_at.0,
        validity: None,
    }
}

#[async_trait]
impl Archive for Feynman {
    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<SessionEntry>>, TeachError> {
        let cursor = |text| {
            let (created_at, id) = place(text)?;
            let id = SessionId::new(id).ok()?;
            Some(SessionCursor { created_at, id })
        };
        let after = match after.map(cursor) {
            Some(None) => return Ok(None),
            after => after.flatten(),
        };
        let sessions = self.0.memory.sessions();
        let page = sessions.sessions(scope, after.as_ref(), limit).await;
        let page = page.map_err(stored)?;
        let last = page.last().filter(|_| page.len() == limit);
        Ok(Some(Page {
            next: last.map(|last| mark(last.created_at, last.id.as_str())),
            items: page.iter().map(entry).collect(),
        }))
    }

    async fn transcript(
        &self,
        scope: &Scope,
        session: &SessionId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<Transcript>, TeachError> {
        let scope = scope.clone().with_session(session.clone());
        let sessions = self.0.memory.sessions();
        let (known, messages) = tokio::try_join!(
            sessions.session(&scope),
            sessions.messages(&scope, before, limit),
        )
        .map_err(stored)?;
        Ok(known.map(|known| Transcript {
            entry: entry(&known),
            summary: known.summary.map(|summary| summary.text),
            messages: messages
                .into_iter()
                .map(|message| Utterance {
                    seq: message.seq,
                    role: message.role,
                    content: message.content,
                    at_ms: message.created_at.0,
                })
                .collect(),
        }))
    }

    async fn complete(&self, scope: &Scope, session: &SessionId) -> Result<bool, TeachError> {
        let scope = scope.clone().with_session(session.clone());
        let completed = self.0.memory.sessions().complete(&scope).await;
        completed.map_err(stored)
    }

    async fn delete(&self, call: CallContext, session: &SessionId) -> Result<bool, TeachError> {
        let scope = call.scope.with_session(session.clone());
        self.forget(&scope).await
    }

    fn export(&self, scope: Scope) -> Export {
        let memory = self.0.memory.clone();
        Box::pin(try_stream! {
            let written = Written::default();
            let mut out = written.clone();
            let exporting = transfer::export(
                memory.sessions().as_ref(),
                memory.memories().as_ref(),
                &scope,
                &mut out,
            );
            tokio::pin!(exporting);
            loop {
                // As far as it goes before it waits for the store, then what it wrote leaves.
                let done = poll_fn(|context| match exporting.as_mut().poll(context) {
                    Poll::Ready(done) => Poll::Ready(Some(done)),
                    Poll::Pending if written.is_empty() => Poll::Pending,
                    Poll::Pending => Poll::Ready(None),
                })
                .await;
                let piece = written.take();
                if !piece.is_empty() {
                    yield piece;
                }
                if let Some(done) = done {
                    done.map_err(moved)?;
                    break;
                }
            }
        })
    }

    async fn erase(&self, call: CallContext) -> Result<Erased, TeachError> {
        let scope = call.scope;
        let mut erased = Erased::default();
        loop {
            let sessions = self.0.memory.sessions();
            let page = sessions.sessions(&scope, None, BATCH).await;
            let page = page.map_err(stored)?;
            if page.is_empty() {
                break;
            }
            for session in page {
                let scope = scope.clone().with_session(session.id);
                erased.sessions += usize::from(self.forget(&scope).await?);
            }
        }
        loop {
            let memories = self.0.memory.memories();
            let page = memories.list(&scope, None, BATCH).await.map_err(stored)?;
            if page.is_empty() {
                return Ok(erased);
            }
            for memory in page {
                let gone = memories.delete(&scope, &memory.id).await;
                erased.memories += usize::from(gone.map_err(stored)?);
            }
        }
    }
}

#[async_trait]
impl Notebook for Feynman {
    async fn memories(
        &self,
        scope: &Scope,
        then: Option<Moment>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<MemoryEntry>>, TeachError> {
        let cursor = |text| {
            let (created_at, id) = place(text)?;
            let id = MemoryId::new(id).ok()?;
            Some(MemoryCursor { created_at, id })
        };
        let after = match after.map(cursor) {
            Some(None) => return Ok(None),
            after => after.flatten(),
        };
        let memories = self.0.memory.memories();
        let page = match then.map(point) {
            Some(then) => {
                memories
                    .list_as_of(scope, then, after.as_ref(), limit)
                    .await
            }
            None => memories.list(scope, after.as_ref(), limit).await,
        };
        let page = page.map_err(stored)?;
        let last = page.last().filter(|_| page.len() == limit);
        Ok(Some(Page {
            next: last.map(|last| mark(last.created_at, last.id.as_str())),
            items: page.into_iter().map(remembered).collect(),
        }))
    }

    async fn search(
        &self,
        scope: &Scope,
        then: Option<Moment>,
        query: &str,
        limit: usize,
    ) -> Result<Remembered, TeachError> {
        let Some(then) = then.map(point) else {
            let found = self.0.memory.find(scope, query, limit).await;
            let found = found.map_err(stored)?;
            return Ok(Remembered {
                memories: found.memories.into_iter().map(recalled).collect(),
                degraded: found.degraded,
            });
        };
        let memories = self.0.memory.memories();
        let found = memories.search_as_of(scope, then, query, limit).await;
        Ok(Remembered {
            memories: found.map_err(stored)?.into_iter().map(recalled).collect(),
            degraded: Vec::new(),
        })
    }

    async fn edit(
        &self,
        scope: &Scope,
        id: &str,
        text: String,
    ) -> Result<Option<MemoryEntry>, TeachError> {
        let Ok(id) = MemoryId::new(id) else {
            return Ok(None);
        };
        let memories = self.0.memory.memories();
        let Some(old) = memories.get(scope, &id).await.map_err(stored)? else {
            return Ok(None);
        };
        let scope = match &old.session {
            Some(session) => scope.clone().with_session(session.clone()),
            None => scope.clone(),
        };
        let new = NewMemory {
            context: old.context,
            importance: old.importance,
            created_at: Some(old.created_at),
            valid_from: Some(old.valid_from),
            valid_to: old.valid_to,
            // What is corrected was known as long as what was wrong.
            recorded: Some(Recorded {
                at: old.recorded_at,
                superseded: old.superseded,
            }),
            ..NewMemory::new(old.kind, old.topic, text)
        };
        let new = self.0.memory.remember(&scope, new).await.map_err(storage)?;
        if !memories.delete(&scope, &id).await.map_err(stored)? {
            // Somebody deleted or changed it meanwhile: what they wanted stands.
            memories.delete(&scope, &new).await.map_err(stored)?;
            return Ok(None);
        }
        let new = memories.get(&scope, &new).await.map_err(stored)?;
        Ok(new.map(remembered))
    }

    async fn forget(&self, scope: &Scope, id: &str) -> Result<bool, TeachError> {
        let Ok(id) = MemoryId::new(id) else {
            return Ok(false);
        };
        let gone = self.0.memory.memories().delete(scope, &id).await;
        gone.map_err(stored)
    }
}

/// What an export wrote and nobody took yet.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
