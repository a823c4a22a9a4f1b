//! What holds for every run, whatever it meets on its way: questions, failures, retries,
//! time-outs, subgraphs of each kind, and a saver that fails, loses replies, or is the last
//! thing that a process called before it died.

#![cfg(feature = "testkit")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use lyceum_graph::{
    Answers, Claim, Context, Durability, END, Graph, GraphBuilder, MemorySaver, NodeError,
    RetryPolicy, RunConfig, START, Saver, State, Status, Thread, ThreadId, Worker,
    testkit::{Failpoints, Fault, Operation},
};
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

#[derive(State, Clone, Debug, Default, PartialEq)]
struct Log {
    #[state(append)]
    done: Vec<String>,
    name: String,
}

/// What nodes share: how often each effect took place, and how often each node failed.
#[derive(Debug, Default)]
struct World {
    effects: Mutex<BTreeMap<String, u64>>,
    failures: Mutex<BTreeMap<String, u64>>,
    hung: AtomicU64,
}

type Ctx = Context<World>;
type Made = Graph<Log, World>;

/// What a stage of a graph does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// One node with an effect.
    Plain,
    /// Two side by side.
    Pair,
    /// Asks between two effects.
    Asks,
    /// Fails so often, and is tried again by its policy.
    Flaky(u64),
    /// Fails so often, and ends the run with it.
    Breaks(u64),
    /// Hangs once, and is cut off.
    Hangs,
}

/// A stage, and what it is inside of.
#[derive(Debug, Clone, Copy)]
enum Place {
    Bare(Stage),
    Inside(Stage),
    Remembered(Stage),
    /// So many at once, in subgraphs that are sent to.
    Sent(Stage, u8),
}

fn stages() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Plain),
        Just(Stage::Pair),
        Just(Stage::Asks),
        (1..3_u64).prop_map(Stage::Flaky),
        (1..3_u64).prop_map(Stage::Breaks),
        Just(Stage::Hangs),
    ]
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    let place = prop_oneof![
        stages().prop_map(Place::Bare),
        stages().prop_map(Place::Inside),
        stages().prop_map(Place::Remembered),
        (stages(), 1..4_u8).prop_map(|(stage, many)| Place::Sent(stage, many)),
    ];
    vec(place, 1..4)
}

async fn effect(ctx: &Ctx, name: String) -> Result<String, NodeError> {
    ctx.once("effect", async |_| {
        let mut effects = ctx.shared().effects.lock().unwrap();
        *effects.entry(name.clone()).or_default() += 1;
        Ok(name.clone())
    })
    .await
}

async fn fails(ctx: &Ctx, name: &str, times: u64) -> Result<(), NodeError> {
    let mut failures = ctx.shared().failures.lock().unwrap();
    let failed = failures.entry(name.to_owned()).or_default();
    *failed += 1;
    match *failed <= times {
        true => Err(NodeError::transient("again")),
        false => Ok(()),
    }
}

async fn act(stage: Stage, log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    let name = format!("{}{}", log.name, ctx.node());
    let mut done = vec![effect(&ctx, format!("{name} first")).await?];
    match stage {
        Stage::Plain | Stage::Pair => {}
        Stage::Asks => {
            let answer: String = ctx.interrupt("ask", name.clone()).await?;
            done.push(answer);
        }
        Stage::Flaky(times) | Stage::Breaks(times) => fails(&ctx, &name, times).await?,
        Stage::Hangs => {
            if fails(&ctx, &name, 1).await.is_err() {
                ctx.shared().hung.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
        }
    }
    done.push(effect(&ctx, format!("{name} second")).await?);
    Ok(LogUpdate::new().done(done))
}

/// Nodes of one stage between `from` and `to`, named after `name`.
fn add(
    mut builder: GraphBuilder<Log, World>,
    stage: Stage,
    name: &str,
) -> (GraphBuilder<Log, World>, Vec<String>) {
    let policy = RetryPolicy {
        max_attempts: NonZeroU32::new(3).unwrap(),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(1),
    };
    let names = match stage {
        Stage::Pair => vec![format!("{name}a"), format!("{name}b")],
        _ => vec![name.to_owned()],
    };
    for name in &names {
        builder = builder.node(name, move |log, ctx| act(stage, log, ctx));
        builder = match stage {
            Stage::Flaky(_) => builder.retry(name, policy),
            Stage::Hangs => {
                let limit = Duration::from_secs(60);
                builder.retry(name, policy).time_limit(name, limit)
            }
            _ => builder,
        };
    }
    (builder, names)
}

fn inner(stage: Stage) -> Made {
    let (mut builder, names) = add(GraphBuilder::new(), stage, "in");
    for name in &names {
        builder = builder.edge(START, name).edge(name, END);
    }
    builder.compile().unwrap()
}

const SENT: [Worker<u8>; 3] = [Worker::new("s0"), Worker::new("s1"), Worker::new("s2")];

fn build(places: &[Place]) -> Made {
    let mut builder = GraphBuilder::new();
    let mut from: Vec<String> = vec![START.to_owned()];
    for (number, place) in places.iter().enumerate() {
        let name = format!("n{number}");
        let at = name.clone();
        let enter = move |_: &Log| LogUpdate::new().name(format!("{at}/"));
        let leave = |log: &Log| LogUpdate::new().done([log.done.join(",")]);
        let names = match *place {
            Place::Bare(stage) => {
                let (built, names) = add(builder, stage, &name);
                builder = built;
                names
            }
            Place::Inside(stage) => {
                builder = builder.subgraph(&name, inner(stage), enter, leave);
                vec![name]
            }
            Place::Remembered(stage) => {
                builder = builder.subgraph_with_memory(&name, inner(stage), enter, leave);
                vec![name]
            }
            Place::Sent(stage, many) => {
                let worker = SENT[number];
                let enter = move |n: u8, _: &Log| LogUpdate::new().name(format!("{number}.{n}/"));
                builder = builder.subgraph_worker(worker, inner(stage), enter, leave);
                // A node of its own sends, so that joins come before it.
                builder = builder.node(&name, async |_: Arc<Log>, _: Ctx| Ok(()));
                builder = builder.route(&name, [worker.name()], move |_: &Log| -> Vec<_> {
                    (0..many).map(|n| worker.send(&n).unwrap()).collect()
                });
                builder = connect(builder, &from, &name);
                from = vec![worker.name().to_owned()];
                continue;
            }
        };
        for name in &names {
            builder = connect(builder, &from, name);
        }
        from = names;
    }
    for name in &from {
        builder = builder.edge(name, END);
    }
    builder.compile().unwrap()
}

fn connect(
    builder: GraphBuilder<Log, World>,
    from: &[String],
    to: &str,
) -> GraphBuilder<Log, World> {
    match from {
        [one] => builder.edge(one, to),
        several => builder.join(several.iter().map(String::as_str), to),
    }
}

/// How one process ended.
enum Ended {
    Run(Result<lyceum_graph::Output<Log>, lyceum_graph::RunError>),
    /// It waits for a reply that never comes: it is dead.
    Dead,
}

async fn live(
    run: impl Future<Output = Result<lyceum_graph::Output<Log>, lyceum_graph::RunError>>,
) -> Ended {
    let mut run = Box::pin(run);
    let mut quiet = 0;
    while quiet < 50 {
        if let Some(result) = run.as_mut().now_or_never() {
            return Ended::Run(result);
        }
        tokio::task::yield_now().await;
        // Time passes for those who hang.
        tokio::time::advance(Duration::from_secs(5)).await;
        quiet += 1;
    }
    // A dead process tells its saver nothing more.
    std::mem::forget(run);
    Ended::Dead
}

struct Told {
    done: Vec<String>,
    effects: BTreeMap<String, u64>,
    deaths: u64,
}

async fn to_the_end(graph: &Made, durability: Durability, faults: &[(u64, Fault)]) -> Told {
    let world = Arc::new(World::default());
    let mut saver = Failpoints::new(Arc::new(MemorySaver::new()));
    for (call, fault) in faults {
        saver = saver.at(Operation::Commit, *call, *fault);
    }
    let saver: Arc<dyn Saver> = Arc::new(saver);
    let thread: Thread<Log, World> = graph.thread(saver, ThreadId::new("t").unwrap());
    let thread = thread.claim(Claim::TakeOver);
    let config = || RunConfig::new(world.clone()).durability(durability);
    let mut deaths = 0;
    // Each life meets a fault, a failure or a question, or is the last.
    for _ in 0..100 {
        let ended = match thread.snapshot(None).await.unwrap() {
            None => live(thread.run(LogUpdate::new(), config())).await,
            Some(snapshot) => {
                let asked = snapshot.interrupts.into_iter();
                let answers = asked.map(|asked| (asked.id, asked.payload));
                let answers = Answers::ById(answers.collect());
                live(thread.resume(answers, config())).await
            }
        };
        match ended {
            Ended::Dead => deaths += 1,
            Ended::Run(Err(error)) => assert!(error.is_retryable(), "{error}"),
            Ended::Run(Ok(output)) if output.status == Status::Interrupted => {}
            Ended::Run(Ok(output)) => {
                assert_eq!(output.status, Status::Done);
                return Told {
                    done: output.state.done.clone(),
                    effects: std::mem::take(&mut *world.effects.lock().unwrap()),
                    deaths,
                };
            }
        }
    }
    unreachable!("the run does not end");
}

fn faults() -> impl Strategy<Value = Vec<(u64, Fault)>> {
    let fault = prop_oneof![
        Just(Fault::Fails),
        Just(Fault::LosesReply),
        Just(Fault::Hangs),
        Just(Fault::DoesAndHangs),
    ];
    vec((1..25_u64, fault), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever happens to it, a run ends in the state of one to which nothing happened; and
    /// an effect takes place once, and once more at most for each fault of the saver.
    #[test]
    fn a_run_that_meets_faults_ends_as_one_that_does_not(places in places(), faults in faults()) {
        let graph = build(&places);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let good = to_the_end(&graph, Durability::Sync, &[]).await;
            prop_assert!(good.effects.values().all(|times| *times == 1), "{:?}", good.effects);
            for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
                let told = to_the_end(&graph, durability, &faults).await;
                prop_assert_eq!(&told.done, &good.done, "{:?}", durability);
                let names = |told: &Told| told.effects.keys().cloned().collect::<Vec<_>>();
                prop_assert_eq!(names(&told), names(&good));
                // Each fault loses at most what was not recorded.
                let lost = faults.len() as u64;
                let most = told.effects.values().max().copied().unwrap_or(0);
                prop_assert!(told.deaths <= lost && most <= 1 + lost, "{:?}", told.effects);
            }
            Ok(())
        })?;
    }
}
