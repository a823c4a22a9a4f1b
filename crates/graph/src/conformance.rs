//! What every saver must do, as tests that a backend's crate runs against its own.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! lyceum_graph::conformance::check(&lyceum_graph::MemorySaver::new()).await;
//! # }
//! ```
//!
//! Invariant: every case uses threads of its own, so one store serves them all, and none
//! waits: a lease of no time has ended at once. Deliberately absent: crashes, which need a
//! process of their own.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "this is a test suite: a failed expectation is its result"
)]

mod history;
mod store;
mod sweep;
mod writers;

pub use store::check_store;
pub use sweep::check_threads;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Metadata, Record, Saved, Saver, Source,
    ThreadId, Value, ValueRef,
};

const TTL: Duration = Duration::from_secs(60);

/// Runs every case against an empty saver.
///
/// # Panics
///
/// When the saver breaks the contract of [`Saver`]; the message says how.
pub async fn check(saver: &dyn Saver) {
    an_unknown_thread_is_empty(saver).await;
    a_checkpoint_is_read_back_whole(saver).await;
    unchanged_values_are_found_where_they_were_written(saver).await;
    a_channel_is_read_back_in_all_its_pieces(saver).await;
    several_steps_in_one_batch_are_several_checkpoints(saver).await;
    a_record_replaces_the_one_of_its_key(saver).await;
    the_same_commit_twice_is_one(saver).await;
    writers::one_writer_holds_a_thread(saver).await;
    writers::a_fenced_commit_stores_nothing(saver).await;
    writers::an_ended_lease_cannot_write(saver).await;
    writers::a_lease_that_ran_out_goes_on_if_nobody_took_it(saver).await;
    writers::exactly_one_of_many_claims_wins(saver).await;
    namespaces_are_separate_and_share_the_ids(saver).await;
    history::history_is_paged_newest_first(saver).await;
    history::pruning_keeps_what_survivors_need(saver).await;
    history::pruning_keeps_the_pieces_that_survivors_need(saver).await;
    history::pruning_keeps_what_subgraphs_continue(saver).await;
    history::pruning_by_age_keeps_what_is_young_and_what_is_newest(saver).await;
    history::a_forgotten_thread_still_fences(saver).await;
    threads_are_separate(saver).await;
}

fn thread(name: &str) -> ThreadId {
    ThreadId::new(format!("conformance/{name}")).expect("a valid id")
}

async fn acquire(saver: &dyn Saver, thread: &ThreadId) -> Lease {
    saver
        .acquire(thread, TTL, Claim::IfFree)
        .await
        .expect("the thread is free")
}

async fn commit(saver: &dyn Saver, lease: &Lease, batch: &Batch) {
    saver.commit(lease, batch).await.expect("the lease is live");
}

async fn newest(saver: &dyn Saver, thread: &ThreadId) -> Saved {
    let saved = saver.load(thread, "", None).await.expect("the saver reads");
    saved.expect("the thread has a checkpoint")
}

/// A checkpoint that writes the given channels, and takes the others from older ones.
fn checkpoint(id: u64, written: &[(&str, &[u8])], older: &[(&str, u64)]) -> Batch {
    let key = |channel: &str, id| ValueRef {
        channel: channel.to_owned(),
        written_by: CheckpointId(id),
    };
    let values: Vec<_> = written
        .iter()
        .map(|(channel, bytes)| Value {
            key: key(channel, id),
            bytes: bytes.to_vec(),
        })
        .collect();
    let older = older.iter().map(|(channel, id)| key(channel, *id));
    let head = Checkpoint {
        id: CheckpointId(id),
        namespace: String::new(),
        parent: id.checked_sub(1).filter(|id| *id > 0).map(CheckpointId),
        step: id * 10,
        source: Source::Step,
        values: values
            .iter()
            .map(|value| value.key.clone())
            .chain(older)
            .collect(),
        plan: format!("{{\"n\":{id}}}"),
        created_at_ms: 1_700_000_000_000 + id,
        children: BTreeMap::from([("/inner".to_owned(), CheckpointId(id))]),
        metadata: Metadata::from_iter([("request".to_owned(), id.into())]),
    };
    Batch {
        checkpoints: vec![head],
        values,
        records: Vec::new(),
    }
}

fn record(checkpoint: u64, task: u32, key: &str, bytes: &[u8]) -> Record {
    let (key, bytes) = (key.to_owned(), bytes.to_vec());
    Record {
        checkpoint: CheckpointId(checkpoint),
        task,
        key,
        bytes,
    }
}

async fn an_unknown_thread_is_empty(saver: &dyn Saver) {
    let id = thread("unknown");
    assert_eq!(
        saver.load(&id, "", None).await.expect("the saver reads"),
        None
    );
    let history = saver
        .history(&id, "", None, 10)
        .await
        .expect("the saver reads");
    assert_eq!(history, []);
    assert_eq!(
        acquire(saver, &id).await.last,
        None,
        "an empty thread has no last checkpoint"
    );
    let missing = saver
        .load(&id, "", Some(CheckpointId(7)))
        .await
        .expect("the saver reads");
    assert_eq!(missing, None);
}

async fn a_checkpoint_is_read_back_whole(saver: &dyn Saver) {
    let id = thread("whole");
    let lease = acquire(saver, &id).await;
    let mut batch = checkpoint(1, &[("a", b"1"), ("b", &[0, 255, 10])], &[]);
    batch.records = vec![
        record(1, 0, "result", b""),
        record(1, 2, "effect:\u{8336}#1", b"x"),
    ];
    commit(saver, &lease, &batch).await;
    let saved = newest(saver, &id).await;
    assert_eq!([saved.checkpoint], *batch.checkpoints);
    assert_eq!(sorted(saved.values), sorted(batch.values));
    assert_eq!(saved.records, batch.records, "records come by task and key");
    saver.release(&lease).await.expect("the saver releases");
    assert_eq!(acquire(saver, &id).await.last, Some(CheckpointId(1)));
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by(|a, b| a.key.cmp(&b.key));
    values
}

async fn unchanged_values_are_found_where_they_were_written(saver: &dyn Saver) {
    let id = thread("unchanged");
    let lease = acquire(saver, &id).await;
    commit(
        saver,
        &lease,
        &checkpoint(1, &[("a", b"a1"), ("b", b"b1")], &[]),
    )
    .await;
    commit(saver, &lease, &checkpoint(2, &[("b", b"b2")], &[("a", 1)])).await;
    let read = |saved: Saved| -> Vec<Vec<u8>> {
        sorted(saved.values)
            .into_iter()
            .map(|value| value.bytes)
            .collect()
    };
    assert_eq!(read(newest(saver, &id).await), [b"a1", b"b2"]);
    let first = saver
        .load(&id, "", Some(CheckpointId(1)))
        .await
        .expect("the saver reads");
    assert_eq!(read(first.expect("the first is kept")), [b"a1", b"b1"]);
}

/// Commits four checkpoints: a whole value and two pieces, and then the whole value again.
async fn commit_pieces(saver: &dyn Saver, lease: &Lease) {
    commit(saver, lease, &checkpoint(1, &[("a", b"whole")], &[])).await;
    commit(saver, lease, &checkpoint(2, &[("a", b"+2")], &[("a", 1)])).await;
    let older = [("a", 1), ("a", 2)];
    commit(saver, lease, &checkpoint(3, &[("a", b"+3")], &older)).await;
    commit(saver, lease, &checkpoint(4, &[("a", b"again")], &[])).await;
}

async fn pieces(saver: &dyn Saver, thread: &ThreadId, id: u64) -> Vec<Vec<u8>> {
    let saved = saver.load(thread, "", Some(CheckpointId(id))).await;
    let saved = saved.expect("the saver reads").expect("it is kept");
    let values = sorted(saved.values);
    values.into_iter().map(|value| value.bytes).collect()
}

async fn a_channel_is_read_back_in_all_its_pieces(saver: &dyn Saver) {
    let id = thread("pieces");
    let lease = acquire(saver, &id).await;
    commit_pieces(saver, &lease).await;
    assert_eq!(pieces(saver, &id, 2).await, [&b"whole"[..], b"+2"]);
    assert_eq!(pieces(saver, &id, 3).await, [&b"whole"[..], b"+2", b"+3"]);
    assert_eq!(pieces(saver, &id, 4).await, [b"again"]);
    let history = saver.history(&id, "", None, 2).await;
    let heads = history.expect("the saver reads");
    assert_eq!(
        heads[1].values.len(),
        3,
        "a head names every piece of a channel"
    );
}

async fn several_steps_in_one_batch_are_several_checkpoints(saver: &dyn Saver) {
    let id = thread("several");
    let lease = acquire(saver, &id).await;
    commit(saver, &lease, &checkpoint(1, &[("a", b"a1")], &[])).await;
    let mut batch = Batch {
        records: vec![record(1, 0, "result", b"of a stored one")],
        ..Batch::default()
    };
    batch.append(checkpoint(2, &[("b", b"b2")], &[("a", 1)]));
    batch.records.push(record(2, 1, "result", b"first"));
    batch.append(checkpoint(3, &[("a", b"a3"), ("c", b"c3")], &[("b", 2)]));
    // Nothing but a plan.
    batch.append(checkpoint(4, &[], &[]));
    let mut inner = checkpoint(5, &[("a", b"a5")], &[]);
    for head in &mut inner.checkpoints {
        head.namespace = "/inner".to_owned();
    }
    batch.append(inner);
    batch.records.push(record(2, 1, "result", b"last"));
    let expected = batch.clone();
    commit(saver, &lease, &batch).await;
    // The reply was lost, and more has come since.
    batch.append(checkpoint(6, &[("d", b"d6")], &[("c", 3)]));
    commit(saver, &lease, &batch).await;

    let load = async |namespace: &str, n: u64| {
        let saved = saver.load(&id, namespace, Some(CheckpointId(n))).await;
        saved.expect("the saver reads").expect("it is kept")
    };
    for (n, head) in (2..).zip(&expected.checkpoints) {
        let saved = load(&head.namespace, n).await;
        assert_eq!(saved.checkpoint, *head);
    }
    let bytes = |saved: Saved| -> Vec<Vec<u8>> {
        let values = sorted(saved.values).into_iter();
        values.map(|value| value.bytes).collect()
    };
    assert_eq!(
        load("", 1).await.records,
        [record(1, 0, "result", b"of a stored one")]
    );
    let second = load("", 2).await;
    assert_eq!(
        second.records,
        [record(2, 1, "result", b"last")],
        "the last counts"
    );
    assert_eq!(bytes(second), [b"a1", b"b2"]);
    assert_eq!(bytes(load("", 3).await), [b"a3", b"b2", b"c3"]);
    assert_eq!(bytes(load("", 4).await), [[0; 0]; 0]);
    assert_eq!(bytes(load("/inner", 5).await), [b"a5"]);
    assert_eq!(bytes(newest(saver, &id).await), [b"c3", b"d6"]);
    let heads = saver.history(&id, "", None, 10).await;
    let heads: Vec<_> = heads
        .expect("the saver reads")
        .iter()
        .map(|h| h.id.0)
        .collect();
    assert_eq!(heads, [6, 4, 3, 2, 1]);
    saver.release(&lease).await.expect("the saver releases");
    let lease = acquire(saver, &id).await;
    assert_eq!(lease.last, Some(CheckpointId(6)));
}

async fn a_record_replaces_the_one_of_its_key(saver: &dyn Saver) {
    let id = thread("records");
    let lease = acquire(saver, &id).await;
    commit(saver, &lease, &checkpoint(1, &[], &[])).await;
    for records in [
        vec![record(1, 1, "a", b"old"), record(1, 0, "b", b"b")],
        vec![record(1, 1, "a", b"new"), record(1, 0, "a", b"a")],
    ] {
        commit(
            saver,
            &lease,
            &Batch {
                records,
                ..Batch::default()
            },
        )
        .await;
    }
    commit(saver, &lease, &checkpoint(2, &[], &[])).await;
    let first = saver
        .load(&id, "", Some(CheckpointId(1)))
        .await
        .expect("the saver reads");
    let expected = [
        record(1, 0, "a", b"a"),
        record(1, 0, "b", b"b"),
        record(1, 1, "a", b"new"),
    ];
    assert_eq!(first.expect("the first is kept").records, expected);
    assert_eq!(
        newest(saver, &id).await.records,
        [],
        "a checkpoint has its own records only"
    );
}

async fn the_same_commit_twice_is_one(saver: &dyn Saver) {
    let id = thread("twice");
    let lease = acquire(saver, &id).await;
    let mut batch = checkpoint(1, &[("a", b"1")], &[]);
    batch.records = vec![record(1, 0, "result", b"r")];
    commit(saver, &lease, &batch).await;
    commit(saver, &lease, &batch).await;
    let saved = newest(saver, &id).await;
    assert_eq!((saved.values.len(), saved.records.len()), (1, 1));
    let history = saver
        .history(&id, "", None, 10)
        .await
        .expect("the saver reads");
    assert_eq!(history.len(), 1);
}

async fn namespaces_are_separate_and_share_the_ids(saver: &dyn Saver) {
    let id = thread("namespaces");
    let lease = acquire(saver, &id).await;
    let mut inner = checkpoint(2, &[("a", b"inner")], &[]);
    for head in &mut inner.checkpoints {
        head.namespace = "/panel".to_owned();
    }
    commit(saver, &lease, &checkpoint(1, &[("a", b"outer")], &[])).await;
    commit(saver, &lease, &inner).await;
    assert_eq!(newest(saver, &id).await.values[0].bytes, b"outer");
    let saved = saver
        .load(&id, "/panel", None)
        .await
        .expect("the saver reads");
    assert_eq!(
        saved.expect("the subgraph has one").values[0].bytes,
        b"inner"
    );
    let wrong = saver
        .load(&id, "", Some(CheckpointId(2)))
        .await
        .expect("the saver reads");
    assert_eq!(wrong, None, "a checkpoint belongs to one namespace");
    saver.release(&lease).await.expect("the saver releases");
    assert_eq!(acquire(saver, &id).await.last, Some(CheckpointId(2)));
}

async fn threads_are_separate(saver: &dyn Saver) {
    let (one, two) = (thread("one/\u{8336}%"), thread("one/\u{8336}"));
    let (lease, other) = (acquire(saver, &one).await, acquire(saver, &two).await);
    commit(saver, &lease, &checkpoint(1, &[("a", b"one")], &[])).await;
    commit(saver, &other, &checkpoint(1, &[("a", b"two")], &[])).await;
    saver
        .prune(&other, Keep::Nothing)
        .await
        .expect("the lease is live");
    assert_eq!(newest(saver, &one).await.values[0].bytes, b"one");
}
