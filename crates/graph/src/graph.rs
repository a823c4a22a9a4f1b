//! A compiled graph and its runs.
//!
//! Invariant: a graph is immutable and cheap to clone; runs share nothing but it.
//! Deliberately absent: spawned tasks: a run proceeds while it is polled.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures_util::{Stream, future::BoxFuture};
use tokio::sync::mpsc::{self, Receiver};

use crate::{
    Event, EventKind, Input, Namespace, NodeName, Output, RunConfig, RunError, State,
    context::RunContext,
    driver::{Begin, drive},
    mode::Modes,
    outlet::{Events, now_ms},
    thread::Base,
    topology::{NodeCode, Topology},
};

/// A checked graph, ready to run any number of times at once.
pub struct Graph<S: State, C = (), E = ()> {
    pub(crate) topology: Arc<Topology<S>>,
    pub(crate) nodes: Arc<[NodeCode<S, C, E>]>,
}

impl<S, C, E> Graph<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    pub(crate) fn new(topology: Arc<Topology<S>>, nodes: Arc<[NodeCode<S, C, E>]>) -> Self {
        Self { topology, nodes }
    }

    /// The names of the nodes, sorted.
    #[must_use]
    pub fn node_names(&self) -> &[NodeName] {
        &self.topology.names
    }

    /// Runs the graph to its end.
    ///
    /// # Errors
    ///
    /// [`RunError`] when a node fails, writes collide or the step limit is reached.
    /// A cancelled run is not an error, see [`Output::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the nodes that run; nothing continues behind it.
    pub async fn run(
        &self,
        input: impl Into<Input<S>>,
        config: RunConfig<C>,
    ) -> Result<Output<S>, RunError> {
        let run = RunContext {
            config,
            outlet: None,
            durable: None,
            namespace: Namespace::default(),
        };
        drive(
            self.clone(),
            Begin::Input(input.into(), Base::Newest),
            Arc::new(run),
            None,
        )
        .await
    }

    /// Runs the graph as a stream of events: the last one is `Finished` or an error.
    ///
    /// The run proceeds only while the stream is polled, so a slow reader slows it down
    /// instead of filling memory. Dropping the stream drops the nodes that run.
    #[must_use = "a stream runs nothing until it is polled"]
    pub fn stream(&self, input: impl Into<Input<S>>, config: RunConfig<C>) -> RunStream<S, E> {
        let begin = Begin::Input(input.into(), Base::Newest);
        let graph = self.clone();
        RunStream::new(config.event_buffer, config.modes, move |events| {
            let run = RunContext {
                config,
                outlet: Some(events.clone()),
                durable: None,
                namespace: Namespace::default(),
            };
            Box::pin(drive(graph, begin, Arc::new(run), Some(events)))
        })
    }
}

impl<S: State, C, E> Clone for Graph<S, C, E> {
    fn clone(&self) -> Self {
        Self {
            topology: self.topology.clone(),
            nodes: self.nodes.clone(),
        }
    }
}

impl<S: State, C, E> fmt::Debug for Graph<S, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("nodes", &self.topology.names)
            .finish_non_exhaustive()
    }
}

/// The events of one run, and the run itself: see [`Graph::stream`].
#[must_use = "a stream runs nothing until it is polled"]
pub struct RunStream<S: State, E = ()> {
    run: Option<Running<S>>,
    result: Option<Result<Output<S>, RunError>>,
    // Boxed: the channel has room for many, and most runs tell few.
    events: Receiver<Box<Event<S, E>>>,
    seq: u64,
}

type Running<S> = BoxFuture<'static, Result<Output<S>, RunError>>;

impl<S: State, E: Send + 'static> RunStream<S, E> {
    /// The stream of the run that `start` makes.
    pub(crate) fn new(
        buffer: usize,
        modes: Modes,
        start: impl FnOnce(Arc<Events<S, E>>) -> Running<S>,
    ) -> Self {
        let (sender, events) = mpsc::channel(buffer);
        let run = start(Arc::new(Events::Stream { sender, modes }));
        Self {
            run: Some(run),
            result: None,
            events,
            seq: 0,
        }
    }
}

impl<S: State, E> RunStream<S, E> {
    fn number(&mut self, mut event: Event<S, E>) -> Event<S, E> {
        self.seq += 1;
        event.seq = self.seq;
        event
    }
}

impl<S: State, E> Stream for RunStream<S, E> {
    type Item = Result<Event<S, E>, RunError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(Some(event)) = self.events.poll_recv(cx) {
            return Poll::Ready(Some(Ok(self.number(*event))));
        }
        if let Some(run) = &mut self.run
            && let Poll::Ready(result) = run.as_mut().poll(cx)
        {
            self.run = None;
            self.result = Some(result);
        }
        // Polling the run may have filled the buffer; its events come before its result.
        if let Poll::Ready(Some(event)) = self.events.poll_recv(cx) {
            return Poll::Ready(Some(Ok(self.number(*event))));
        }
        if self.run.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(self.result.take().map(|result| {
            result.map(|output| {
                let (step, kind) = (output.steps, EventKind::Finished(output));
                self.number(Event {
                    seq: 0,
                    namespace: Namespace::default(),
                    step,
                    at_ms: now_ms(),
                    kind,
                })
            })
        }))
    }
}

impl<S: State, E> Unpin for RunStream<S, E> {}

impl<S: State, E> fmt::Debug for RunStream<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunStream")
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}
