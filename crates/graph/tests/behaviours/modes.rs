//! Stream modes: what each one carries, alone and together.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::StreamExt as _;
use lyceum_graph::{
    Answers, Durability, END, EventKind, Metadata, Mode, NodeError, RetryPolicy, RunStream, START,
    TaskId, TaskResult,
};

use crate::world::{Bench, Ctx, Log, LogGraph, LogUpdate, ask, bench, brittle, builder, work};

/// `speak` → `ask`: a message in two pieces, a custom event, a retry, a question.
fn talk() -> LogGraph {
    async fn speak(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let mut message = ctx.message("answer");
        message.send(1).await;
        if ctx.attempt() == 1 {
            return Err(NodeError::transient("overloaded"));
        }
        message.send(2).await;
        ctx.emit(3).await;
        work(log, ctx).await
    }
    builder()
        .node("speak", speak)
        .retry("speak", RetryPolicy::default())
        .node("ask", ask)
        .edge(START, "speak")
        .edge("speak", "ask")
        .edge("ask", END)
        .compile()
        .unwrap()
}

fn told(bench: &Bench, modes: &[Mode]) -> RunStream<Log, u8> {
    let config = bench.config().modes(modes.iter().copied());
    bench.thread.stream(Log::default(), config)
}

async fn lines(stream: RunStream<Log, u8>) -> Vec<String> {
    let lines = stream.map(|event| format!("{:?}", event.unwrap()));
    lines.collect().await
}

#[tokio::test(start_paused = true)]
async fn each_mode_carries_its_own_events_and_debug_carries_all() {
    let all = [
        "step 0 state",
        "step 0 checkpoint 1",
        "step 1 planned speak",
        "step 1 started speak",
        "step 1 message speak 0",
        "step 1 retried speak after 1",
        "step 1 message speak 0",
        "step 1 message speak 1",
        "step 1 custom speak",
        "step 1 updated speak",
        "step 1 ended speak wrote",
        "step 1 state",
        "step 1 checkpoint 2",
        "step 2 planned ask",
        "step 2 started ask",
        "step 2 asked ask x1",
        "step 2 ended ask asked",
        "step 1 finished Interrupted",
    ];
    let words: [(&[Mode], &[&str]); 9] = [
        (&[Mode::Values], &["state"]),
        (&[Mode::Updates], &["updated", "asked"]),
        (&[Mode::Messages], &["message"]),
        (&[Mode::Custom], &["custom"]),
        (&[Mode::Tasks], &["started", "ended"]),
        (&[Mode::Checkpoints], &["checkpoint"]),
        (&[Mode::Values, Mode::Custom], &["state", "custom"]),
        (&[Mode::Debug], &[""]),
        (&[], &[]),
    ];
    for (modes, words) in words {
        let expected = all.iter().filter(|line| {
            let word = line.split(' ').nth(2).unwrap();
            word == "finished" || words.iter().any(|kind| word.starts_with(kind))
        });
        let expected: Vec<_> = expected
            .enumerate()
            .map(|(index, line)| format!("#{} {line}", index + 1))
            .collect();
        let bench = bench(&talk());
        assert_eq!(lines(told(&bench, modes)).await, expected, "{modes:?}");
    }
}

#[tokio::test]
async fn what_an_event_is_called_for_is_what_it_says() {
    let bench = bench(&talk());
    let mut stream = told(&bench, &[Mode::Debug]);
    let mut modes = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        assert!(event.at_ms > 1_700_000_000_000);
        modes.extend(event.kind.mode());
    }
    for mode in [
        Mode::Values,
        Mode::Updates,
        Mode::Messages,
        Mode::Custom,
        Mode::Tasks,
        Mode::Checkpoints,
        Mode::Debug,
    ] {
        assert!(modes.contains(&mode), "{mode:?}");
    }
}

/// The ids of the tasks that started, and what they were given.
async fn started(mut stream: RunStream<Log, u8>) -> Vec<(TaskId, String)> {
    let mut started = Vec::new();
    while let Some(event) = stream.next().await {
        if let Ok(EventKind::Started { task, input, .. }) = event.map(|event| event.kind) {
            started.push((task, input.digest().to_string()));
        }
    }
    started
}

#[tokio::test]
async fn a_task_keeps_its_id_when_it_is_started_again_and_no_other_has_it() {
    let graph = builder()
        .node("a", work)
        .node("bad", brittle)
        .edge(START, "a")
        .edge("a", "bad")
        .edge("bad", END)
        .compile()
        .unwrap();
    let first = bench(&graph);
    first.world.broken.store(true, Ordering::Relaxed);
    let before = started(told(&first, &[Mode::Tasks])).await;
    first.world.broken.store(false, Ordering::Relaxed);
    let after = first.thread.resume_stream(Answers::None, first.config());
    let after = started(after).await;
    assert_eq!(after, before[1..], "the same task, given the same");
    assert_ne!(before[0].0, before[1].0);
    assert_ne!(before[0].1, before[1].1, "the input differs");
    let again = started(told(&first, &[Mode::Tasks])).await;
    assert_ne!(again[0].0, before[0].0, "another run");
    assert_eq!(started(told(&bench(&graph), &[Mode::Tasks])).await, before);
}

#[tokio::test]
async fn a_task_says_how_it_ended_and_a_checkpoint_what_it_holds() {
    let graph = builder()
        .node("a", work)
        .node("bad", brittle)
        .edge(START, "a")
        .edge("a", "bad")
        .edge("bad", END)
        .compile()
        .unwrap();
    for durability in [Durability::Sync, Durability::Async] {
        let bench = bench(&graph);
        bench.world.broken.store(true, Ordering::Relaxed);
        let request = Metadata::from_iter([("request".to_owned(), 7.into())]);
        let config = bench.config().durability(durability).metadata(request);
        let modes = [Mode::Tasks, Mode::Checkpoints];
        let mut stream = bench.thread.stream(Log::default(), config.modes(modes));
        let mut ends = Vec::new();
        let mut stored = Vec::new();
        while let Some(event) = stream.next().await {
            match event.map(|event| event.kind) {
                Ok(EventKind::Ended { node, result, .. }) => ends.push(match result {
                    TaskResult::Wrote(update) => format!("{node} {}", update.unwrap().to_json()),
                    TaskResult::Failed { error } => format!("{node} {error}"),
                    other => panic!("{other:?}"),
                }),
                Ok(EventKind::Checkpointed(it)) => stored.push(it),
                Ok(_) | Err(_) => {}
            }
        }
        assert_eq!(ends, [r#"a {"done":["a"]}"#, "bad broken"]);
        let last = stored.last().unwrap();
        assert_eq!(last.state.to_json()["done"], serde_json::json!(["a"]));
        assert_eq!(last.next[0].node.as_str(), "bad");
        assert_eq!(last.checkpoint.metadata["request"], 7);
        let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
        assert_eq!(snapshot.checkpoint, last.checkpoint);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_late_and_slowly_misses_nothing() {
    async fn count(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        for n in 0..200 {
            ctx.emit(n).await;
        }
        work(log, ctx).await
    }
    let graph = builder().node("n", count).edge(START, "n").edge("n", END);
    let bench = bench(&graph.compile().unwrap());
    let config = bench.config().modes([Mode::Custom]).event_buffer(2);
    let mut stream = bench.thread.stream(Log::default(), config);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut seen = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        assert_eq!(event.seq, seen.len() as u64 + 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        match event.kind {
            EventKind::Custom { value, .. } => seen.push(value),
            _ => break,
        }
    }
    assert_eq!(seen, (0..200).collect::<Vec<u8>>());
}
