//! Static interrupts: a run stops before and after nodes, and goes on without an answer.

use std::sync::atomic::Ordering;

use lyceum_graph::{Answers, END, NodeName, RunError, START, Status};

use crate::world::{Log, LogUpdate, MODES, bench, brittle, builder, work};

/// `a` → `b` → `c`, which stops before `b`.
fn chain() -> lyceum_graph::GraphBuilder<Log, crate::world::World, u8> {
    builder()
        .node("a", work)
        .node("b", brittle)
        .node("c", work)
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", "c")
        .edge("c", END)
}

#[tokio::test]
async fn a_run_stops_before_and_after_nodes_and_goes_on_without_an_answer() {
    for durability in MODES {
        let graph = chain().interrupt_before("b").compile().unwrap();
        let bench = bench(&graph);
        let config = || {
            let config = bench.config().durability(durability);
            config.interrupt_after(["b", "c"])
        };
        let output = bench.thread.run(Log::default(), config()).await.unwrap();
        assert_eq!(
            (output.status, output.interrupts.len()),
            (Status::Paused, 0)
        );
        assert_eq!(bench.world.runs(), ["a"]);
        let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
        assert_eq!(snapshot.next, [NodeName::from("b")]);

        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(output.status, Status::Paused);
        assert_eq!(bench.world.runs(), ["b"], "{durability:?}");
        // Nothing follows c, so there is nothing to stop before.
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!((output.status, output.steps), (Status::Done, 1));
        assert_eq!(output.state.done, ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn a_corrected_state_goes_on_and_a_fork_stops_again() {
    let graph = chain().interrupt_before("b").compile().unwrap();
    let bench = bench(&graph);
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    let stop = bench.thread.history(None, 1).await.unwrap()[0].id;
    let fix = LogUpdate::new().done(["fix".to_owned()]);
    bench.thread.update(fix, None).await.unwrap();
    let resume = async || {
        bench
            .thread
            .resume(Answers::None, bench.config())
            .await
            .unwrap()
    };
    assert_eq!(resume().await.state.done, ["a", "fix", "b", "c"]);

    bench.thread.fork(stop).await.unwrap();
    assert_eq!(resume().await.status, Status::Paused);
    assert_eq!(resume().await.state.done, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_run_that_failed_past_its_stop_does_not_stop_there_again() {
    let graph = chain().interrupt_before("b").compile().unwrap();
    let bench = bench(&graph);
    bench.world.broken.store(true, Ordering::Relaxed);
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    let resume = async || bench.thread.resume(Answers::None, bench.config()).await;
    resume().await.unwrap_err();
    bench.world.broken.store(false, Ordering::Relaxed);
    assert_eq!(resume().await.unwrap().status, Status::Done);
    assert_eq!(bench.world.runs(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_stop_inside_a_subgraph_stops_the_run_around_it() {
    let inner = chain().interrupt_before("b").compile().unwrap();
    let graph = builder()
        .subgraph(
            "inner",
            inner,
            |_| Log::default(),
            |log| LogUpdate::new().done(log.done.clone()),
        )
        .node("beside", work)
        .edge(START, "inner")
        .edge(START, "beside")
        .edge("inner", END)
        .edge("beside", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let output = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    assert_eq!(output.status, Status::Paused);
    let resume = async || bench.thread.resume(Answers::None, bench.config()).await;
    let output = resume().await.unwrap();
    assert_eq!(output.status, Status::Done);
    assert_eq!(output.state.done, ["beside", "a", "b", "c"]);
    let runs = bench.world.runs();
    assert_eq!(runs.len(), 4, "{runs:?}: nothing ran twice");
}

#[tokio::test]
async fn an_unknown_place_is_an_error_with_a_near_name() {
    let error = chain().interrupt_after("bb").compile().unwrap_err();
    assert!(error.to_string().contains("unknown node bb"), "{error}");
    let graph = builder()
        .node("critic", work)
        .edge(START, "critic")
        .edge("critic", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let config = bench.config().interrupt_before(["critc"]);
    let error = bench.thread.run(Log::default(), config).await.unwrap_err();
    assert!(matches!(error, RunError::UnknownPause { .. }));
    assert!(error.to_string().ends_with("did you mean critic?"));
}
