//! Waiting for news from processes that share the records: by their hints, and without them by
//! looking from time to time.
//!
//! Invariant: who listens before it looks misses nothing that is told after the look.
//! Deliberately absent: what the news is; that stands in the records.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::Hints;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

type Topics = Mutex<HashMap<String, Weak<watch::Sender<()>>>>;

/// Tells and hears news. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Bell(Option<Arc<Shared>>);

struct Shared {
    hints: Arc<dyn Hints>,
    topics: Arc<Topics>,
    _ear: AbortOnDropHandle<()>,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

impl Bell {
    /// Rings between processes. Needs a tokio runtime.
    pub(crate) fn new(hints: Arc<dyn Hints>) -> Self {
        let topics = Arc::new(Topics::default());
        let (heard, mut news) = (topics.clone(), hints.hear());
        let ear = tokio::spawn(async move {
            while let Some(topic) = news.next().await {
                let listener = lock(&heard).get(&topic).and_then(Weak::upgrade);
                if let Some(listener) = listener {
                    listener.send_replace(());
                }
            }
        });
        Self(Some(Arc::new(Shared {
            hints,
            topics,
            _ear: AbortOnDropHandle::new(ear),
        })))
    }

    /// Whether other processes may share the records.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    /// Tells everybody that there is news of something.
    pub(crate) async fn tell(&self, topic: &str) {
        if let Some(shared) = &self.0 {
            shared.hints.tell(topic).await;
        }
    }

    /// Listens from now on.
    pub(crate) fn listen(&self, topic: &str) -> Listening {
        let sender = match &self.0 {
            Some(shared) => sender(&shared.topics, topic),
            None => Arc::new(watch::Sender::new(())),
        };
        Listening {
            news: sender.subscribe(),
            _sender: sender,
        }
    }
}

fn lock(topics: &Topics) -> std::sync::MutexGuard<'_, HashMap<String, Weak<watch::Sender<()>>>> {
    topics.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sender(topics: &Topics, topic: &str) -> Arc<watch::Sender<()>> {
    let mut topics = lock(topics);
    if let Some(sender) = topics.get(topic).and_then(Weak::upgrade) {
        return sender;
    }
    if topics.len() == topics.capacity() {
        topics.retain(|_, sender| sender.strong_count() > 0);
    }
    let sender = Arc::new(watch::Sender::new(()));
    topics.insert(topic.to_owned(), Arc::downgrade(&sender));
    sender
}

/// Hears of one topic.
pub(crate) struct Listening {
    news: watch::Receiver<()>,
    _sender: Arc<watch::Sender<()>>,
}

impl Listening {
    /// Waits until there was news since the last call, at most this long.
    ///
    /// Cancel safe: news that was not told is told by the next call.
    pub(crate) async fn news(&mut self, at_most: Duration) {
        let _late = tokio::time::timeout(at_most, self.news.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use lyceum_core::MemoryHints;
    use tokio::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn news_is_heard_by_those_who_listened_and_by_no_others() {
        let hints = Arc::new(MemoryHints::new());
        let (one, other) = (Bell::new(hints.clone()), Bell::new(hints));
        let (mut of, mut not) = (other.listen("a"), other.listen("b"));
        let began = Instant::now();
        one.tell("a").await;
        of.news(LONG).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        not.news(LONG).await;
        assert_eq!(began.elapsed(), LONG);
        // Without others there is nothing to hear.
        let alone = Bell::default();
        alone.tell("a").await;
        alone.listen("a").news(LONG).await;
        assert_eq!(began.elapsed(), 2 * LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn topics_that_nobody_listens_to_are_forgotten() {
        let bell = Bell::new(Arc::new(MemoryHints::new()));
        for n in 0..10_000 {
            drop(bell.listen(&n.to_string()));
        }
        let topics = &bell.0.as_ref().unwrap().topics;
        assert!(lock(topics).len() < 100, "{}", lock(topics).len());
    }
}
