//! The graph, the nodes and the thread that most tests share.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use lyceum_graph::{
    Context, Durability, END, Graph, GraphBuilder, MemorySaver, NodeError, RunConfig, START, State,
    Thread, ThreadId,
};

#[derive(State, Clone, Debug, Default, PartialEq)]
pub(crate) struct Log {
    #[state(append)]
    pub(crate) done: Vec<String>,
    pub(crate) last: String,
    #[state(untracked)]
    pub(crate) scratch: u32,
}

/// What the nodes of a test share: a count per effect, and switches.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) runs: Mutex<Vec<String>>,
    pub(crate) broken: AtomicBool,
    pub(crate) effects: AtomicUsize,
}

impl World {
    pub(crate) fn runs(&self) -> Vec<String> {
        std::mem::take(&mut *self.runs.lock().unwrap())
    }
}

pub(crate) type Ctx = Context<World, u8>;
pub(crate) type LogGraph = Graph<Log, World, u8>;

/// Says that it ran, and writes its name.
pub(crate) async fn work(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    ctx.shared()
        .runs
        .lock()
        .unwrap()
        .push(ctx.node().to_string());
    Ok(LogUpdate::new().done([ctx.node().to_string()]))
}

/// Works, unless the world is broken.
pub(crate) async fn brittle(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    // The siblings go first.
    tokio::task::yield_now().await;
    if ctx.shared().broken.load(Ordering::Relaxed) {
        return Err(NodeError::transient("broken"));
    }
    work(log, ctx).await
}

pub(crate) async fn ask(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
    let answer: String = ctx.interrupt("ask", "what?").await?;
    Ok(LogUpdate::new().done([format!("{}={answer}", ctx.node())]))
}

pub(crate) fn builder() -> GraphBuilder<Log, World, u8> {
    GraphBuilder::new()
}

/// `start` → `good` beside `bad` → `end`, where `bad` is brittle.
pub(crate) fn siblings() -> LogGraph {
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

pub(crate) struct Bench {
    pub(crate) thread: Thread<Log, World, u8>,
    pub(crate) saver: Arc<MemorySaver>,
    pub(crate) world: Arc<World>,
}

pub(crate) fn bench(graph: &LogGraph) -> Bench {
    let saver = Arc::new(MemorySaver::new());
    let thread = graph.thread(saver.clone(), ThreadId::new("t").unwrap());
    Bench {
        thread,
        saver,
        world: Arc::default(),
    }
}

impl Bench {
    pub(crate) fn config(&self) -> RunConfig<World> {
        RunConfig::new(self.world.clone())
    }

    pub(crate) async fn history(&self) -> usize {
        self.thread.history(None, 100).await.unwrap().len()
    }
}

pub(crate) const MODES: [Durability; 3] = [Durability::Sync, Durability::Async, Durability::Exit];

/// Waits for the world to break.
pub(crate) async fn hang(_: Arc<Log>, ctx: Ctx) -> Result<(), NodeError> {
    ctx.emit(1).await;
    while !ctx.shared().broken.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    Ok(())
}
