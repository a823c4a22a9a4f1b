//! The graphs that are measured. No node does any work, so the time is the runtime's own.
//!
//! Invariant: every run checks its final state. The programs in `python/graph.py` have the
//! same shapes, nodes and results.

use std::{fmt, sync::Arc};

use anyhow::{Result, ensure};
use futures::{FutureExt as _, future::BoxFuture};
use lyceum_graph::{
    Context, Durability, END, Graph, GraphBuilder, Input, NodeError, RunConfig, START, Saver,
    SendTo, State, Status, ThreadId, Worker,
};
use tokio::sync::Barrier;

/// Payloads of the fan-out by sends.
const SENDS: u64 = 100;
/// Supersteps of the loop.
const TURNS: u64 = 1_000;

/// Where a run is kept, if anywhere, and when it is stored there.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// The saver.
    pub saver: Option<Arc<dyn Saver>>,
    /// When.
    pub durability: Durability,
}

/// One run of a case; the number makes the thread's id.
type Once = Box<dyn Fn(Kept, u64) -> BoxFuture<'static, Result<()>> + Send>;

/// A graph with its input and its expected result.
pub struct Case {
    /// Its name in the figures.
    pub name: &'static str,
    /// Supersteps of a run.
    pub steps: u32,
    /// What a time is divided by: 1 for a run's time, `steps` for a step's.
    pub units: u32,
    /// The most microseconds it should take without a saver, after that division.
    pub target_us: Option<f64>,
    once: Once,
}

impl Case {
    /// Runs it once, as the thread of that number, and checks the result.
    ///
    /// # Errors
    ///
    /// When the run fails or ends with another state.
    pub async fn run(&self, kept: Kept, number: u64) -> Result<()> {
        (self.once)(kept, number).await
    }

    fn new<S>(
        name: &'static str,
        steps: u32,
        graph: Graph<S>,
        input: S,
        is_right: fn(&S) -> bool,
    ) -> Self
    where
        S: State + Into<Input<S>>,
    {
        let once = move |kept: Kept, number| {
            let (graph, input) = (graph.clone(), input.clone());
            async move {
                let config = RunConfig::default()
                    .step_limit(u64::from(steps) + 1)
                    .durability(kept.durability);
                let output = match kept.saver {
                    None => graph.run(input, config).await?,
                    Some(saver) => {
                        let id = ThreadId::new(format!("{name}-{number}"))?;
                        graph.thread(saver, id).run(input, config).await?
                    }
                };
                ensure!(output.status == Status::Done, "{name} was not done");
                ensure!(is_right(&output.state), "{name} gave a wrong result");
                Ok(())
            }
            .boxed()
        };
        Self {
            name,
            steps,
            units: 1,
            target_us: None,
            once: Box::new(once),
        }
    }

    fn target(mut self, target_us: f64) -> Self {
        self.target_us = Some(target_us);
        self
    }

    fn per_step(mut self) -> Self {
        self.units = self.steps;
        self
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All cases in the order of the figures.
#[must_use]
pub fn all() -> Vec<Case> {
    let right = |count: &Count| count.value == 3;
    let ten = |count: &Count| count.value == 10;
    vec![
        Case::new("chain-3", 3, chain(3), Count::default(), right).target(10.0),
        Case::new("fan-out-5", 2, fan_out(), Sum::default(), |sum| {
            sum.joined == 5
        })
        .target(25.0),
        Case::new("chain-10", 10, chain(10), Count::default(), ten),
        Case::new("send-100", 2, sends(), Items::default(), |items| {
            items.total == SENDS * (SENDS - 1)
        }),
        Case::new("loop-1000", 1_000, turns(), Count::default(), |count| {
            count.value == TURNS
        }),
        long::<30>("step-of-30"),
        long::<300>("step-of-300"),
        long::<3_000>("step-of-3000"),
    ]
}

/// The cost of one step in a chain of so many nodes; it should not grow with them.
fn long<const NODES: u32>(name: &'static str) -> Case {
    let right = |count: &Count| count.value == u64::from(NODES);
    Case::new(name, NODES, chain(NODES), Count::default(), right).per_step()
}

/// A state of one number.
#[derive(State, Clone, Debug, Default)]
pub struct Count {
    /// Nodes that have run.
    pub value: u64,
}

async fn count(state: Arc<Count>, _: Context) -> Result<CountUpdate, NodeError> {
    Ok(CountUpdate::new().value(state.value + 1))
}

/// The graphs of this module are right, and a wrong one is noticed by its first run.
fn compiled<S: State>(builder: GraphBuilder<S>) -> Graph<S> {
    builder
        .compile()
        .unwrap_or_else(|error| unreachable!("a graph of this benchmark does not compile: {error}"))
}

/// Nodes one after another, each adding one.
#[must_use]
pub fn chain(nodes: u32) -> Graph<Count> {
    compiled(chained(nodes, |builder, name| builder.node(name, count)))
}

/// The same; each node waits until the others of a crowd have come as far, so that all of
/// them are under way at once.
#[must_use]
pub fn meeting_chain(nodes: u32, crowd: usize) -> Graph<Count> {
    let meeting = Arc::new(Barrier::new(crowd));
    compiled(chained(nodes, |builder, name| {
        let meeting = meeting.clone();
        builder.node(name, move |state: Arc<Count>, context: Context| {
            let meeting = meeting.clone();
            async move {
                meeting.wait().await;
                count(state, context).await
            }
        })
    }))
}

fn chained(
    nodes: u32,
    add: impl Fn(GraphBuilder<Count>, String) -> GraphBuilder<Count>,
) -> GraphBuilder<Count> {
    let name = |n: u32| format!("n{n:04}");
    let mut builder = GraphBuilder::new().edge(START, name(0));
    for n in 0..nodes {
        builder = add(builder, name(n));
        builder = match n + 1 {
            next if next == nodes => builder.edge(name(n), END),
            next => builder.edge(name(n), name(next)),
        };
    }
    builder
}

#[derive(State, Clone, Debug, Default)]
struct Sum {
    #[state(add)]
    total: u64,
    joined: u64,
}

fn fan_out() -> Graph<Sum> {
    let names = ["a", "b", "c", "d", "e"];
    let mut builder = GraphBuilder::new();
    for name in names {
        let add = async |_: Arc<Sum>, _: Context| Ok(SumUpdate::new().total(1u64));
        builder = builder.node(name, add).edge(START, name);
    }
    compiled(
        builder
            .node("join", async |sum: Arc<Sum>, _: Context| {
                Ok(SumUpdate::new().joined(sum.total))
            })
            .join(names, "join")
            .edge("join", END),
    )
}

#[derive(State, Clone, Debug, Default)]
struct Items {
    #[state(append)]
    items: Vec<u64>,
    total: u64,
}

const DOUBLE: Worker<u64> = Worker::new("double");

fn sends() -> Graph<Items> {
    let split = |_: &Items| -> Vec<SendTo> {
        // A number is always serialised.
        (0..SENDS).filter_map(|n| DOUBLE.send(&n).ok()).collect()
    };
    compiled(
        GraphBuilder::new()
            .route(START, [DOUBLE.name()], split)
            .worker(DOUBLE, async |n: u64, _: Arc<Items>, _: Context| {
                Ok(ItemsUpdate::new().items([n * 2]))
            })
            .edge(DOUBLE.name(), "gather")
            .node("gather", async |state: Arc<Items>, _: Context| {
                Ok(ItemsUpdate::new().total(state.items.iter().sum::<u64>()))
            })
            .edge("gather", END),
    )
}

fn turns() -> Graph<Count> {
    compiled(
        GraphBuilder::new()
            .node("turn", count)
            .edge(START, "turn")
            .route("turn", ["turn", END], |count: &Count| match count.value {
                0..TURNS => "turn",
                _ => END,
            }),
    )
}
