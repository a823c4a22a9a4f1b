//! Encrypted threads: what is stored cannot be read, changed or moved.

use std::{sync::Arc, time::Duration};

use lyceum_graph::{
    Answers, Batch, Claim, Encrypted, KeyRing, MemorySaver, OpenError, RunConfig, RunError, Saved,
    Saver, SaverError, Status, ThreadId,
};

use crate::world::{LogUpdate, World, ask, builder, work};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn graph() -> crate::world::LogGraph {
    builder()
        .node("ask", ask)
        .node("work", work)
        .edge(lyceum_graph::START, "ask")
        .edge(lyceum_graph::START, "work")
        .edge("ask", lyceum_graph::END)
        .edge("work", lyceum_graph::END)
        .compile()
        .unwrap()
}

fn id(text: &str) -> ThreadId {
    ThreadId::new(text).unwrap()
}

/// Runs a thread up to its question, with the old key.
async fn asked(saver: &Arc<MemorySaver>, thread: &str) -> Saved {
    let encrypted = Encrypted::new(saver.clone(), KeyRing::new(1, &OLD));
    let thread = graph().thread(Arc::new(encrypted), id(thread));
    let input = LogUpdate::new().last("a secret");
    let output = thread.run(input, config()).await.unwrap();
    assert_eq!(output.status, Status::Interrupted);
    saver.load(thread.id(), "", None).await.unwrap().unwrap()
}

fn config() -> RunConfig<World> {
    RunConfig::new(World::default())
}

#[tokio::test]
async fn the_encrypted_saver_conforms() {
    let saver = Encrypted::new(MemorySaver::new(), KeyRing::new(1, &OLD));
    lyceum_graph::conformance::check(&saver).await;
}

#[tokio::test]
async fn nothing_is_in_the_clear_and_old_keys_still_read() {
    let saver = Arc::new(MemorySaver::new());
    let stored = asked(&saver, "t").await;
    assert_eq!(stored.records.len(), 2, "a result and a question");
    let text = format!("{}{}", stored.checkpoint.plan, {
        let values = stored.values.iter().map(|value| &value.bytes);
        let records = stored.records.iter().map(|record| &record.bytes);
        let bytes: Vec<u8> = values.chain(records).flatten().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    for word in ["secret", "what?", "work", "tasks"] {
        assert!(!text.contains(word), "{word} is in the clear");
    }

    let keys = KeyRing::new(2, &NEW).and_old(1, &OLD);
    let encrypted = Arc::new(Encrypted::new(saver.clone(), keys));
    let thread = graph().thread(encrypted, id("t"));
    let answer = Answers::Only("yes".into());
    let output = thread.resume(answer, config()).await.unwrap();
    assert_eq!(output.state.done, ["ask=yes", "work"]);
    assert_eq!(output.state.last, "a secret");
    let newest = saver.load(thread.id(), "", None).await.unwrap().unwrap();
    let written = newest.values.iter().map(|value| value.bytes[1]);
    assert_eq!(written.collect::<Vec<_>>(), [2, 1], "the newest key writes");

    let stranger = Encrypted::new(saver, KeyRing::new(2, &NEW));
    let thread = graph().thread(Arc::new(stranger), id("t"));
    let error = thread.snapshot(None).await.unwrap_err();
    assert_eq!(cause(error), OpenError::UnknownKey { id: 1 });
}

/// Why a run found its thread corrupt.
fn cause(error: RunError) -> OpenError {
    let corrupt = match error {
        RunError::Saver(SaverError::Corrupt { source, .. }) => Some(source),
        _ => None,
    };
    let corrupt = corrupt.unwrap();
    corrupt.downcast_ref::<OpenError>().unwrap().clone()
}

/// What a reader says of a thread whose stored bytes somebody changed.
async fn tampered(change: impl FnOnce(&mut Saved, &Saved)) -> OpenError {
    let saver = Arc::new(MemorySaver::new());
    let mut stored = asked(&saver, "t").await;
    let other = asked(&saver, "other").await;
    change(&mut stored, &other);
    let thread = id("t");
    let lease = saver
        .acquire(&thread, Duration::from_secs(9), Claim::IfFree)
        .await
        .unwrap();
    let batch = Batch {
        checkpoints: vec![stored.checkpoint],
        values: stored.values,
        records: stored.records,
    };
    saver.commit(&lease, &batch).await.unwrap();
    let encrypted = Encrypted::new(saver, KeyRing::new(1, &OLD));
    let thread = graph().thread(Arc::new(encrypted), thread);
    cause(thread.snapshot(None).await.unwrap_err())
}

#[tokio::test]
async fn what_was_changed_or_moved_is_refused() {
    let mut refused = Vec::new();
    refused.push(tampered(|saved, _| saved.values[0].bytes[40] ^= 1).await);
    refused.push(tampered(|saved, other| saved.values = other.values.clone()).await);
    refused
        .push(tampered(|saved, _| saved.records[0].bytes = saved.records[1].bytes.clone()).await);
    refused.push(tampered(|saved, other| saved.records = other.records.clone()).await);
    refused.push(
        tampered(|saved, other| saved.checkpoint.plan.clone_from(&other.checkpoint.plan)).await,
    );
    refused.push(tampered(|saved, _| saved.checkpoint.step += 1).await);
    refused.push(tampered(|saved, _| saved.checkpoint.values.truncate(0)).await);
    let mark = |saved: &mut Saved| {
        let metadata = &mut saved.checkpoint.metadata;
        metadata.insert("user".to_owned(), "mallory".into());
    };
    refused.push(tampered(|saved, _| mark(saved)).await);
    assert_eq!(refused, vec![OpenError::Refused; 8]);
    let plain = tampered(|saved, _| saved.values[0].bytes = b"\"plain\"".to_vec()).await;
    assert_eq!(plain, OpenError::Form);
}
