//! Streams that are erased while they are written.

use lyceum_core::MemoryRecords;

use super::*;

fn event(id: u64) -> Event {
    Event {
        id,
        name: None,
        data: "{}".into(),
    }
}

/// A stream of which something is stored, and more to come.
struct Begun {
    records: Arc<MemoryRecords>,
    stored: Stored,
    journal: Arc<Journal>,
    writing: tokio::task::JoinHandle<()>,
}

impl Begun {
    async fn new() -> Self {
        let records = Arc::new(MemoryRecords::new());
        let stored = Stored::new(records.clone(), Bell::default());
        let journal = Arc::new(Journal::new(Scope::local()));
        journal.push(event(1));
        let (following, told) = (stored.clone(), journal.clone());
        let writing = tokio::spawn(async move { following.follow(&told).await });
        let patience = Duration::from_secs(60);
        let there = tokio::time::timeout(patience, journal.stored());
        there.await.unwrap();
        Self {
            records,
            stored,
            journal,
            writing,
        }
    }

    /// Waits until no more is written; nothing may be left.
    async fn ends_without_a_trace(self) {
        let hour = Duration::from_secs(3_600);
        let ended = tokio::time::timeout(hour, self.writing).await;
        ended.unwrap().unwrap();
        assert!(self.journal.cancel.is_cancelled());
        for kind in [HEAD, PART, STOP] {
            let left = self.records.every(kind).await.unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_another_process_erased_does_not_come_back() {
    let begun = Begun::new().await;
    begun.stored.erase(&Scope::local()).await.unwrap();
    begun.journal.push(event(2));
    begun.ends_without_a_trace().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_erased_here_is_stored_no_more() {
    let begun = Begun::new().await;
    begun.journal.erase();
    begun.journal.push(event(2));
    begun.ends_without_a_trace().await;
}
