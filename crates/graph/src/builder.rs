//! Building a graph by name.
//!
//! Invariant: building never fails; every mistake waits for `compile`, which reports the
//! first one with its names. Deliberately absent: any checking here.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;

use crate::{
    AnyGraph, Command, CompileError, Context, Failure, Graph, Input, NodeError, NodeName,
    RetryPolicy, SendTo, State, Worker,
    cache::{CachePolicy, NodeCache},
    compile::compile,
    node::{self, NodeFn},
    pause::Pauses,
    subgraph,
    topology::Takes,
};

/// Where a route leads: node names and sends.
#[derive(Debug, Clone, Default)]
pub struct Route {
    pub(crate) goto: Vec<NodeName>,
    pub(crate) sends: Vec<SendTo>,
}

/// What the function of a route may return.
pub trait Routes {
    /// Says where the route leads.
    fn into_route(self) -> Route;
}

impl Routes for Route {
    fn into_route(self) -> Route {
        self
    }
}

impl Routes for &str {
    fn into_route(self) -> Route {
        Route {
            goto: vec![self.into()],
            sends: Vec::new(),
        }
    }
}

impl Routes for NodeName {
    fn into_route(self) -> Route {
        Route {
            goto: vec![self],
            sends: Vec::new(),
        }
    }
}

impl Routes for Vec<&str> {
    fn into_route(self) -> Route {
        Route {
            goto: self.into_iter().map(Into::into).collect(),
            sends: Vec::new(),
        }
    }
}

impl Routes for Vec<SendTo> {
    fn into_route(self) -> Route {
        Route {
            goto: Vec::new(),
            sends: self,
        }
    }
}

pub(crate) type RouteFn<S> = Arc<dyn Fn(&S) -> Route + Send + Sync>;

pub(crate) struct NodeSpec<S: State, C, E> {
    pub(crate) name: NodeName,
    pub(crate) run: NodeFn<S, C, E>,
    pub(crate) takes: Takes,
    pub(crate) deferred: bool,
    pub(crate) inner: Option<Arc<dyn AnyGraph>>,
}

/// One setting of one node, applied by `compile` when all nodes are known.
pub(crate) enum Setting {
    Retry(RetryPolicy),
    TimeLimit(Duration),
    IdleLimit(Duration),
    Rescue(&'static str),
}

/// Collects nodes and edges; [`GraphBuilder::compile`] checks them.
///
/// `S` is the state, `C` what nodes find in `Context::shared`, `E` what they emit.
pub struct GraphBuilder<S: State, C = (), E = ()> {
    pub(crate) nodes: Vec<NodeSpec<S, C, E>>,
    pub(crate) edges: Vec<(NodeName, NodeName)>,
    pub(crate) joins: Vec<(Vec<NodeName>, NodeName)>,
    pub(crate) routes: Vec<(NodeName, RouteFn<S>)>,
    pub(crate) declared: Vec<(NodeName, Vec<NodeName>)>,
    pub(crate) settings: Vec<(NodeName, Setting)>,
    pub(crate) caches: Vec<(NodeName, NodeCache<S>)>,
    pub(crate) writes: Vec<(NodeName, Vec<String>)>,
    pub(crate) pauses: Pauses<NodeName>,
}

impl<S, C, E> GraphBuilder<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    /// A graph without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            edges: Vec::new(),
            joins: Vec::new(),
            routes: Vec::new(),
            declared: Vec::new(),
            settings: Vec::new(),
            caches: Vec::new(),
            writes: Vec::new(),
            pauses: Pauses::default(),
        }
    }

    /// Adds a node: an async function of a snapshot and a context.
    #[must_use]
    pub fn node<F, Fut, R>(self, name: impl Into<NodeName>, node: F) -> Self
    where
        F: Fn(Arc<S>, Context<C, E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, NodeError>> + Send + 'static,
        R: Into<Command<S>>,
    {
        self.add(name.into(), node::plain(node), Takes::State)
    }

    /// Adds a node that runs only when nothing else is left to run: a last word on
    /// branches of different lengths.
    #[must_use]
    pub fn deferred_node<F, Fut, R>(self, name: impl Into<NodeName>, node: F) -> Self
    where
        F: Fn(Arc<S>, Context<C, E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, NodeError>> + Send + 'static,
        R: Into<Command<S>>,
    {
        let mut builder = self.add(name.into(), node::plain(node), Takes::State);
        if let Some(node) = builder.nodes.last_mut() {
            node.deferred = true;
        }
        builder
    }

    /// Adds a node that runs once for each payload sent to it.
    #[must_use]
    pub fn worker<T, F, Fut, R>(self, worker: Worker<T>, node: F) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(T, Arc<S>, Context<C, E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, NodeError>> + Send + 'static,
        R: Into<Command<S>>,
    {
        self.add(worker.name().into(), node::worker(node), Takes::Payload)
    }

    /// Adds a graph as a node: each run of the node runs it from an empty state.
    ///
    /// `enter` makes its input of the outer state; `leave` makes the node's result of its
    /// final state. Its events carry the node's name in their path, its interrupts are the
    /// run's, and in a thread its progress is kept like the outer graph's. An attempt of the
    /// node that fails or runs out of time is followed by one that goes on where it stopped.
    #[must_use]
    pub fn subgraph<T, I, R>(
        self,
        name: impl Into<NodeName>,
        graph: Graph<T, C, E>,
        enter: impl Fn(&S) -> I + Send + Sync + 'static,
        leave: impl Fn(&T) -> R + Send + Sync + 'static,
    ) -> Self
    where
        T: State,
        I: Into<Input<T>>,
        R: Into<Command<S>>,
    {
        let inner: Arc<dyn AnyGraph> = Arc::new(graph.clone());
        let code = subgraph::subgraph(graph, enter, leave, false);
        self.add(name.into(), code, Takes::State).made_of(inner)
    }

    /// Adds a graph as a node that continues from its own last state in each run of the
    /// node. It keeps that state only in a thread, where it belongs to the thread's
    /// checkpoints: a run from an older one continues what the graph knew then.
    #[must_use]
    pub fn subgraph_with_memory<T, I, R>(
        self,
        name: impl Into<NodeName>,
        graph: Graph<T, C, E>,
        enter: impl Fn(&S) -> I + Send + Sync + 'static,
        leave: impl Fn(&T) -> R + Send + Sync + 'static,
    ) -> Self
    where
        T: State,
        I: Into<Input<T>>,
        R: Into<Command<S>>,
    {
        let inner: Arc<dyn AnyGraph> = Arc::new(graph.clone());
        let code = subgraph::subgraph(graph, enter, leave, true);
        self.add(name.into(), code, Takes::State).made_of(inner)
    }

    /// Adds a graph as a node that runs once for each payload sent to it, side by side, each
    /// run from an empty state; see [`GraphBuilder::subgraph`].
    #[must_use]
    pub fn subgraph_worker<P, T, I, R>(
        self,
        worker: Worker<P>,
        graph: Graph<T, C, E>,
        enter: impl Fn(P, &S) -> I + Send + Sync + 'static,
        leave: impl Fn(&T) -> R + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        T: State,
        I: Into<Input<T>>,
        R: Into<Command<S>>,
    {
        let inner: Arc<dyn AnyGraph> = Arc::new(graph.clone());
        let code = subgraph::worker(graph, enter, leave);
        let name = worker.name().into();
        self.add(name, code, Takes::Payload).made_of(inner)
    }

    /// Tries a node again after transient failures and time-outs.
    #[must_use]
    pub fn retry(self, node: impl Into<NodeName>, policy: RetryPolicy) -> Self {
        self.set(node.into(), Setting::Retry(policy))
    }

    /// Cuts off an attempt of a node after this time; that is a transient failure.
    #[must_use]
    pub fn time_limit(self, node: impl Into<NodeName>, limit: Duration) -> Self {
        self.set(node.into(), Setting::TimeLimit(limit))
    }

    /// Cuts off an attempt of a node that gives no sign of life (an event, a heartbeat, a
    /// recorded effect) for this time; that is a transient failure.
    #[must_use]
    pub fn idle_limit(self, node: impl Into<NodeName>, limit: Duration) -> Self {
        self.set(node.into(), Setting::IdleLimit(limit))
    }

    /// Starts a worker in the next step when a node has failed for good, instead of failing
    /// the run; the node's own edges are then not taken.
    #[must_use]
    pub fn on_error(self, node: impl Into<NodeName>, handler: Worker<Failure>) -> Self {
        self.set(node.into(), Setting::Rescue(handler.name()))
    }

    /// Keeps the results of a node: while one is fresh, a task whose state gives the same
    /// key takes it instead of running. Results of sends are not kept. Two graphs, compiled
    /// twice, keep their own.
    #[must_use]
    pub fn cache(
        mut self,
        node: impl Into<NodeName>,
        policy: CachePolicy,
        key: impl Fn(&S) -> String + Send + Sync + 'static,
    ) -> Self {
        self.caches
            .push((node.into(), NodeCache::new(policy, Arc::new(key))));
        self
    }

    /// Declares the only fields that a node writes. `compile` then finds two nodes that
    /// certainly run in one step and both write a field that takes one write a step; a run
    /// fails when the node writes another field.
    #[must_use]
    pub fn writes<F: Into<String>>(
        mut self,
        node: impl Into<NodeName>,
        fields: impl IntoIterator<Item = F>,
    ) -> Self {
        let fields = fields.into_iter().map(Into::into).collect();
        self.writes.push((node.into(), fields));
        self
    }

    /// Stops every run before a step in which this node would run, with
    /// [`crate::Status::Paused`]. On a thread, `resume(Answers::None, ..)` goes on; until
    /// then the state can be read and corrected. A node that needs an answer asks for it
    /// with `Context::interrupt` instead.
    #[must_use]
    pub fn interrupt_before(mut self, node: impl Into<NodeName>) -> Self {
        self.pauses.before.push(node.into());
        self
    }

    /// Stops every run after a step in which this node has run, if anything follows; see
    /// [`GraphBuilder::interrupt_before`].
    #[must_use]
    pub fn interrupt_after(mut self, node: impl Into<NodeName>) -> Self {
        self.pauses.after.push(node.into());
        self
    }

    fn set(mut self, node: NodeName, setting: Setting) -> Self {
        self.settings.push((node, setting));
        self
    }

    fn add(mut self, name: NodeName, run: NodeFn<S, C, E>, takes: Takes) -> Self {
        self.nodes.push(NodeSpec {
            name,
            run,
            takes,
            deferred: false,
            inner: None,
        });
        self
    }

    /// The node that was added last is this graph.
    fn made_of(mut self, inner: Arc<dyn AnyGraph>) -> Self {
        if let Some(node) = self.nodes.last_mut() {
            node.inner = Some(inner);
        }
        self
    }

    /// Runs `to` in the step after `from`. Several edges into one node run it once a step.
    #[must_use]
    pub fn edge(mut self, from: impl Into<NodeName>, to: impl Into<NodeName>) -> Self {
        self.edges.push((from.into(), to.into()));
        self
    }

    /// Runs `to` once after all of `from` have run, however many steps that takes.
    #[must_use]
    pub fn join<N: Into<NodeName>>(
        mut self,
        from: impl IntoIterator<Item = N>,
        to: impl Into<NodeName>,
    ) -> Self {
        self.joins
            .push((from.into_iter().map(Into::into).collect(), to.into()));
        self
    }

    /// Chooses among the declared targets after each run of `from`. The function sees the
    /// state after all writes of the step were merged; it must be pure.
    #[must_use]
    pub fn route<N: Into<NodeName>, R: Routes>(
        mut self,
        from: impl Into<NodeName>,
        targets: impl IntoIterator<Item = N>,
        choose: impl Fn(&S) -> R + Send + Sync + 'static,
    ) -> Self {
        let from = from.into();
        self.routes.push((
            from.clone(),
            Arc::new(move |state| choose(state).into_route()),
        ));
        self.destinations(from, targets)
    }

    /// Declares where the commands of `from` may go or send.
    #[must_use]
    pub fn destinations<N: Into<NodeName>>(
        mut self,
        from: impl Into<NodeName>,
        targets: impl IntoIterator<Item = N>,
    ) -> Self {
        self.declared
            .push((from.into(), targets.into_iter().map(Into::into).collect()));
        self
    }

    /// Checks the graph.
    ///
    /// # Errors
    ///
    /// The first mistake found, see [`CompileError`].
    pub fn compile(self) -> Result<Graph<S, C, E>, CompileError> {
        compile(self)
    }
}

impl<S, C, E> Default for GraphBuilder<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<S: State, C, E> fmt::Debug for GraphBuilder<S, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphBuilder")
            .field(
                "nodes",
                &self.nodes.iter().map(|node| &node.name).collect::<Vec<_>>(),
            )
            .field("edges", &self.edges)
            .finish_non_exhaustive()
    }
}
