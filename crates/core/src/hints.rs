//! The port by which processes that share records tell each other to look.
//!
//! Invariant: a hint is never the only way to learn a thing. It may be lost, come late or come
//! twice, so who waits for one also looks from time to time by itself.
//! Deliberately absent: anything that must arrive; that is a record.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use futures_core::{Stream, stream::BoxStream};

/// How many hints wait for a listener that is slow; beyond it the oldest are lost.
const WAITING: usize = 1_024;

/// Tells every process that shares the records, the teller included.
#[async_trait]
pub trait Hints: Send + Sync + fmt::Debug {
    /// Tells everybody that there is news of something, named in at most 200 bytes without
    /// control characters. A hint that cannot be told is lost.
    ///
    /// Cancel safe: a dropped call has told it or not.
    async fn tell(&self, topic: &str);

    /// What is told from now on, in no promised order. Needs the runtime of the implementation.
    fn hear(&self) -> BoxStream<'static, String>;
}

/// The reference: hints within this process.
#[derive(Debug, Default)]
pub struct MemoryHints(Mutex<Vec<Weak<Mutex<Inbox>>>>);

#[derive(Debug, Default)]
struct Inbox {
    topics: VecDeque<String>,
    waker: Option<Waker>,
}

/// One listener.
struct Listener(Arc<Mutex<Inbox>>);

impl MemoryHints {
    /// Nobody listens yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Hints for MemoryHints {
    async fn tell(&self, topic: &str) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            let Some(inbox) = listener.upgrade() else {
                return false;
            };
            let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
            if inbox.topics.len() == WAITING {
                inbox.topics.pop_front();
            }
            inbox.topics.push_back(topic.to_owned());
            if let Some(waker) = inbox.waker.take() {
                waker.wake();
            }
            true
        });
    }

    fn hear(&self) -> BoxStream<'static, String> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::downgrade(&inbox));
        Box::pin(Listener(inbox))
    }
}

impl Stream for Listener {
    type Item = String;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match inbox.topics.pop_front() {
            Some(topic) => Poll::Ready(Some(topic)),
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, executor::block_on};

    use super::*;

    #[test]
    fn everybody_who_listens_hears_what_is_told_from_then_on() {
        let hints = MemoryHints::new();
        block_on(hints.tell("before"));
        let (mut one, mut other) = (hints.hear(), hints.hear());
        block_on(hints.tell("a"));
        drop(hints.hear());
        block_on(hints.tell("b"));
        for listener in [&mut one, &mut other] {
            let heard: Vec<_> = block_on(listener.take(2).collect());
            assert_eq!(heard, ["a", "b"]);
        }
    }

    #[test]
    fn a_slow_listener_loses_the_oldest() {
        let hints = MemoryHints::new();
        let mut slow = hints.hear();
        for n in 0..=WAITING {
            block_on(hints.tell(&n.to_string()));
        }
        assert_eq!(block_on(slow.next()).as_deref(), Some("1"));
    }
}
