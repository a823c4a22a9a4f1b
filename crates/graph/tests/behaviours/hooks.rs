//! Lifecycle hooks: what observers are told, and that they cannot break a run.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt as _;
use lyceum_graph::{
    END, Moment, MomentKind, NodeError, Observer, RetryPolicy, RunOutcome, START, Status,
};

use crate::world::{Ctx, Log, LogUpdate, ask, bench, builder, hang, work};

/// Writes down what it is told.
#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Diary {
    fn observe(&self, moment: &Moment<'_>) {
        let what = match moment.kind {
            MomentKind::RunStarted => "run".to_owned(),
            MomentKind::RunEnded { outcome, took } => match outcome {
                RunOutcome::Ended(status) => format!("run {status:?} {took:?}"),
                RunOutcome::Failed(error) => format!("run {}", error.label()),
                other => format!("run {other:?}"),
            },
            MomentKind::StepStarted { tasks } => format!("step x{tasks}"),
            MomentKind::StepEnded { took } => format!("step {took:?}"),
            MomentKind::NodeStarted(attempt) => format!("{} {}", attempt.node, attempt.number),
            MomentKind::NodeEnded { attempt, took } => format!("{} ok {took:?}", attempt.node),
            MomentKind::NodeFailed {
                attempt,
                error,
                retry_in,
                ..
            } => format!("{} {error} {}", attempt.node, retry_in.is_some()),
            MomentKind::NodeDropped { attempt, .. } => format!("{} dropped", attempt.node),
            MomentKind::Interrupted { node, .. } => format!("{node} asks"),
            MomentKind::Checkpointed(checkpoint) => format!("checkpoint {}", checkpoint.id),
            _ => "unknown".to_owned(),
        };
        self.0
            .lock()
            .unwrap()
            .push(format!("{} {what}", moment.step));
    }
}

#[tokio::test(start_paused = true)]
async fn observers_are_told_of_a_run_from_its_start_to_its_end() {
    async fn slow(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if ctx.attempt() == 1 {
            return Err(NodeError::transient("busy"));
        }
        work(log, ctx).await
    }
    let at_once = RetryPolicy {
        first_wait: Duration::ZERO,
        ..RetryPolicy::default()
    };
    let graph = builder()
        .node("slow", slow)
        .retry("slow", at_once)
        .node("ask", ask)
        .edge(START, "slow")
        .edge("slow", "ask")
        .edge("ask", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let diary = Arc::new(Diary::default());
    // The first observer breaks each time; the second is told nevertheless.
    let config = bench
        .config()
        .observe(Arc::new(|_: &Moment<'_>| panic!("a broken observer")))
        .observe(diary.clone());
    let output = bench.thread.run(Log::default(), config).await.unwrap();
    assert_eq!(output.status, Status::Interrupted);
    let lines = diary.lines();
    let (last, lines) = lines.split_last().unwrap();
    assert_eq!(
        lines,
        [
            "0 run",
            "0 checkpoint 1",
            "1 step x1",
            "1 slow 1",
            "1 slow busy true",
            "1 slow 2",
            "1 slow ok 2s",
            "1 checkpoint 2",
            "1 step 4s",
            "2 step x1",
            "2 ask 1",
            "2 ask dropped",
            "2 ask asks",
        ]
    );
    assert_eq!(last, "1 run Interrupted 4s");
}

#[tokio::test]
async fn a_dropped_and_a_failed_run_say_so() {
    let graph = builder().node("n", hang).edge(START, "n").edge("n", END);
    let hanging = bench(&graph.compile().unwrap());
    let diary = Arc::new(Diary::default());
    let config = hanging.config().observe(diary.clone());
    let mut stream = hanging.thread.stream(Log::default(), config);
    while stream.next().await.unwrap().unwrap().seq < 3 {}
    drop(stream);
    let lines = diary.lines();
    assert_eq!(lines[lines.len() - 2..], ["1 n dropped", "0 run Dropped"]);

    async fn fail(_: Arc<Log>, _: Ctx) -> Result<(), NodeError> {
        Err(NodeError::permanent("no"))
    }
    let graph = builder().node("n", fail).edge(START, "n").edge("n", END);
    let failing = bench(&graph.compile().unwrap());
    let config = failing.config().observe(diary.clone());
    failing
        .thread
        .run(Log::default(), config)
        .await
        .unwrap_err();
    let lines = diary.lines();
    assert_eq!(lines[lines.len() - 2..], ["1 n no false", "0 run node"]);
}
