//! What is listed, what pruning and forgetting leave.

use std::time::Duration;

use super::{
    TTL, acquire, checkpoint, commit, commit_pieces, newest, pieces, record, sorted, thread,
    writers::assert_fenced,
};
use crate::{Batch, CheckpointId, Claim, Keep, Saver};

pub(super) async fn history_is_paged_newest_first(saver: &dyn Saver) {
    let id = thread("history");
    let lease = acquire(saver, &id).await;
    for n in 1..=5 {
        commit(saver, &lease, &checkpoint(n, &[], &[])).await;
    }
    let page = async |before: Option<u64>, limit| -> Vec<u64> {
        let page = saver
            .history(&id, "", before.map(CheckpointId), limit)
            .await;
        page.expect("the saver reads")
            .into_iter()
            .map(|head| head.id.0)
            .collect()
    };
    assert_eq!(page(None, 2).await, [5, 4]);
    assert_eq!(page(Some(4), 2).await, [3, 2]);
    assert_eq!(page(Some(2), 9).await, [1]);
    assert_eq!(page(Some(1), 9).await, [0; 0]);
}

pub(super) async fn pruning_keeps_what_survivors_need(saver: &dyn Saver) {
    let id = thread("prune");
    let lease = acquire(saver, &id).await;
    commit(
        saver,
        &lease,
        &checkpoint(1, &[("a", b"a1"), ("b", b"b1")], &[]),
    )
    .await;
    let records = vec![record(1, 0, "result", b"r")];
    commit(
        saver,
        &lease,
        &Batch {
            records,
            ..Batch::default()
        },
    )
    .await;
    commit(saver, &lease, &checkpoint(2, &[("b", b"b2")], &[("a", 1)])).await;
    commit(saver, &lease, &checkpoint(3, &[("b", b"b3")], &[("a", 1)])).await;
    let removed = saver
        .prune(&lease, Keep::Last(2))
        .await
        .expect("the lease is live");
    assert_eq!(removed, 1);
    let gone = saver
        .load(&id, "", Some(CheckpointId(1)))
        .await
        .expect("the saver reads");
    assert_eq!(gone, None);
    let values = sorted(newest(saver, &id).await.values);
    assert_eq!(
        values[0].bytes, b"a1",
        "a value outlives the checkpoint that wrote it"
    );
    assert_eq!(values[1].bytes, b"b3");
}

pub(super) async fn a_forgotten_thread_still_fences(saver: &dyn Saver) {
    let id = thread("forget");
    let lease = acquire(saver, &id).await;
    commit(saver, &lease, &checkpoint(1, &[("a", b"1")], &[])).await;
    let second = saver
        .acquire(&id, TTL, Claim::TakeOver)
        .await
        .expect("it is taken over");
    assert_eq!(
        saver
            .prune(&second, Keep::Nothing)
            .await
            .expect("the lease is live"),
        1
    );
    assert_eq!(
        saver.load(&id, "", None).await.expect("the saver reads"),
        None
    );
    assert_fenced(saver.commit(&lease, &checkpoint(1, &[], &[])).await);
    saver.release(&second).await.expect("the saver releases");
    assert!(acquire(saver, &id).await.epoch > second.epoch);
}

pub(super) async fn pruning_keeps_the_pieces_that_survivors_need(saver: &dyn Saver) {
    let id = thread("prune-pieces");
    let lease = acquire(saver, &id).await;
    commit_pieces(saver, &lease).await;
    let removed = saver.prune(&lease, Keep::Last(2)).await;
    assert_eq!(removed.expect("the lease is live"), 2);
    assert_eq!(pieces(saver, &id, 3).await, [&b"whole"[..], b"+2", b"+3"]);
    let removed = saver.prune(&lease, Keep::Last(1)).await;
    assert_eq!(removed.expect("the lease is live"), 1);
    assert_eq!(pieces(saver, &id, 4).await, [b"again"]);
}

pub(super) async fn pruning_keeps_what_subgraphs_continue(saver: &dyn Saver) {
    let id = thread("prune-children");
    let lease = acquire(saver, &id).await;
    // A memory of its own, then the graph around it that continues its first state.
    for (n, namespace) in [(1, "/memory"), (2, ""), (3, "/memory"), (4, "/memory")] {
        let mut batch = checkpoint(n, &[("a", format!("{n}").as_bytes())], &[]);
        for head in &mut batch.checkpoints {
            head.namespace = namespace.to_owned();
            head.children.clear();
            if namespace.is_empty() {
                head.children.insert("/memory".to_owned(), CheckpointId(1));
            }
        }
        commit(saver, &lease, &batch).await;
    }
    let removed = saver.prune(&lease, Keep::Last(1)).await;
    assert_eq!(removed.expect("the lease is live"), 1, "the third alone");
    let first = saver.load(&id, "/memory", Some(CheckpointId(1))).await;
    let first = first.expect("the saver reads").expect("it is continued");
    assert_eq!(first.values[0].bytes, b"1");
}

pub(super) async fn pruning_by_age_keeps_what_is_young_and_what_is_newest(saver: &dyn Saver) {
    let id = thread("prune-age");
    let lease = acquire(saver, &id).await;
    let long = Duration::from_secs(100 * 365 * 24 * 3600);
    for n in 1..=3 {
        commit(saver, &lease, &checkpoint(n, &[], &[])).await;
    }
    let removed = saver.prune(&lease, Keep::Younger(long)).await;
    assert_eq!(removed.expect("the lease is live"), 0, "none is that old");
    // They were made in 2023.
    let day = Duration::from_secs(24 * 3600);
    let removed = saver.prune(&lease, Keep::Younger(day)).await;
    assert_eq!(removed.expect("the lease is live"), 2);
    assert_eq!(newest(saver, &id).await.checkpoint.id, CheckpointId(3));
}
