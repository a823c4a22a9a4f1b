//! Runs on threads: what survives, what is not repeated, who may write.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lyceum_graph::{
    Answers, Claim, Command, Context, Durability, END, EventKind, Failure, Graph, GraphBuilder,
    Keep, MemorySaver, NodeError, NodeName, RetryPolicy, RunConfig, RunError, RunStream, START,
    Saver, SaverError, State, Status, Thread, ThreadId, Worker,
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_memory_saver_conforms() {
    lyceum_graph::conformance::check(&MemorySaver::new()).await;
}

#[derive(State, Clone, Debug, Default, PartialEq)]
struct Log {
    #[state(append)]
    done: Vec<String>,
    last: String,
    #[state(untracked)]
    scratch: u32,
}

/// What the nodes of a test share: a count per effect, and switches.
#[derive(Default)]
struct World {
    runs: Mutex<Vec<String>>,
    broken: AtomicBool,
    effects: AtomicUsize,
}

impl World {
    fn runs(&self) -> Vec<String> {
        std::mem::take(&mut *self.runs.lock().unwrap())
    }
}

type Ctx = Context<World, u8>;
type LogGraph = Graph<Log, World, u8>;

/// Says that it ran, and writes its name.
async fn work(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    ctx.shared()
        .runs
        .lock()
        .unwrap()
        .push(ctx.node().to_string());
    Ok(LogUpdate::new().done([ctx.node().to_string()]))
}

/// Works, unless the world is broken.
async fn brittle(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    // The siblings go first.
    tokio::task::yield_now().await;
    if ctx.shared().broken.load(Ordering::Relaxed) {
        return Err(NodeError::transient("broken"));
    }
    work(log, ctx).await
}

async fn ask(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    let answer: String = ctx.interrupt("ask", "what?").await?;
    Ok(LogUpdate::new().done([format!("{}={answer}", ctx.node())]))
}

fn builder() -> GraphBuilder<Log, World, u8> {
    GraphBuilder::new()
}

/// `start` → `good` beside `bad` → `end`, where `bad` is brittle.
fn siblings() -> LogGraph {
    builder()
        .node("start", work)
        .node("good", work)
        .node("bad", brittle)
        .node("end", work)
        .edge(START, "start")
        .edge("start", "good")
        .edge("start", "bad")
        .join(["good", "bad"], "end")
        .edge("end", END)
        .compile()
        .unwrap()
}

struct Bench {
    thread: Thread<Log, World, u8>,
    saver: Arc<MemorySaver>,
    world: Arc<World>,
}

fn bench(graph: &LogGraph) -> Bench {
    let saver = Arc::new(MemorySaver::new());
    let thread = graph.thread(saver.clone(), ThreadId::new("t").unwrap());
    Bench {
        thread,
        saver,
        world: Arc::default(),
    }
}

impl Bench {
    fn config(&self) -> RunConfig<World> {
        RunConfig::new(self.world.clone())
    }

    async fn history(&self) -> usize {
        self.thread.history(None, 100).await.unwrap().len()
    }
}

const MODES: [Durability; 3] = [Durability::Sync, Durability::Async, Durability::Exit];

#[tokio::test]
async fn sibling_success_survives_failure_and_is_not_rerun() {
    for durability in MODES {
        let bench = bench(&siblings());
        bench.world.broken.store(true, Ordering::Relaxed);
        let config = || bench.config().durability(durability);
        let error = bench
            .thread
            .run(Log::default(), config())
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::Node { .. }), "{error}");
        assert_eq!(bench.world.runs(), ["start", "good"]);
        bench.world.broken.store(false, Ordering::Relaxed);
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(bench.world.runs(), ["bad", "end"], "{durability:?}");
        assert_eq!(output.state.done, ["start", "bad", "good", "end"]);
    }
}

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
async fn a_thread_continues_its_state_and_forgets_what_is_untracked() {
    async fn scratch(log: Arc<Log>, _: Ctx) -> Result<LogUpdate, NodeError> {
        Ok(LogUpdate::new()
            .scratch(7u32)
            .done([log.scratch.to_string()]))
    }
    let graph = builder()
        .node("n", scratch)
        .edge(START, "n")
        .edge("n", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    let output = bench
        .thread
        .run(LogUpdate::new().last("b"), bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.done, ["0", "0"]);
    assert_eq!((output.state.last.as_str(), output.steps), ("b", 1));
    let heads = bench.thread.history(None, 10).await.unwrap();
    assert_eq!(heads[0].step, 2);
    let changed = heads[0]
        .values
        .iter()
        .filter(|v| v.written_by == heads[0].id);
    let changed: Vec<_> = changed.map(|value| value.channel.as_str()).collect();
    assert_eq!(changed, ["done"], "a checkpoint holds only what changed");
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_takeover_fences_the_first() {
    let graph = builder()
        .node("ask", hang)
        .edge(START, "ask")
        .edge("ask", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    let mut first = bench.thread.stream(Log::default(), bench.config());
    first.next().await.unwrap().unwrap();
    let error = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RunError::Saver(SaverError::Busy { .. })),
        "{error}"
    );
    assert!(error.is_retryable());

    let second = bench.thread.clone().claim(Claim::TakeOver);
    bench.world.broken.store(true, Ordering::Relaxed);
    let output = second.resume(Answers::None, bench.config()).await.unwrap();
    assert_eq!(output.status, Status::Done);
    let error = loop {
        match first.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, RunError::Saver(SaverError::Fenced { .. })),
        "{error}"
    );
}

/// Waits for the world to break.
async fn hang(_: Arc<Log>, ctx: Ctx) -> Result<(), NodeError> {
    ctx.emit(1).await;
    while !ctx.shared().broken.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_run_gives_the_thread_back() {
    let graph = builder()
        .node("hang", hang)
        .edge(START, "hang")
        .edge("hang", END);
    let bench = bench(&graph.compile().unwrap());
    let mut stream = bench.thread.stream(Log::default(), bench.config());
    stream.next().await.unwrap().unwrap();
    drop(stream);
    tokio::task::yield_now().await;
    bench.world.broken.store(true, Ordering::Relaxed);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.status, Status::Done);
}

#[tokio::test(start_paused = true)]
async fn a_long_node_keeps_its_lease_and_a_dead_writer_loses_it() {
    async fn slow(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        tokio::time::sleep(Duration::from_secs(300)).await;
        work(log, ctx).await
    }
    let graph = builder()
        .node("slow", slow)
        .edge(START, "slow")
        .edge("slow", END);
    let bench = bench(&graph.compile().unwrap());
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();

    let lease = bench
        .saver
        .acquire(bench.thread.id(), Duration::from_secs(5), Claim::IfFree);
    lease.await.unwrap();
    bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap_err();
    tokio::time::advance(Duration::from_secs(5)).await;
    bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
}

#[tokio::test]
async fn checkpoint_still_written_after_external_cancel() {
    for durability in MODES {
        let graph = builder()
            .node("good", work)
            .node("hang", hang)
            .edge(START, "good")
            .edge(START, "hang")
            .edge("good", END)
            .edge("hang", END)
            .compile()
            .unwrap();
        let bench = bench(&graph);
        let token = CancellationToken::new();
        let config = bench
            .config()
            .durability(durability)
            .cancellation(token.clone());
        let mut stream = bench.thread.stream(Log::default(), config);
        let mut status = None;
        while let Some(event) = stream.next().await {
            match event.unwrap().kind {
                EventKind::Updated { .. } => token.cancel(),
                EventKind::Finished(output) => status = Some(output.status),
                _ => {}
            }
        }
        assert_eq!(status, Some(Status::Cancelled));
        assert_eq!(bench.world.runs(), ["good"]);
        bench.world.broken.store(true, Ordering::Relaxed);
        let config = bench.config().durability(durability);
        let output = bench.thread.resume(Answers::None, config).await.unwrap();
        assert_eq!(output.state.done, ["good"]);
        assert_eq!(bench.world.runs(), [""; 0], "{durability:?}: good ran once");
    }
}

#[tokio::test]
async fn several_interrupts_need_ids_and_do_not_cancel_siblings() {
    for durability in MODES {
        let graph = builder()
            .node("a", ask)
            .node("b", ask)
            .node("good", brittle)
            .node("end", work)
            .edge(START, "a")
            .edge(START, "b")
            .edge(START, "good")
            .join(["a", "b", "good"], "end")
            .edge("end", END)
            .compile()
            .unwrap();
        let bench = bench(&graph);
        let config = || bench.config().durability(durability);
        let output = bench.thread.run(Log::default(), config()).await.unwrap();
        assert_eq!(
            (output.status, output.interrupts.len()),
            (Status::Interrupted, 2)
        );
        assert_eq!(bench.world.runs(), ["good"]);
        let one = &output.interrupts[1];
        assert_eq!((one.node.as_str(), one.key.as_str()), ("b", "ask"));
        assert_eq!(one.payload, "what?");

        let error = bench
            .thread
            .resume(Answers::Only("x".into()), config())
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::AmbiguousAnswer { pending } if pending.len() == 2));
        let answer =
            |id: &str, text: &str| Answers::ById(BTreeMap::from([(id.to_owned(), text.into())]));
        let error = bench
            .thread
            .resume(answer("nope", "x"), config())
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::UnknownInterrupt { id } if id == "nope"));

        let output = bench
            .thread
            .resume(answer(&one.id, "beta"), config())
            .await
            .unwrap();
        assert_eq!(output.status, Status::Interrupted);
        assert_eq!(output.interrupts.len(), 1, "{durability:?}");
        let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
        assert_eq!(snapshot.interrupts, output.interrupts);
        let output = bench
            .thread
            .resume(Answers::Only("alpha".into()), config())
            .await
            .unwrap();
        assert_eq!(output.state.done, ["a=alpha", "b=beta", "good", "end"]);
        assert_eq!(bench.world.runs(), ["end"], "good ran once");
    }
}

#[tokio::test]
async fn interrupt_in_a_loop() {
    async fn quiz(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let mut answers = Vec::new();
        for n in 0..3 {
            answers.push(ctx.interrupt::<String>("question", n).await?);
        }
        Ok(LogUpdate::new().done(answers))
    }
    let graph = builder()
        .node("quiz", quiz)
        .edge(START, "quiz")
        .edge("quiz", END);
    let bench = bench(&graph.compile().unwrap());
    let mut output = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    for (n, text) in ["a", "b", "c"].iter().enumerate() {
        assert_eq!(output.interrupts[0].payload, n);
        let answer = Answers::Only((*text).into());
        output = bench.thread.resume(answer, bench.config()).await.unwrap();
    }
    assert_eq!(output.state.done, ["a", "b", "c"]);
}

#[tokio::test]
async fn parallel_tool_calls_interrupt_each_by_its_own_key() {
    async fn tools(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let slow = ctx.once("slow", |_| async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            ctx.shared().effects.fetch_add(1, Ordering::Relaxed);
            Ok("slow".to_owned())
        });
        let (mail, pay, slow) = tokio::join!(
            ctx.interrupt::<String>("mail", ()),
            ctx.interrupt::<String>("pay", ()),
            slow
        );
        Ok(LogUpdate::new().done([mail?, pay?, slow?]))
    }
    let graph = builder()
        .node("tools", tools)
        .edge(START, "tools")
        .edge("tools", END);
    let bench = bench(&graph.compile().unwrap());
    let output = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    let keys: Vec<_> = output
        .interrupts
        .iter()
        .map(|asked| asked.key.as_str())
        .collect();
    assert_eq!(keys, ["mail", "pay"]);
    assert_eq!(
        bench.world.effects.load(Ordering::Relaxed),
        1,
        "the call in flight was finished"
    );
    let answers = output
        .interrupts
        .iter()
        .map(|asked| (asked.id.clone(), asked.key.clone().into()));
    let answers = Answers::ById(answers.collect());
    let output = bench.thread.resume(answers, bench.config()).await.unwrap();
    assert_eq!(output.state.done, ["mail", "pay", "slow"]);
    assert_eq!(
        bench.world.effects.load(Ordering::Relaxed),
        1,
        "and is not repeated"
    );
}

#[tokio::test]
async fn an_effect_is_not_repeated_after_a_failure() {
    async fn effect(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let number: usize = ctx
            .once("count", |id| {
                assert_eq!(id.as_str(), "@1:0:effect:count#1");
                std::future::ready(Ok(ctx.shared().effects.fetch_add(1, Ordering::Relaxed)))
            })
            .await?;
        brittle(log, ctx)
            .await
            .map(|update| update.last(number.to_string()))
    }
    for durability in MODES {
        let graph = builder()
            .node("effect", effect)
            .edge(START, "effect")
            .edge("effect", END);
        let bench = bench(&graph.compile().unwrap());
        bench.world.broken.store(true, Ordering::Relaxed);
        let config = || bench.config().durability(durability);
        bench
            .thread
            .run(Log::default(), config())
            .await
            .unwrap_err();
        bench.world.broken.store(false, Ordering::Relaxed);
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(output.state.last, "0");
        assert_eq!(
            bench.world.effects.load(Ordering::Relaxed),
            1,
            "{durability:?}"
        );
    }
}

#[tokio::test]
async fn drain_then_resume() {
    for durability in MODES {
        let bench = bench(&siblings());
        let token = CancellationToken::new();
        let config = bench.config().durability(durability).drain(token.clone());
        let mut stream = bench.thread.stream(Log::default(), config);
        let mut last = None;
        while let Some(event) = stream.next().await {
            match event.unwrap().kind {
                EventKind::Started { node } if node.as_str() == "good" => token.cancel(),
                EventKind::Finished(output) => last = Some(output),
                _ => {}
            }
        }
        let output = last.unwrap();
        assert_eq!((output.status, output.steps), (Status::Drained, 2));
        assert_eq!(bench.world.runs(), ["start", "good", "bad"]);
        let config = bench.config().durability(durability);
        let output = bench.thread.resume(Answers::None, config).await.unwrap();
        assert_eq!(output.state.done, ["start", "bad", "good", "end"]);
        assert_eq!(bench.world.runs(), ["end"]);
    }
}

#[tokio::test]
async fn send_dedupe_on_resume() {
    const WORK: Worker<u8> = Worker::new("work");
    async fn split(_: Arc<Log>, _: Ctx) -> Result<Command<Log>, NodeError> {
        let sends = (0..3)
            .map(|n| WORK.send(&n))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(sends.into())
    }
    async fn one(n: u8, log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let update = if n == 1 {
            brittle(log, ctx).await?
        } else {
            work(log, ctx).await?
        };
        Ok(update.done([n.to_string()]))
    }
    let graph = builder()
        .node("split", split)
        .worker(WORK, one)
        .edge(START, "split")
        .destinations("split", ["work"])
        .edge("work", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    bench.world.broken.store(true, Ordering::Relaxed);
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap_err();
    assert_eq!(bench.world.runs().len(), 2);
    bench.world.broken.store(false, Ordering::Relaxed);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.done, ["0", "1", "2"]);
    assert_eq!(bench.world.runs().len(), 1);
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

#[tokio::test]
async fn error_handler_resumes_after_a_crash() {
    const RESCUE: Worker<Failure> = Worker::new("rescue");
    async fn rescue(failure: Failure, log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let update = brittle(log, ctx.clone()).await?;
        Ok(update.last(format!(
            "{} {} x{}",
            failure.node, failure.message, failure.attempts
        )))
    }
    let graph = builder()
        .node("bad", brittle)
        .worker(RESCUE, rescue)
        .edge(START, "bad")
        .edge("bad", END)
        .edge("rescue", END)
        .on_error("bad", RESCUE)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    bench.world.broken.store(true, Ordering::Relaxed);
    let error = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "run node rescue: broken");
    bench.world.broken.store(false, Ordering::Relaxed);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.last, "bad broken x1");
    assert_eq!(
        bench.world.runs(),
        ["rescue"],
        "the failed node is not tried again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_attempts_writes_are_discarded() {
    async fn slow_once(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let update = work(log, ctx.clone()).await?;
        if ctx.attempt() == 1 {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        Ok(update.last(ctx.attempt().to_string()))
    }
    async fn chatty(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            ctx.heartbeat();
        }
        slow_once(log, ctx).await
    }
    type Limit = fn(GraphBuilder<Log, World, u8>) -> GraphBuilder<Log, World, u8>;
    let limits: [Limit; 2] = [
        |graph| {
            graph
                .node("n", slow_once)
                .time_limit("n", Duration::from_secs(5))
        },
        |graph| {
            graph
                .node("n", chatty)
                .idle_limit("n", Duration::from_secs(5))
        },
    ];
    for limit in limits {
        let graph = limit(builder()).edge(START, "n").edge("n", END);
        let bench = bench(&graph.compile().unwrap());
        let error = bench
            .thread
            .run(Log::default(), bench.config())
            .await
            .unwrap_err();
        assert!(
            error.is_retryable() && error.to_string().contains("within 5s"),
            "{error}"
        );

        let graph = limit(builder()).retry("n", RetryPolicy::default());
        let graph = graph.edge(START, "n").edge("n", END).compile().unwrap();
        let bench = self::bench(&graph);
        let output = bench
            .thread
            .run(Log::default(), bench.config())
            .await
            .unwrap();
        assert_eq!(
            (output.state.done.len(), output.state.last.as_str()),
            (1, "2")
        );
    }
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
    assert_eq!((status, told.len()), (Status::Drained, 0));
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
    assert_eq!(original.len(), 11);
}

/// What a server does when a message comes while a thread is busy.
#[tokio::test]
async fn four_multitask_strategies() {
    let graph = builder()
        .node("n", hang)
        .node("end", work)
        .edge(START, "n")
        .edge("n", "end");
    let graph = graph.edge("end", END).compile().unwrap();
    let input = |text: &str| LogUpdate::new().done([text.to_owned()]);
    for strategy in ["reject", "interrupt", "rollback", "enqueue"] {
        let bench = bench(&graph);
        let before = bench.thread.update(input("seed"), None).await.unwrap();
        let token = CancellationToken::new();
        let config = bench.config().cancellation(token.clone());
        let mut first = bench.thread.stream(input("one"), config);
        while !matches!(
            first.next().await.unwrap().unwrap().kind,
            EventKind::Custom { .. }
        ) {}
        let refused = bench
            .thread
            .run(input("two"), bench.config())
            .await
            .unwrap_err();
        assert!(matches!(refused, RunError::Saver(SaverError::Busy { .. })));

        let mut told = Vec::new();
        match strategy {
            "interrupt" | "rollback" => token.cancel(),
            _ => bench.world.broken.store(true, Ordering::Relaxed),
        }
        tell(first, &mut told).await;
        bench.world.broken.store(true, Ordering::Relaxed);
        if strategy == "rollback" {
            bench.thread.fork(before).await.unwrap();
        }
        if strategy != "reject" {
            bench
                .thread
                .run(input("two"), bench.config())
                .await
                .unwrap();
        }
        let state = bench.thread.snapshot(None).await.unwrap().unwrap().state;
        let expected: &[&str] = match strategy {
            "reject" => &["seed", "one", "end"],
            "interrupt" => &["seed", "one", "two", "end"],
            "rollback" => &["seed", "two", "end"],
            _ => &["seed", "one", "end", "two", "end"],
        };
        assert_eq!(state.done, expected, "{strategy}");
    }
}
