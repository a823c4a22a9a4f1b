//! A thread as a server sees it: tasks, history, branches, metadata.

use std::sync::atomic::Ordering;

use lyceum_graph::{Answers, END, HistoryQuery, Metadata, RunError, START, Source, Status};

use crate::world::{Log, LogGraph, LogUpdate, MODES, ask, bench, brittle, builder, siblings, work};

/// `first` → `ask` → `last`.
fn asking() -> LogGraph {
    builder()
        .node("first", work)
        .node("ask", ask)
        .node("last", work)
        .edge(START, "first")
        .edge("first", "ask")
        .edge("ask", "last")
        .edge("last", END)
        .compile()
        .unwrap()
}

fn request(id: u64) -> Metadata {
    Metadata::from_iter([("request".to_owned(), id.into())])
}

#[tokio::test]
async fn a_snapshot_tells_what_each_task_wrote_asked_and_why_it_failed() {
    let graph = builder()
        .node("asks", ask)
        .node("bad", brittle)
        .node("good", work)
        .edge(START, "asks")
        .edge(START, "bad")
        .edge(START, "good")
        .edge("asks", END)
        .edge("bad", END)
        .edge("good", END)
        .compile()
        .unwrap();
    for durability in MODES {
        let bench = bench(&graph);
        bench.world.broken.store(true, Ordering::Relaxed);
        let config = bench.config().durability(durability).metadata(request(7));
        let run = bench.thread.run(Log::default(), config);
        run.await.unwrap_err();
        let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
        let [asks, bad, good] = &snapshot.tasks[..] else {
            panic!("{snapshot:?}")
        };
        assert_eq!(asks.interrupts, snapshot.interrupts);
        assert_eq!(asks.interrupts[0].payload, "what?");
        assert_eq!(bad.error.as_deref(), Some("broken"), "{durability:?}");
        let wrote = serde_json::json!({"done": ["good"]});
        assert_eq!((&good.result, &good.error), (&Some(wrote), &None));
        assert_eq!(snapshot.checkpoint.metadata, request(7));
        assert_eq!(snapshot.next.len(), 3);
        bench.world.broken.store(false, Ordering::Relaxed);
        let config = bench.config().durability(durability);
        let answer = Answers::Only("x".into());
        let output = bench.thread.resume(answer, config).await.unwrap();
        assert_eq!(output.state.done, ["asks=x", "bad", "good"]);
        let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
        assert!(snapshot.tasks.is_empty());
    }
}

#[tokio::test]
async fn a_history_is_searched_by_metadata_source_and_place() {
    let bench = bench(&siblings());
    for id in 0..50 {
        let config = bench.config().metadata(request(id));
        bench.thread.run(LogUpdate::new(), config).await.unwrap();
    }
    let thread = bench.thread.clone().metadata(request(99));
    thread
        .update(LogUpdate::new().last("x"), None)
        .await
        .unwrap();
    let ids = async |query: &HistoryQuery| {
        let found = bench.thread.search(query).await.unwrap();
        found.iter().map(|head| head.id.0).collect::<Vec<_>>()
    };
    let all = HistoryQuery::new();
    assert_eq!(ids(&all).await, (1..=201).rev().collect::<Vec<_>>());
    assert_eq!(ids(&all.clone().metadata("request", 99)).await, [201]);
    let seventh = all.clone().metadata("request", 7);
    assert_eq!(ids(&seventh).await, [32, 31, 30, 29]);
    let inputs = all.source(Source::Input);
    assert_eq!(ids(&inputs.clone().limit(2)).await, [197, 193]);
    let before = inputs.before(lyceum_graph::CheckpointId(9));
    assert_eq!(ids(&before).await, [5, 1]);
    let snapshots = bench.thread.snapshots(&seventh).await.unwrap();
    assert_eq!(snapshots[3].state.done.len(), 7 * 4);
    assert_eq!(snapshots[3].next[0].as_str(), "start");
}

#[tokio::test]
async fn a_run_from_a_checkpoint_is_a_branch() {
    let bench = bench(&asking());
    let answer = |text: &str| Answers::Only(text.into());
    let run = bench.thread.run(Log::default(), bench.config());
    let asked = run.await.unwrap().interrupts;
    let first = bench.thread.resume(answer("one"), bench.config());
    assert_eq!(
        first.await.unwrap().state.done,
        ["first", "ask=one", "last"]
    );
    let heads = bench.thread.history(None, 10).await.unwrap();
    let asking = bench.thread.at(heads[2].id);
    let snapshot = asking.snapshot(None).await.unwrap().unwrap();
    assert_eq!(snapshot.next[0].as_str(), "ask");

    // The same question, answered anew, by its old name or as the only one.
    let by_id = Answers::ById([(asked[0].id.clone(), "three".into())].into());
    for (answers, done) in [(answer("two"), "ask=two"), (by_id, "ask=three")] {
        let output = asking.resume(answers, bench.config()).await.unwrap();
        assert_eq!(output.state.done, ["first", done, "last"]);
        assert_eq!(bench.world.runs().last().unwrap(), "last");
    }
    let output = asking.resume(Answers::None, bench.config()).await.unwrap();
    assert_eq!(output.status, Status::Interrupted, "it asks again");

    // An input, and an update, from there.
    let other = bench.thread.at(heads[1].id);
    let input = LogUpdate::new().done(["input".to_owned()]);
    let output = other.run(input.clone(), bench.config()).await.unwrap();
    assert_eq!(output.state.done, ["first", "ask=one", "input", "first"]);
    let updated = other.update(input, Some(&"ask".into())).await.unwrap();
    let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
    assert_eq!(snapshot.checkpoint.id, updated);
    assert_eq!(snapshot.checkpoint.parent, Some(heads[1].id));
    assert_eq!(snapshot.state.done, ["first", "ask=one", "input"]);
    assert_eq!(snapshot.next[0].as_str(), "last");
    let output = bench.thread.resume(Answers::None, bench.config()).await;
    assert_eq!(output.unwrap().state.done.len(), 4);
    let old = bench.thread.snapshot(Some(heads[0].id)).await.unwrap();
    assert_eq!(old.unwrap().state.done, ["first", "ask=one", "last"]);

    let nowhere = bench.thread.at(lyceum_graph::CheckpointId(99));
    let error = nowhere.run(LogUpdate::new(), bench.config()).await;
    assert!(matches!(error.unwrap_err(), RunError::NoCheckpoint));
    let error = nowhere.resume(Answers::None, bench.config()).await;
    assert!(matches!(error.unwrap_err(), RunError::NoCheckpoint));
}
