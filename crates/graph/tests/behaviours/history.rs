//! What was, what it would have been, and how runs meet on one thread.

use futures_util::StreamExt as _;
use lyceum_graph::{
    Answers, Durability, END, EventKind, Keep, NodeName, RunError, RunStream, START, Status,
};
use tokio_util::sync::CancellationToken;

use crate::world::{Log, LogUpdate, MODES, ask, bench, builder, siblings, work};

#[tokio::test]
async fn replay_of_the_final_checkpoint_is_a_no_op() {
    for durability in MODES {
        let bench = bench(&siblings());
        let config = || bench.config().durability(durability);
        bench.thread.run(Log::default(), config()).await.unwrap();
        let checkpoints = bench.history().await;
        assert_eq!(
            checkpoints,
            if durability == Durability::Exit { 1 } else { 4 }
        );
        bench.world.runs();
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!((output.status, output.steps), (Status::Done, 0));
        assert_eq!(output.state.done, ["start", "bad", "good", "end"]);
        assert_eq!(bench.world.runs(), [""; 0]);
        assert_eq!(bench.history().await, checkpoints);
    }
}

#[tokio::test]
async fn forks_keep_the_old_branch_and_ask_again() {
    let graph = builder()
        .node("first", work)
        .node("ask", ask)
        .edge(START, "first")
        .edge("first", "ask")
        .edge("ask", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    bench
        .thread
        .resume(Answers::Only("one".into()), bench.config())
        .await
        .unwrap();
    let heads = bench.thread.history(None, 10).await.unwrap();
    let asking = heads[1].id;
    let fork = bench.thread.fork(asking).await.unwrap();
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.status, Status::Interrupted, "the fork asks again");
    let output = bench
        .thread
        .resume(Answers::Only("two".into()), bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.done, ["first", "ask=two"]);
    let old = bench
        .thread
        .snapshot(Some(heads[0].id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(old.state.done, ["first", "ask=one"]);
    let heads = bench.thread.history(None, 10).await.unwrap();
    assert_eq!((heads[1].id, heads[1].parent), (fork, Some(asking)));
    assert!(matches!(
        bench
            .thread
            .fork(lyceum_graph::CheckpointId(99))
            .await
            .unwrap_err(),
        RunError::NoCheckpoint
    ));
}

#[tokio::test]
async fn an_update_as_a_node_continues_after_it() {
    let bench = bench(&siblings());
    let update = |text: &str| LogUpdate::new().done([text.to_owned()]);
    bench
        .thread
        .update(update("seed"), Some(&"start".into()))
        .await
        .unwrap();
    let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
    assert_eq!(snapshot.next, ["bad", "good"].map(NodeName::from));
    bench.thread.update(update("more"), None).await.unwrap();
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.done, ["seed", "more", "bad", "good", "end"]);
    let error = bench
        .thread
        .update(update("x"), Some(&"strat".into()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("did you mean start?"),
        "{error}"
    );
    assert_eq!(bench.thread.prune(Keep::Last(1)).await.unwrap(), 3);
    assert_eq!(bench.history().await, 1);
}

/// What a stream tells, without its end and its numbers.
async fn tell(mut stream: RunStream<Log, u8>, told: &mut Vec<String>) -> Status {
    loop {
        let event = stream.next().await.unwrap().unwrap();
        match &event.kind {
            EventKind::Finished(output) => return output.status,
            kind => told.push(format!("{} {kind:?}", event.step)),
        }
    }
}

#[tokio::test]
async fn a_resumed_stream_equals_the_original() {
    let graph = siblings();
    let whole = bench(&graph);
    let mut original = Vec::new();
    tell(
        whole.thread.stream(Log::default(), whole.config()),
        &mut original,
    )
    .await;

    let parts = bench(&graph);
    let mut told = Vec::new();
    let token = CancellationToken::new();
    // Drained before every step: one run a step.
    token.cancel();
    let config = || parts.config().drain(token.clone());
    let mut status = tell(parts.thread.stream(Log::default(), config()), &mut told).await;
    assert_eq!((status, told.len()), (Status::Drained, 1));
    while status != Status::Done {
        let config = parts.config().step_limit(1);
        let mut stream = parts.thread.resume_stream(Answers::None, config);
        status = loop {
            match stream.next().await.unwrap() {
                Ok(event) => match &event.kind {
                    EventKind::Finished(output) => break output.status,
                    kind => told.push(format!("{} {kind:?}", event.step)),
                },
                Err(RunError::StepLimit { .. }) => break Status::Drained,
                Err(error) => panic!("{error}"),
            }
        };
    }
    assert_eq!(told, original);
    assert_eq!(original.len(), 16);
}
