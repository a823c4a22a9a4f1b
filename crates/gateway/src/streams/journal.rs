//! What a durable stream has told so far, for readers who come back.
//!
//! Invariant: events are numbered from 1 without a gap, and none is forgotten as long as the
//! journal lives. Deliberately absent: the disk.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lyceum_core::Scope;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::sse::Event;

/// What an event takes beside its data, about.
const EVENT_BYTES: usize = 128;

/// The events of one stream.
pub(crate) struct Journal {
    pub(crate) id: Uuid,
    scope: Scope,
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
    /// Ends the work.
    pub(crate) cancel: CancellationToken,
}

#[derive(Default)]
struct Kept {
    events: Vec<Event>,
    bytes: usize,
    ended: Option<Instant>,
    erased: bool,
    stored: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Journal {
    pub(super) fn new(scope: Scope) -> Self {
        Self {
            id: Uuid::new_v4(),
            scope,
            kept: Mutex::default(),
            changed: watch::Sender::new(()),
            cancel: CancellationToken::new(),
        }
    }

    /// Whether it is this user's of this tenant, and not erased.
    pub(super) fn is_of(&self, scope: &Scope) -> bool {
        let is_of = self.scope.tenant == scope.tenant && self.scope.user == scope.user;
        is_of && !self.is_erased()
    }

    /// Ends the work, of which nothing is to be kept.
    pub(super) fn erase(&self) {
        self.kept().erased = true;
        self.cancel.cancel();
    }

    pub(super) fn is_erased(&self) -> bool {
        self.kept().erased
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Keeps an event and gives the bytes kept by now.
    pub(super) fn push(&self, event: Event) -> usize {
        let mut kept = self.kept();
        kept.bytes += event.data.len() + EVENT_BYTES;
        kept.events.push(event);
        let bytes = kept.bytes;
        drop(kept);
        self.changed.send_replace(());
        bytes
    }

    pub(super) fn end(&self) {
        self.kept().ended = Some(Instant::now());
        self.changed.send_replace(());
    }

    /// Says that others find it in the records.
    pub(super) fn set_stored(&self) {
        let is_news = !std::mem::replace(&mut self.kept().stored, true);
        if is_news {
            self.changed.send_replace(());
        }
    }

    /// Waits until others find it in the records.
    pub(super) async fn stored(&self) {
        let mut changed = self.changed.subscribe();
        while !self.kept().stored {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    pub(super) fn last_id(&self) -> u64 {
        self.kept().events.len() as u64
    }

    pub(super) fn ended(&self) -> Option<Instant> {
        self.kept().ended
    }

    /// The event after this one; `None` when the stream is over and there is none.
    ///
    /// Cancel safe: it takes nothing out.
    pub(crate) async fn after(&self, id: u64) -> Option<Event> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let kept = self.kept();
                let index = usize::try_from(id).unwrap_or(usize::MAX);
                if let Some(event) = kept.events.get(index) {
                    return Some(event.clone());
                }
                if kept.ended.is_some() {
                    return None;
                }
            }
            changed.changed().await.ok()?;
        }
    }

    /// Everything after this event that there is now.
    pub(super) fn since(&self, id: u64) -> Vec<Event> {
        let kept = self.kept();
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        kept.events
            .get(index..)
            .map(<[Event]>::to_vec)
            .unwrap_or_default()
    }

    /// Waits for the end.
    pub(super) async fn finished(&self) {
        while self.after(u64::MAX).await.is_some() {}
    }

    /// Waits until there is more than this event, or the end.
    pub(super) async fn moved(&self, id: u64) {
        let _known = self.after(id).await;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
