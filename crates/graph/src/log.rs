//! The last events of a run, for readers that come late, are slow, or come back.
//!
//! Invariant: every reader sees every event once and in order, or is told which ones it
//! missed. Deliberately absent: storage; a log lives as long as its process.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;

/// A bounded log that one run fills and any number of readers follow. Clones share it.
///
/// A stream has one reader, who slows the run down. A server whose clients may come late,
/// leave and come back fills a log with the stream instead: the run waits for nobody, and a
/// client that is further behind than the log is long learns that it missed something.
///
/// ```
/// # use lyceum_graph::{EventLog, LogItem};
/// # use futures_util::StreamExt as _;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let log = EventLog::new(100);
/// log.fill(futures_util::stream::iter(["one", "two", "three"])).await;
/// // A client that has seen the first event comes back.
/// let rest: Vec<_> = log.read(1).collect().await;
/// assert_eq!(rest, [LogItem::Event(2, "two"), LogItem::Event(3, "three")]);
/// # }
/// ```
pub struct EventLog<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    kept: Mutex<Kept<T>>,
    /// Changes whenever there is something new to read.
    news: watch::Sender<u64>,
}

struct Kept<T> {
    events: VecDeque<T>,
    /// The number of the newest event; the first is 1.
    newest: u64,
    capacity: usize,
    is_over: bool,
}

/// What a reader of a log finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem<T> {
    /// An event with its number.
    Event(u64, T),
    /// The events with these numbers are no longer kept.
    Missed {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
}

impl<T: Clone> EventLog<T> {
    /// An empty log that keeps at most so many events, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let kept = Kept {
            events: VecDeque::new(),
            newest: 0,
            capacity: capacity.max(1),
            is_over: false,
        };
        Self {
            inner: Arc::new(Inner {
                kept: Mutex::new(kept),
                news: watch::Sender::new(0),
            }),
        }
    }

    /// Appends an event, and gives its number. The oldest one makes room.
    pub fn push(&self, event: T) -> u64 {
        let newest = {
            let mut kept = self.kept();
            if kept.events.len() == kept.capacity {
                kept.events.pop_front();
            }
            kept.events.push_back(event);
            kept.newest += 1;
            kept.newest
        };
        self.inner.news.send_replace(newest);
        newest
    }

    /// Ends the log: readers end when they have seen what it keeps.
    pub fn end(&self) {
        self.kept().is_over = true;
        self.inner.news.send_modify(|_| {});
    }

    /// Appends all of a stream, e.g. of a `RunStream`, and ends the log.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the stream and ends the log.
    pub async fn fill(&self, events: impl Stream<Item = T>) {
        struct End<'a, T: Clone>(&'a EventLog<T>);
        impl<T: Clone> Drop for End<'_, T> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let log = End(self);
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            log.0.push(event);
        }
    }

    /// Follows the log after the event with this number; 0 is before the first. The stream
    /// ends when the log does.
    pub fn read(&self, after: u64) -> impl Stream<Item = LogItem<T>> + Send + Unpin + use<T>
    where
        T: Send + 'static,
    {
        let reader = (self.clone(), self.inner.news.subscribe(), after);
        let events = stream::unfold(reader, async |(log, mut news, after)| {
            loop {
                news.mark_unchanged();
                match log.after(after) {
                    Next::Item(item, seen) => return Some((item, (log, news, seen))),
                    Next::Over => return None,
                    // The sender lives as long as this reader's log.
                    Next::Wait => drop(news.changed().await),
                }
            }
        });
        Box::pin(events.fuse())
    }

    fn after(&self, after: u64) -> Next<T> {
        let kept = self.kept();
        if after >= kept.newest {
            return match kept.is_over {
                true => Next::Over,
                false => Next::Wait,
            };
        }
        let oldest = kept.newest - kept.events.len() as u64 + 1;
        if after + 1 < oldest {
            let (from, to) = (after + 1, oldest - 1);
            return Next::Item(LogItem::Missed { from, to }, to);
        }
        let place = usize::try_from(after + 1 - oldest).unwrap_or(usize::MAX);
        match kept.events.get(place) {
            Some(event) => Next::Item(LogItem::Event(after + 1, event.clone()), after + 1),
            None => Next::Wait,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        // A clone of an event may panic, which changes nothing here.
        let kept = self.inner.kept.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next<T> {
    Item(LogItem<T>, u64),
    Wait,
    Over,
}

impl<T> Clone for EventLog<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<T> fmt::Debug for EventLog<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest = *self.inner.news.borrow();
        f.debug_struct("EventLog")
            .field("newest", &newest)
            .finish_non_exhaustive()
    }
}
