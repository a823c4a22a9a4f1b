//! How one run is made.
//!
//! Invariant: every limit is at least one. Deliberately absent: what belongs to the graph.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    Durability, Metadata, Mode, NodeName, Observer, Store, mode::Modes, observer::Observers,
    pause::Pauses,
};

/// Steps after which a cycle is taken for endless; a person rarely waits for a hundred
/// model calls, and a test that loops should fail in milliseconds.
const STEP_LIMIT: u64 = 100;

/// Events buffered between a run and its stream; a page of streamed text.
const EVENT_BUFFER: usize = 64;

/// The configuration of one run.
#[derive(Debug)]
pub struct RunConfig<C = ()> {
    pub(crate) shared: Arc<C>,
    pub(crate) cancel: CancellationToken,
    pub(crate) step_limit: u64,
    pub(crate) step_time_limit: Option<Duration>,
    pub(crate) max_concurrency: NonZeroUsize,
    pub(crate) modes: Modes,
    pub(crate) event_buffer: usize,
    pub(crate) drain: Option<CancellationToken>,
    pub(crate) durability: Durability,
    pub(crate) pauses: Arc<Pauses<NodeName>>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) observers: Observers,
    pub(crate) store: Option<Arc<dyn Store>>,
}

impl<C> Clone for RunConfig<C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            cancel: self.cancel.clone(),
            drain: self.drain.clone(),
            metadata: self.metadata.clone(),
            pauses: self.pauses.clone(),
            observers: self.observers.clone(),
            store: self.store.clone(),
            ..*self
        }
    }
}

impl<C> RunConfig<C> {
    /// A run whose nodes find this value in `Context::shared`.
    #[must_use]
    pub fn new(shared: impl Into<Arc<C>>) -> Self {
        Self {
            shared: shared.into(),
            cancel: CancellationToken::new(),
            step_limit: STEP_LIMIT,
            step_time_limit: None,
            max_concurrency: NonZeroUsize::MAX,
            modes: Modes::usual(),
            event_buffer: EVENT_BUFFER,
            drain: None,
            durability: Durability::default(),
            metadata: Arc::default(),
            pauses: Arc::default(),
            observers: Observers::default(),
            store: None,
        }
    }

    /// Cancels the run when this token is cancelled. Default: a token of its own.
    #[must_use]
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancel = token;
        self
    }

    /// Stops the run at its next step boundary when this token is cancelled: running nodes
    /// finish, and a thread can be resumed without repeating any of them. Default: none.
    #[must_use]
    pub fn drain(mut self, token: CancellationToken) -> Self {
        self.drain = Some(token);
        self
    }

    /// When a thread's progress is stored; without a thread it has no meaning. Default:
    /// [`Durability::Sync`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Attaches this to every checkpoint that the run makes, e.g. the id of a request.
    /// Default: nothing.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Tells an observer of the run's life, its subgraphs' included. Several may be given;
    /// they are told in this order. Default: none.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers = self.observers.with(observer);
        self
    }

    /// Gives nodes a store of items, which they find in `Context::store`. Default: none.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Stops this run before a step with one of these nodes of the outermost graph, beside
    /// those the graph itself names, see [`crate::GraphBuilder::interrupt_before`]. A run
    /// that names an unknown node fails. Default: none.
    #[must_use]
    pub fn interrupt_before<N: Into<NodeName>>(
        mut self,
        nodes: impl IntoIterator<Item = N>,
    ) -> Self {
        let nodes = nodes.into_iter().map(Into::into);
        Arc::make_mut(&mut self.pauses).before.extend(nodes);
        self
    }

    /// Stops this run after a step with one of these nodes of the outermost graph, see
    /// [`crate::GraphBuilder::interrupt_after`]. Default: none.
    #[must_use]
    pub fn interrupt_after<N: Into<NodeName>>(
        mut self,
        nodes: impl IntoIterator<Item = N>,
    ) -> Self {
        let nodes = nodes.into_iter().map(Into::into);
        Arc::make_mut(&mut self.pauses).after.extend(nodes);
        self
    }

    /// The most steps a run may take, at least 1; a step that is resumed counts. Default: 100.
    #[must_use]
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.step_limit = steps.max(1);
        self
    }

    /// The longest time that one step may take, in every graph of the run: after it the run
    /// fails with [`RunError::StepTimeLimit`](crate::RunError::StepTimeLimit), and its nodes
    /// are dropped. A thread keeps what the step's finished nodes wrote, and can be resumed.
    /// What is being stored is waited for. Default: none.
    #[must_use]
    pub fn step_time_limit(mut self, limit: Duration) -> Self {
        self.step_time_limit = Some(limit);
        self
    }

    /// The most nodes that run at once; the others of a step wait. Default: no limit.
    #[must_use]
    pub fn max_concurrency(mut self, nodes: NonZeroUsize) -> Self {
        self.max_concurrency = nodes;
        self
    }

    /// Which events a stream carries beside the last one, several modes at once. Default:
    /// all but [`Mode::Checkpoints`] and [`Mode::Debug`].
    #[must_use]
    pub fn modes(mut self, modes: impl IntoIterator<Item = Mode>) -> Self {
        self.modes = modes.into_iter().collect();
        self
    }

    /// The most events that wait for the reader, at least 1. Default: 64.
    #[must_use]
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.event_buffer = events.max(1);
        self
    }
}

impl<C: Default> Default for RunConfig<C> {
    fn default() -> Self {
        Self::new(C::default())
    }
}
