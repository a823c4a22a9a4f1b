//! What holds for every graph: random ones with forks, joins, sends, cycles and deferred
//! nodes, run in random orders of completion.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use lyceum_graph::{
    Answers, Checkpoint, Context, END, Graph, GraphBuilder, MemorySaver, NodeError, RunConfig,
    RunError, START, Saver, SendTo, State, Thread, ThreadId, Value, Worker,
};
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest},
};

const WORK: Worker<String> = Worker::new("worker");

#[derive(State, Clone, Debug, Default, PartialEq)]
struct Tally {
    #[state(append)]
    log: Vec<String>,
    #[state(add)]
    sum: u64,
    #[state(max)]
    largest: u64,
    #[state(min)]
    smallest: i64,
    #[state(merge)]
    steps: BTreeMap<String, u64>,
    #[state(topic)]
    news: Vec<String>,
    #[state(fold = unite, write = String, delta)]
    names: BTreeSet<String>,
}

fn unite(names: &mut BTreeSet<String>, name: String) {
    names.insert(name);
}

/// A graph in numbers: nodes are 0, 1, .. and follow lower ones, but for the cycles.
#[derive(Debug, Clone)]
struct Plan {
    /// For each node but the first, one that leads to it.
    parents: Vec<u8>,
    edges: Vec<(u8, u8)>,
    joins: Vec<(u8, u8)>,
    /// A node, how many payloads it sends each time.
    sends: Vec<(u8, u8)>,
    /// From a node back to a lower one, until the log is so long.
    cycles: Vec<(u8, u8, u8)>,
    /// Nodes that run when nothing else is left.
    deferred: Vec<u8>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let pair = || (any::<u8>(), any::<u8>());
    (
        vec(any::<u8>(), 0..7),
        vec(pair(), 0..6),
        vec(pair(), 0..3),
        vec((any::<u8>(), 0..4_u8), 0..3),
        vec((any::<u8>(), any::<u8>(), 1..30_u8), 0..3),
        vec(any::<u8>(), 0..2),
    )
        .prop_map(|(parents, edges, joins, sends, cycles, deferred)| Plan {
            parents,
            edges,
            joins,
            sends,
            cycles,
            deferred,
        })
}

/// What nodes share: how long each takes, and what they wrote.
#[derive(Debug, Default)]
struct World {
    delays: Vec<u8>,
    written: Mutex<Vec<(u64, TallyUpdate)>>,
}

/// A number for a task that depends on what it is, not on when it runs.
fn number(text: &str) -> u64 {
    text.bytes()
        .fold(7, |number, byte| (number * 31 + u64::from(byte)) % 997)
}

async fn write(name: String, ctx: Context<World>) -> Result<TallyUpdate, NodeError> {
    let label = format!("{}:{name}", ctx.step());
    let (world, number) = (ctx.shared(), number(&label));
    let delays = world.delays.len().max(1) as u64;
    let place = usize::try_from(number % delays).unwrap();
    for _ in 0..world.delays.get(place).copied().unwrap_or(0) {
        tokio::task::yield_now().await;
    }
    let update = TallyUpdate::new()
        .log([label.clone()])
        .sum(number)
        .largest(number)
        .smallest(-i64::try_from(number).unwrap())
        .steps([(name.clone(), ctx.step())])
        .news([label])
        .names(name);
    let mut written = world.written.lock().unwrap();
    written.push((ctx.step(), update.clone()));
    Ok(update)
}

fn name(index: usize) -> String {
    format!("n{index}")
}

fn build(plan: &Plan) -> Graph<Tally, World> {
    let count = plan.parents.len() + 1;
    let index = |seed: u8| usize::from(seed) % count;
    let ordered = |(a, b): (u8, u8)| {
        let (a, b) = (index(a), index(b));
        (a.min(b), a.max(b))
    };
    let mut graph = GraphBuilder::new().worker(WORK, |payload: String, _, ctx| write(payload, ctx));
    for node in 0..count {
        let code = |_: Arc<Tally>, ctx: Context<World>| {
            let name = ctx.node().to_string();
            write(name, ctx)
        };
        let is_deferred = plan.deferred.iter().any(|seed| index(*seed) == node);
        graph = match is_deferred {
            true => graph.deferred_node(name(node), code),
            false => graph.node(name(node), code),
        };
        graph = graph.edge(name(node), END);
    }
    graph = graph.edge(START, name(0)).edge(WORK.name(), END);
    // The worker can be reached in every graph.
    graph = graph.destinations(name(0), [WORK.name()]);
    for (node, parent) in plan.parents.iter().enumerate() {
        graph = graph.edge(name(usize::from(*parent) % (node + 1)), name(node + 1));
    }
    for (from, to) in plan.edges.iter().copied().map(ordered) {
        if from < to {
            graph = graph.edge(name(from), name(to));
        }
    }
    for (first, second) in plan.joins.iter().copied().map(ordered) {
        if first < second && second + 1 < count {
            graph = graph.join([name(first), name(second)], name(second + 1));
        }
    }
    for (from, payloads) in plan.sends.iter().copied() {
        let (from, payloads) = (name(index(from)), payloads);
        let sender = from.clone();
        graph = graph.route(from, [WORK.name()], move |_: &Tally| -> Vec<SendTo> {
            let texts = (0..payloads).map(|n| format!("{sender}.{n}"));
            texts.map(|text| WORK.send(&text).unwrap()).collect()
        });
    }
    for (from, to, until) in plan.cycles.iter().copied() {
        let (to, from) = ordered((from, to));
        let back = name(to);
        graph = graph.route(name(from), [name(to)], move |tally: &Tally| {
            match tally.log.len() < usize::from(until) {
                true => vec![back.as_str().into()],
                false => Vec::new(),
            }
            .into_iter()
            .collect::<Names>()
        });
    }
    graph.compile().unwrap()
}

/// Names as a route.
#[derive(Default)]
struct Names(Vec<lyceum_graph::NodeName>);

impl FromIterator<lyceum_graph::NodeName> for Names {
    fn from_iter<T: IntoIterator<Item = lyceum_graph::NodeName>>(names: T) -> Self {
        Self(names.into_iter().collect())
    }
}

impl lyceum_graph::Routes for Names {
    fn into_route(self) -> lyceum_graph::Route {
        let names: Vec<&str> = self.0.iter().map(lyceum_graph::NodeName::as_str).collect();
        names.into_route()
    }
}

struct Ran {
    thread: Thread<Tally, World>,
    saver: Arc<MemorySaver>,
    world: Arc<World>,
    state: Option<Arc<Tally>>,
}

/// Steps of a run; a graph of more is only compared as far.
const STEPS: u64 = 12;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(future)
}

async fn run(graph: &Graph<Tally, World>, delays: Vec<u8>, limit: u64) -> Ran {
    let saver = Arc::new(MemorySaver::new());
    let thread = graph.thread(saver.clone(), ThreadId::new("t").unwrap());
    let written = Mutex::default();
    let world = Arc::new(World { delays, written });
    let config = || RunConfig::new(world.clone()).step_limit(limit);
    let mut result = thread.run(TallyUpdate::new(), config()).await;
    // A run of few steps at a time comes to the same end.
    for _ in limit..STEPS {
        if !matches!(result, Err(RunError::StepLimit { .. })) {
            break;
        }
        result = thread.resume(Answers::None, config()).await;
    }
    let state = match result {
        Ok(output) => Some(output.state),
        Err(error) => {
            assert!(matches!(error, RunError::StepLimit { .. }), "{error}");
            None
        }
    };
    Ran {
        thread,
        saver,
        world,
        state,
    }
}

impl Ran {
    /// Every checkpoint as it is stored, oldest first, without its time.
    async fn stored(&self) -> Vec<(Checkpoint, Vec<Value>)> {
        let id = self.thread.id();
        let heads = self.saver.history(id, "", None, usize::MAX).await.unwrap();
        let mut stored = Vec::new();
        for mut head in heads.into_iter().rev() {
            let saved = self.saver.load(id, "", Some(head.id)).await.unwrap();
            head.created_at_ms = 0;
            stored.push((head, saved.unwrap().values));
        }
        stored
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Merge order independence: who finishes first changes neither the state nor one byte
    /// of any checkpoint.
    #[test]
    fn any_interleaving_gives_the_same_checkpoints(
        plan in plans(),
        orders in vec(vec(0..6_u8, 1..9), 2..5),
    ) {
        let graph = build(&plan);
        block_on(async {
            let first = run(&graph, Vec::new(), STEPS).await;
            let stored = first.stored().await;
            for delays in orders {
                let other = run(&graph, delays, STEPS).await;
                prop_assert_eq!(&other.state, &first.state);
                prop_assert_eq!(other.stored().await, stored.clone());
            }
            Ok(())
        })?;
    }

    /// Stopping after every step and going on gives the checkpoints' states of one run.
    #[test]
    fn a_run_in_parts_is_the_run(plan in plans(), delays in vec(0..4_u8, 1..9)) {
        let graph = build(&plan);
        block_on(async {
            let whole = run(&graph, Vec::new(), STEPS).await;
            // A resumed run may take the step it finds and one more, so it comes as far.
            let parts = run(&graph, delays, 1).await;
            if whole.state.is_some() {
                prop_assert_eq!(&parts.state, &whole.state);
            }
            let heads = whole.thread.history(None, usize::MAX).await.unwrap();
            for head in heads {
                let one = whole.thread.snapshot(Some(head.id)).await.unwrap().unwrap();
                let other = parts.thread.snapshot(Some(head.id)).await.unwrap().unwrap();
                prop_assert_eq!(one.state, other.state);
                prop_assert_eq!(one.next, other.next);
            }
            Ok(())
        })?;
    }

    /// replay(history) = state: what nodes wrote up to a step, folded by a second hand in the
    /// order of the plans, is what the checkpoint of that step reads back.
    #[test]
    fn every_checkpoint_is_the_fold_of_what_was_written(
        plan in plans(),
        delays in vec(0..4_u8, 1..9),
    ) {
        let graph = build(&plan);
        block_on(async {
            let ran = run(&graph, delays, STEPS).await;
            let written = std::mem::take(&mut *ran.world.written.lock().unwrap());
            let mut heads = ran.thread.history(None, usize::MAX).await.unwrap();
            heads.reverse();
            let mut model = Tally::default();
            let mut planned: Vec<String> = Vec::new();
            for head in heads {
                let read = ran.thread.snapshot(Some(head.id)).await.unwrap().unwrap();
                let of_step = written.iter().filter(|(step, _)| *step == head.step);
                let mut by_label: BTreeMap<String, Vec<TallyUpdate>> = BTreeMap::new();
                for (_, update) in of_step {
                    let label = update.log.clone().unwrap().remove(0);
                    by_label.entry(label).or_default().push(update.clone());
                }
                model.news.clear();
                for label in planned.drain(..) {
                    // Each planned task wrote once.
                    let update = by_label.get_mut(&label).and_then(Vec::pop).unwrap();
                    model.sum += update.sum.unwrap();
                    model.largest = model.largest.max(update.largest.unwrap());
                    model.smallest = model.smallest.min(update.smallest.unwrap());
                    for (name, step) in update.steps.unwrap() {
                        let last = model.steps.entry(name).or_default();
                        *last = step.max(*last);
                    }
                    model.names.extend(update.names);
                    model.news.push(label.clone());
                    model.log.push(label);
                }
                prop_assert!(by_label.values().all(Vec::is_empty), "nobody ran who was not planned");
                prop_assert_eq!(&*read.state, &model);
                // What runs next: what was sent, in the order of sending, then nodes by name.
                let is_node = |task: &lyceum_graph::TaskSnapshot| task.payload.is_none();
                prop_assert!(read.tasks.is_sorted_by_key(is_node));
                let nodes = read.tasks.iter().filter(|task| is_node(task));
                prop_assert!(nodes.map(|task| &task.node).is_sorted());
                planned.extend(read.tasks.iter().map(|task| {
                    let name = match &task.payload {
                        Some(json) => serde_json::from_str(json).unwrap(),
                        None => task.node.to_string(),
                    };
                    format!("{}:{name}", head.step + 1)
                }));
            }
            Ok(())
        })?;
    }
}
