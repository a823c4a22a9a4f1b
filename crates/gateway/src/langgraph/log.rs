//! What a run has told so far, for readers who come late or come back.
//!
//! Invariant: event numbers rise from 0 and are never given twice; a reader that asks
//! for what was forgotten gets what is left. They rise by one, but where a run was taken over from
//! a process that may have told more than it stored. Deliberately absent: the disk.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The most that one run's log keeps, in bytes; the oldest events go first.
pub(crate) const MOST_BYTES: usize = 8 << 20;

/// The numbers that one process may give: who takes over begins behind them. Beyond what any
/// process tells, and few enough that a number of a script language holds thousands of them.
const ONE_PROCESS: u64 = 1 << 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.event.len() + self.data.len()
    }
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    next: u64,
    bytes: usize,
    over: bool,
}

impl Kept {
    /// Where the events from this number on begin.
    fn place(&self, from: u64) -> usize {
        self.entries.partition_point(|entry| entry.id < from)
    }
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

    /// A log whose first event has this number.
    pub(crate) fn beginning_at(first: u64, most_bytes: usize) -> Self {
        let log = Self::with_most(most_bytes);
        log.kept().next = first;
        log
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, event: String, data: &serde_json::Value) {
        self.push_with(event, |_| data);
    }

    /// Writes an event that knows its number.
    pub(crate) fn push_with<T: fmt::Display>(&self, event: String, data: impl FnOnce(u64) -> T) {
        let mut kept = self.kept();
        let id = kept.next;
        let data = data(id).to_string();
        self.keep(&mut kept, Entry { id, event, data });
        drop(kept);
        self.changed.send_replace(());
    }

    /// Takes in what was written elsewhere, with its numbers; what is known already is left out.
    pub(crate) fn take_in(&self, entries: Vec<Entry>) {
        let mut kept = self.kept();
        for entry in entries {
            if entry.id >= kept.next {
                self.keep(&mut kept, entry);
            }
        }
        drop(kept);
        self.changed.send_replace(());
    }

    fn keep(&self, kept: &mut Kept, entry: Entry) {
        kept.next = entry.id + 1;
        kept.bytes += entry.bytes();
        kept.entries.push_back(entry);
        while kept.bytes > self.most_bytes
            && let Some(old) = kept.entries.pop_front()
        {
            kept.bytes -= old.bytes();
        }
    }

    /// Goes on with numbers that the process before cannot have given.
    pub(crate) fn take_over(&self) {
        let mut kept = self.kept();
        kept.next = (kept.next / ONE_PROCESS + 1) * ONE_PROCESS;
    }

    pub(crate) fn end(&self) {
        self.kept().over = true;
        self.changed.send_replace(());
    }

    /// Whether nothing more is told here.
    pub(crate) fn is_over(&self) -> bool {
        self.kept().over
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.kept().next
    }

    /// Everything from this number on that there is now.
    pub(crate) fn since(&self, from: u64) -> Vec<Entry> {
        let kept = self.kept();
        kept.entries.range(kept.place(from)..).cloned().collect()
    }

    /// The first event from this number on; `None` when the run is over and there is none.
    ///
    /// Cancel safe: it takes nothing out.
    pub(crate) async fn at(&self, from: u64) -> Option<Entry> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let kept = self.kept();
                if let Some(entry) = kept.entries.get(kept.place(from)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(log: &Log, from: u64) -> Vec<u64> {
        log.since(from).iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn who_takes_over_tells_on_under_numbers_that_nobody_has_seen() {
        let (first, other) = (Log::new(), Log::new());
        for log in [&first, &other] {
            for n in 0..3 {
                log.push("values".to_owned(), &n.into());
            }
        }
        // Two of the three were stored when the process died.
        let next = Log::new();
        next.take_in(first.since(0)[..2].to_vec());
        next.take_over();
        next.push("values".to_owned(), &3.into());
        assert_eq!(ids(&next, 0), [0, 1, ONE_PROCESS]);
        assert_eq!(ids(&next, 3), [ONE_PROCESS], "it has seen the third");
        // A reader's copy takes in what it does not have.
        other.take_in(next.since(0));
        assert_eq!(ids(&other, 0), [0, 1, 2, ONE_PROCESS]);
    }

    #[test]
    fn the_oldest_make_room() {
        let log = Log::with_most(10);
        for _ in 0..5 {
            log.push("abc".to_owned(), &1.into());
        }
        assert_eq!(ids(&log, 0), [3, 4]);
    }
}
