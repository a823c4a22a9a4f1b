//! One writer a thread: claims, leases that end, commits that are fenced.

use std::time::Duration;

use futures_util::future::join_all;

use super::{TTL, acquire, checkpoint, commit, newest, record, thread};
use crate::{Batch, CheckpointId, Claim, Keep, Lease, Saver, SaverError};

fn assert_busy(result: Result<Lease, SaverError>) {
    match result {
        Err(SaverError::Busy { .. }) => {}
        other => panic!("a second writer must be told that the thread is busy, got {other:?}"),
    }
}

pub(super) fn assert_fenced<T: std::fmt::Debug>(result: Result<T, SaverError>) {
    match result {
        Err(SaverError::Fenced { .. }) => {}
        other => panic!("a writer without a lease must be fenced, got {other:?}"),
    }
}

pub(super) async fn one_writer_holds_a_thread(saver: &dyn Saver) {
    let id = thread("busy");
    let first = acquire(saver, &id).await;
    assert_busy(saver.acquire(&id, TTL, Claim::IfFree).await);
    let second = saver
        .acquire(&id, TTL, Claim::TakeOver)
        .await
        .expect("it is taken over");
    assert!(
        second.epoch > first.epoch,
        "every acquisition has a higher epoch"
    );
    saver
        .release(&first)
        .await
        .expect("an ended lease is left alone");
    assert_busy(saver.acquire(&id, TTL, Claim::IfFree).await);
    commit(saver, &second, &Batch::default()).await;
    saver.release(&second).await.expect("the saver releases");
    assert!(acquire(saver, &id).await.epoch > second.epoch);
}

pub(super) async fn a_fenced_commit_stores_nothing(saver: &dyn Saver) {
    let id = thread("fenced");
    let first = acquire(saver, &id).await;
    commit(saver, &first, &checkpoint(1, &[("a", b"1")], &[])).await;
    let second = saver
        .acquire(&id, TTL, Claim::TakeOver)
        .await
        .expect("it is taken over");
    let mut late = checkpoint(2, &[("a", b"late")], &[]);
    late.records = vec![record(1, 0, "result", b"late")];
    assert_fenced(saver.commit(&first, &late).await);
    assert_fenced(saver.prune(&first, Keep::Nothing).await);
    let saved = newest(saver, &id).await;
    assert_eq!(
        (saved.checkpoint.id, saved.records.len()),
        (CheckpointId(1), 0)
    );
    commit(saver, &second, &checkpoint(2, &[("a", b"2")], &[])).await;
    assert_eq!(newest(saver, &id).await.values[0].bytes, b"2");
}

pub(super) async fn an_ended_lease_cannot_write(saver: &dyn Saver) {
    let id = thread("ended");
    let first = saver.acquire(&id, Duration::ZERO, Claim::IfFree).await;
    let first = first.expect("it is free");
    commit(saver, &first, &checkpoint(1, &[], &[])).await;
    let second = saver.acquire(&id, Duration::ZERO, Claim::IfFree).await;
    let second = second.expect("a lease of no time keeps nobody out");
    assert!(
        second.epoch > first.epoch && second.last == Some(CheckpointId(1)),
        "whoever takes the thread continues it"
    );
    assert_fenced(saver.commit(&first, &checkpoint(2, &[], &[])).await);
    saver.release(&second).await.expect("the saver releases");
    assert_fenced(saver.commit(&second, &checkpoint(2, &[], &[])).await);
    assert_fenced(saver.prune(&second, Keep::Nothing).await);
    assert_eq!(newest(saver, &id).await.checkpoint.id, CheckpointId(1));
}

pub(super) async fn a_lease_that_ran_out_goes_on_if_nobody_took_it(saver: &dyn Saver) {
    let id = thread("ran-out");
    let late = saver.acquire(&id, Duration::ZERO, Claim::IfFree).await;
    let late = late.expect("it is free");
    commit(saver, &late, &checkpoint(1, &[], &[])).await;
    let long = Lease { ttl: TTL, ..late };
    commit(saver, &long, &checkpoint(2, &[], &[])).await;
    assert_busy(saver.acquire(&id, TTL, Claim::IfFree).await);
}

pub(super) async fn exactly_one_of_many_claims_wins(saver: &dyn Saver) {
    let id = thread("race");
    let claims = (0..8).map(|_| saver.acquire(&id, TTL, Claim::IfFree));
    let won = join_all(claims)
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(won, 1, "one claim wins");
}
