//! Lists of threads, and what a sweep leaves of them.

use std::time::Duration;

use super::{acquire, checkpoint, commit};
use crate::{Keep, Swept, ThreadEntry, ThreadId, Threads, sweep};

/// Runs the cases of [`Threads`] against an empty saver.
///
/// # Panics
///
/// When the saver breaks the contract of [`Threads`]; the message says how.
pub async fn check_threads(saver: &dyn Threads) {
    let ids: Vec<_> = (0..5)
        .map(|n| ThreadId::new(format!("sweep/{n}")).expect("a valid id"))
        .collect();
    for id in &ids {
        let lease = acquire(saver, id).await;
        for n in 1..=3 {
            commit(saver, &lease, &checkpoint(n, &[("a", b"1")], &[])).await;
        }
        saver.release(&lease).await.expect("the saver releases");
    }
    // One that was claimed and never written is none.
    let empty = ThreadId::new("sweep/empty").expect("a valid id");
    let lease = acquire(saver, &empty).await;
    saver.release(&lease).await.expect("the saver releases");
    let list = async |idle: Duration, after: Option<&ThreadId>, limit| -> Vec<ThreadEntry> {
        let listed = saver.threads(idle, after, limit).await;
        listed.expect("the saver lists")
    };
    let names = |entries: Vec<ThreadEntry>| -> Vec<ThreadId> {
        entries.into_iter().map(|entry| entry.thread).collect()
    };
    let first = list(Duration::ZERO, None, 2).await;
    assert!(
        first
            .iter()
            .all(|entry| entry.last.is_some_and(|id| id.0 == 3)),
        "an entry names the last checkpoint"
    );
    assert_eq!(names(first), ids[..2]);
    assert_eq!(
        names(list(Duration::ZERO, Some(&ids[1]), 9).await),
        ids[2..]
    );
    let hour = Duration::from_secs(3600);
    assert_eq!(list(hour, None, 9).await, [], "none is idle for so long");

    // Whoever is written is left alone.
    let held = acquire(saver, &ids[4]).await;
    assert_eq!(names(list(Duration::ZERO, None, 9).await), ids[..4]);
    let swept = sweep(saver, Duration::ZERO, Keep::Last(1)).await;
    let pruned = Swept {
        threads: 4,
        checkpoints: 8,
    };
    assert_eq!(swept.expect("the saver prunes"), pruned);
    let swept = sweep(saver, hour, Keep::Nothing).await;
    assert_eq!(swept.expect("the saver prunes"), Swept::default());
    saver.release(&held).await.expect("the saver releases");
    let swept = sweep(saver, Duration::ZERO, Keep::Nothing).await;
    let forgotten = Swept {
        threads: 5,
        checkpoints: 7,
    };
    assert_eq!(swept.expect("the saver prunes"), forgotten);
    assert_eq!(list(Duration::ZERO, None, 9).await, [], "all are forgotten");
}
