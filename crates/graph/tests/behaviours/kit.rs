//! The test kit, and what the crate itself proves with it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use lyceum_graph::{
    Answers, Command, END, Graph, MemorySaver, NodeError, RetryPolicy, RunConfig, RunError, START,
    Saver as _, SaverError, Status, Thread, ThreadId, Worker,
    testkit::{
        Failpoints, Fault, Mismatch, Operation, Outcome, Recording, Script, in_virtual_time,
        record, replay,
    },
};

use crate::world::{Ctx, Log, LogGraph, LogUpdate, World, ask, bench, builder, work};

type LogScript = Script<Log>;

fn wrote(text: &str) -> LogUpdate {
    LogUpdate::new().done([text.to_owned()])
}

fn alone(script: &LogScript) -> LogGraph {
    builder()
        .node("n", script.node())
        .retry("n", RetryPolicy::default())
        .time_limit("n", Duration::from_secs(60))
        .edge(START, "n")
        .edge("n", END)
        .compile()
        .unwrap()
}

#[test]
fn a_script_is_followed_line_by_line_in_virtual_time() {
    let script = LogScript::new()
        .fails(NodeError::transient("busy"))
        .hangs()
        .waits(Duration::from_secs(59))
        .writes(wrote("third"));
    let graph = alone(&script);
    let run = graph.run(Log::default(), RunConfig::default());
    let (output, took) = in_virtual_time(run).unwrap();
    assert_eq!(output.unwrap().state.done, ["third"]);
    assert_eq!(script.calls(), 3);
    // One time limit, one wait, and at most two waits of a retry.
    let (least, most) = (Duration::from_secs(119), Duration::from_millis(120_600));
    assert!(took >= least && took <= most, "{took:?}");

    let run = graph.run(Log::default(), RunConfig::default());
    let error = in_virtual_time(run).unwrap().0.unwrap_err();
    assert_eq!(error.to_string(), "run node n: the script is over");
    assert!(!error.is_retryable());

    let script = LogScript::new().writes(wrote("again")).and_so_on();
    for _ in 0..3 {
        let run = alone(&script)
            .run(Log::default(), RunConfig::default())
            .now_or_never();
        assert_eq!(run.unwrap().unwrap().state.done, ["again"]);
    }
}

#[tokio::test]
async fn a_script_asks() {
    let script = LogScript::new()
        .asks("sure", "really?")
        .writes(wrote("yes"));
    let bench = bench(&alone(&script));
    let output = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    assert_eq!(output.interrupts[0].payload, "really?");
    let answer = Answers::Only(true.into());
    let output = bench.thread.resume(answer, bench.config()).await.unwrap();
    assert_eq!(output.state.done, ["yes"]);
}

/// Sends, a retry, a question: `split` → `part` ×2 → `ask`.
fn busy() -> LogGraph {
    const PART: Worker<u8> = Worker::new("part");
    async fn split(_: Arc<Log>, _: Ctx) -> Result<Command<Log>, NodeError> {
        Ok(vec![PART.send(&7)?, PART.send(&8)?].into())
    }
    async fn part(n: u8, log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        if n == 7 && ctx.attempt() == 1 {
            return Err(NodeError::transient("busy"));
        }
        ctx.shared().effects.fetch_add(1, Ordering::Relaxed);
        Ok(work(log, ctx).await?.done([n.to_string()]))
    }
    builder()
        .node("split", split)
        .worker(PART, part)
        .retry("part", RetryPolicy::default())
        .node("ask", ask)
        .edge(START, "split")
        .destinations("split", ["part"])
        .edge("part", "ask")
        .edge("ask", END)
        .compile()
        .unwrap()
}

/// Runs to the question and past it.
async fn play(graph: &LogGraph, world: &Arc<World>, answer: &str) -> Result<Vec<String>, RunError> {
    let saver = Arc::new(MemorySaver::new());
    let thread = graph.thread(saver, ThreadId::new("t").unwrap());
    let config = || RunConfig::new(world.clone());
    let output = thread.run(Log::default(), config()).await?;
    assert_eq!(output.status, Status::Interrupted);
    let answer = Answers::Only(answer.into());
    let output = thread.resume(answer, config()).await?;
    Ok(output.state.done.clone())
}

#[tokio::test(start_paused = true)]
async fn a_recorded_run_is_replayed_without_its_nodes() {
    let world = Arc::new(World::default());
    let (graph, recorder) = record(&busy());
    let played = play(&graph, &world, "x").await.unwrap();
    assert_eq!(played, ["7", "8", "ask=x"]);
    let json = serde_json::to_string_pretty(&recorder.recording()).unwrap();
    let recording: Recording = serde_json::from_str(&json).unwrap();
    assert_eq!(recording, recorder.recording());
    let nodes: Vec<_> = recording
        .calls
        .iter()
        .map(|call| call.node.as_str())
        .collect();
    assert_eq!(nodes, ["split", "part", "part", "part", "ask", "ask"]);
    assert!(matches!(
        recording.calls[1].outcome,
        Outcome::Failed {
            is_retryable: true,
            ..
        }
    ));
    assert_eq!(recording.calls[2].payload.as_deref(), Some("8"));
    assert!(matches!(recording.calls[4].outcome, Outcome::Asked(_)));

    world.effects.store(0, Ordering::Relaxed);
    let (again, report) = replay(&busy(), recording);
    assert_eq!(report.finish().unwrap_err().mismatch, Mismatch::NotCalled);
    assert_eq!(play(&again, &world, "x").await.unwrap(), played);
    report.finish().unwrap();
    assert_eq!(world.effects.load(Ordering::Relaxed), 0, "no node ran");
}

#[tokio::test]
async fn a_replay_reports_the_first_divergence() {
    let (first, second) = (LogScript::new(), LogScript::new());
    let graph = builder()
        .node("a", first.writes(wrote("one")).and_so_on().node())
        .node("b", second.writes(wrote("two")).and_so_on().node())
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", END)
        .compile()
        .unwrap();
    let (recorded, recorder) = record(&graph);
    let run = async |graph: &LogGraph, input| graph.run(input, RunConfig::default()).await;
    run(&recorded, Log::default()).await.unwrap();

    let (again, report) = replay(&graph, recorder.recording());
    let error = run(&again, wrote("other").into_log()).await.unwrap_err();
    let divergence = report.finish().unwrap_err();
    assert_eq!((divergence.step, divergence.node.as_str()), (1, "a"));
    assert_eq!(
        error.to_string(),
        "run node a: replay step 1, node a: its input differs at /done: \
         recorded [], found [\"other\"]"
    );

    let mut short = recorder.recording();
    short.calls.truncate(1);
    let (again, report) = replay(&graph, short);
    run(&again, Log::default()).await.unwrap_err();
    assert_eq!(report.finish().unwrap_err().mismatch, Mismatch::NotRecorded);
}

trait IntoLog {
    fn into_log(self) -> Log;
}

impl IntoLog for LogUpdate {
    fn into_log(self) -> Log {
        Log {
            done: self.done.unwrap_or_default(),
            ..Log::default()
        }
    }
}

#[tokio::test]
async fn a_failpoint_saver_without_faults_conforms() {
    let saver = Failpoints::new(Arc::new(MemorySaver::new()));
    lyceum_graph::conformance::check(&saver).await;
    assert!(saver.calls(Operation::Commit) > 10);
}

/// Two nodes with an effect each; the world counts them.
fn effects() -> LogGraph {
    async fn effect(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let count = |_| async {
            ctx.shared().effects.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        ctx.once("effect", count).await?;
        work(log, ctx).await
    }
    builder()
        .node("a", effect)
        .node("b", effect)
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", END)
        .compile()
        .unwrap()
}

fn thread(graph: &LogGraph, saver: &Failpoints) -> Thread<Log, World, u8> {
    let thread = graph.thread(Arc::new(saver.clone()), ThreadId::new("t").unwrap());
    thread.lease(Duration::from_secs(1))
}

/// Whatever call of the saver is the last one that a process makes, or meets a fault, the
/// thread goes on, and an effect whose record was stored is not repeated.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_of_the_saver_loses_and_repeats_nothing_that_was_stored() {
    let graph: Graph<Log, World, u8> = effects();
    let faults = [
        Fault::Fails,
        Fault::LosesReply,
        Fault::Hangs,
        Fault::DoesAndHangs,
    ];
    let counted = AtomicUsize::new(0);
    for fault in faults {
        // The input, then an effect and a step per node: five commits, each the last once.
        for n in 1..=5 {
            let memory = Arc::new(MemorySaver::new());
            let saver = Failpoints::new(memory.clone()).at(Operation::Commit, n, fault);
            let world = Arc::new(World::default());
            let config = || RunConfig::new(world.clone());
            let first = thread(&graph, &saver);
            let run = first.run(Log::default(), config());
            let broken = tokio::time::timeout(Duration::from_secs(60), run).await;
            match fault {
                Fault::Fails | Fault::LosesReply => {
                    let error = broken.unwrap().unwrap_err();
                    assert!(error.is_retryable(), "{fault:?} {n}: {error}");
                }
                Fault::Hangs | Fault::DoesAndHangs => assert!(broken.is_err()),
            }
            // What was stored before the fault is what the thread goes on from.
            tokio::time::advance(Duration::from_secs(2)).await;
            let second = thread(&graph, &saver);
            let output = match second.resume(Answers::None, config()).await {
                Err(RunError::NoCheckpoint) => second.run(Log::default(), config()).await,
                resumed => resumed,
            };
            let output = output.unwrap();
            assert_eq!(output.state.done, ["a", "b"], "{fault:?} {n}");
            let is_stored = matches!(fault, Fault::LosesReply | Fault::DoesAndHangs);
            // Only the second and fourth commits are the records of effects; one that was
            // not stored cannot be told from one that never happened.
            let repeated = usize::from(!is_stored && (n == 2 || n == 4));
            assert_eq!(
                world.effects.load(Ordering::Relaxed),
                2 + repeated,
                "{fault:?} {n}"
            );
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert_eq!(counted.load(Ordering::Relaxed), 20);
}

#[tokio::test]
async fn a_saver_that_fails_to_lend_or_to_read_fails_the_run_before_it_begins() {
    for operation in [Operation::Acquire, Operation::Load] {
        let saver = Failpoints::new(Arc::new(MemorySaver::new()));
        let world = Arc::new(World::default());
        let thread = thread(&effects(), &saver);
        let run = || thread.run(Log::default(), RunConfig::new(world.clone()));
        // An empty thread is not read.
        assert_eq!(run().await.unwrap().status, Status::Done);
        let _told = world.runs();
        let next = saver.calls(operation) + 1;
        let saver = saver.at(operation, next, Fault::Fails);
        let error = run().await.unwrap_err();
        assert!(matches!(error, RunError::Saver(SaverError::Backend { .. })));
        assert_eq!(world.runs(), [""; 0]);
        assert_eq!(run().await.unwrap().status, Status::Done);
        assert!(saver.calls(operation) > next);
    }
    let id = ThreadId::new("t").unwrap();
    let saver =
        Failpoints::new(Arc::new(MemorySaver::new())).at(Operation::History, 2, Fault::Fails);
    saver.history(&id, "", None, 1).await.unwrap();
    saver.history(&id, "", None, 1).await.unwrap_err();
    assert_eq!(saver.calls(Operation::History), 2);
}
