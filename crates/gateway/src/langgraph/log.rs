//! What a run has told so far, for readers who come late or come back.
//!
//! Invariant: event numbers rise by one from 0 and are never given twice; a reader that asks
//! for what was forgotten gets what is left. Deliberately absent: the disk; after a restart
//! a reader gets the run's result.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

/// The most that one run's log keeps, in bytes; the oldest events go first.
const MOST_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) event: String,
    pub(crate) data: String,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    next: u64,
    bytes: usize,
    over: bool,
}

/// The events of one run, or of one thread.
#[derive(Debug)]
pub(crate) struct Log {
    most_bytes: usize,
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self::with_most(MOST_BYTES)
    }

    /// A log that keeps at most so many bytes.
    pub(crate) fn with_most(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            kept: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub(crate) fn push(&self, event: String, data: &serde_json::Value) {
        self.push_with(event, |_| data);
    }

    /// Writes an event that knows its number.
    pub(crate) fn push_with<T: fmt::Display>(&self, event: String, data: impl FnOnce(u64) -> T) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let id = kept.next;
        let data = data(id).to_string();
        kept.next += 1;
        kept.bytes += event.len() + data.len();
        kept.entries.push_back(Entry { id, event, data });
        while kept.bytes > self.most_bytes
            && let Some(old) = kept.entries.pop_front()
        {
            kept.bytes -= old.event.len() + old.data.len();
        }
        drop(kept);
        self.changed.send_replace(());
    }

    pub(crate) fn end(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.over = true;
        drop(kept);
        self.changed.send_replace(());
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next
    }

    /// The first event from this number on; `None` when the run is over and there is none.
    ///
    /// Cancel safe: it takes nothing out.
    pub(crate) async fn at(&self, from: u64) -> Option<Entry> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                let first = kept.entries.front().map_or(kept.next, |entry| entry.id);
                let index = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
                if let Some(entry) = kept.entries.get(index) {
                    return Some(entry.clone());
                }
                if kept.over {
                    return None;
                }
            }
            changed.changed().await.ok()?;
        }
    }

    /// Waits for the end of the run.
    pub(crate) async fn ended(&self) {
        while self.at(u64::MAX).await.is_some() {}
    }
}
