//! A graph's runs on one durable thread.
//!
//! Invariant: whatever writes holds the thread's lease, so two writers never interleave.
//! Deliberately absent: waiting for a busy thread; the caller decides what to do instead.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    Answers, CheckpointId, Claim, Graph, Input, Interrupt, Keep, Metadata, Namespace, NodeName,
    Output, RunConfig, RunError, START, Saver, SaverError, State, ThreadId,
    checkpoint::Plan,
    context::RunContext,
    driver::{Begin, drive},
    durable::{Durability, Durable, HeldLease},
    graph::RunStream,
    journal::{Journal, recorded},
    machine::Machine,
    outlet::Events,
    saver::{Checkpoint, Source},
};

/// How long a silent writer keeps a thread. Long enough for a slow disk and a paused
/// process, short enough that a person who retries after a crash is not sent away twice.
const LEASE: Duration = Duration::from_secs(30);

/// One thread of a graph: see [`Graph::thread`].
pub struct Thread<S: State, C = (), E = ()> {
    graph: Graph<S, C, E>,
    saver: Arc<dyn Saver>,
    id: ThreadId,
    claim: Claim,
    lease: Duration,
}

/// A thread's state at one checkpoint.
#[derive(Clone)]
pub struct Snapshot<S> {
    /// The state.
    pub state: Arc<S>,
    /// The checkpoint it was read from.
    pub checkpoint: Checkpoint,
    /// What runs when the thread is resumed; empty when it is done.
    pub next: Vec<NodeName>,
    /// What waits for an answer.
    pub interrupts: Vec<Interrupt>,
}

impl<S, C, E> Graph<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    /// The graph on one thread, whose state and progress the saver keeps.
    #[must_use]
    pub fn thread(&self, saver: Arc<dyn Saver>, id: ThreadId) -> Thread<S, C, E> {
        Thread {
            graph: self.clone(),
            saver,
            id,
            claim: Claim::default(),
            lease: LEASE,
        }
    }
}

impl<S, C, E> Thread<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    /// The thread's id.
    #[must_use]
    pub fn id(&self) -> &ThreadId {
        &self.id
    }

    /// What to do when another writer holds the thread. Default: fail.
    #[must_use]
    pub fn claim(mut self, claim: Claim) -> Self {
        self.claim = claim;
        self
    }

    /// How long the thread stays taken after its writer has died. Default: 30 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Runs the graph on the thread's state: the input is merged into it, and the run
    /// begins at the start. Whatever an earlier run left undone is given up.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`]; [`SaverError::Busy`] when another writer holds the thread,
    /// [`SaverError::Fenced`] when one has taken it over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the nodes that run; what was recorded stays recorded, and
    /// the thread is given back by a short task on the current tokio runtime.
    pub async fn run(
        &self,
        input: impl Into<Input<S>>,
        config: RunConfig<C>,
    ) -> Result<Output<S>, RunError> {
        self.start(Begin::Input(input.into()), config, None).await
    }

    /// Continues where the thread stopped: after an interrupt, a crash, a failure, a
    /// cancellation or a drain. Nodes whose results were recorded do not run again. On a
    /// thread that is done it does nothing.
    ///
    /// # Errors
    ///
    /// As [`Thread::run`]; [`RunError::NoCheckpoint`] on a thread that never ran,
    /// [`RunError::AmbiguousAnswer`] and [`RunError::UnknownInterrupt`] for answers that
    /// do not fit.
    ///
    /// # Cancel safety
    ///
    /// As [`Thread::run`].
    pub async fn resume(
        &self,
        answers: Answers,
        config: RunConfig<C>,
    ) -> Result<Output<S>, RunError> {
        self.start(Begin::Resume(answers), config, None).await
    }

    /// [`Thread::run`] as a stream of events, see [`Graph::stream`].
    pub fn stream(&self, input: impl Into<Input<S>>, config: RunConfig<C>) -> RunStream<S, E> {
        self.events(Begin::Input(input.into()), config)
    }

    /// [`Thread::resume`] as a stream of events, see [`Graph::stream`].
    pub fn resume_stream(&self, answers: Answers, config: RunConfig<C>) -> RunStream<S, E> {
        self.events(Begin::Resume(answers), config)
    }

    fn events(&self, begin: Begin<S>, config: RunConfig<C>) -> RunStream<S, E> {
        let thread = self.clone();
        RunStream::new(config.event_buffer, config.modes, move |events| {
            Box::pin(async move { thread.start(begin, config, Some(events)).await })
        })
    }

    fn start(
        &self,
        begin: Begin<S>,
        config: RunConfig<C>,
        events: Option<Arc<Events<S, E>>>,
    ) -> BoxFuture<'_, Result<Output<S>, RunError>> {
        Box::pin(async move {
            let metadata = config.metadata.clone();
            let durable = Arc::new(self.acquire(config.durability, metadata).await?);
            let held = durable.held.clone();
            let outlet = events.clone().map(|events| events as _);
            let run = RunContext {
                config,
                outlet,
                durable: Some(durable),
                namespace: Namespace::default(),
            };
            let result = drive(self.graph.clone(), begin, Arc::new(run), events).await;
            held.release().await;
            result
        })
    }

    async fn acquire(
        &self,
        durability: Durability,
        metadata: Arc<Metadata>,
    ) -> Result<Durable, SaverError> {
        let lease = self.saver.acquire(&self.id, self.lease, self.claim).await?;
        let held = Arc::new(HeldLease::new(self.saver.clone(), lease));
        let saver = self.saver.clone();
        Ok(Durable::root(held, saver, durability, metadata))
    }

    /// Reads the thread's newest state, or the one of a checkpoint. Needs no lease.
    ///
    /// # Errors
    ///
    /// [`RunError::Saver`], and [`RunError::Decode`] or [`RunError::UnknownInPlan`] when
    /// what is stored does not fit the graph.
    pub async fn snapshot(
        &self,
        checkpoint: Option<CheckpointId>,
    ) -> Result<Option<Snapshot<S>>, RunError> {
        let Some(saved) = self.saver.load(&self.id, "", checkpoint).await? else {
            return Ok(None);
        };
        let mut machine = self.machine();
        machine.restore(&saved)?;
        let plan = Plan::read(&saved.checkpoint)?;
        let recorded = recorded::<S>(&saved)?;
        Ok(Some(Snapshot {
            state: machine.state().clone(),
            next: plan.tasks.into_iter().map(|task| task.node).collect(),
            interrupts: recorded
                .into_values()
                .flat_map(|recorded| recorded.pending)
                .collect(),
            checkpoint: saved.checkpoint,
        }))
    }

    /// Lists the thread's checkpoints, newest first, older than `before`.
    ///
    /// # Errors
    ///
    /// What the saver gives.
    pub async fn history(
        &self,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> Result<Vec<Checkpoint>, SaverError> {
        self.saver.history(&self.id, "", before, limit).await
    }

    /// Writes the state from outside. With `as_node` the thread continues after that node
    /// ([`START`] plans the first nodes); without, what was planned stays planned.
    ///
    /// # Errors
    ///
    /// As [`Thread::run`]; [`RunError::UnknownInPlan`] when the graph has no such node.
    pub async fn update(
        &self,
        update: S::Update,
        as_node: Option<&NodeName>,
    ) -> Result<CheckpointId, RunError> {
        self.rewrite(None, Source::Update, |machine| match as_node {
            Some(name) if name.as_str() == START => {
                machine.begin(Input::Update(update)).map(|_planned| ())
            }
            Some(name) => {
                let id = machine.known(name)?;
                machine.write(update, Some(id))
            }
            None => machine.write(update, None),
        })
        .await
    }

    /// Makes an older checkpoint the newest again: the next resume runs on from there, and
    /// its interrupts ask again. The branch that is left stays in the history.
    ///
    /// # Errors
    ///
    /// As [`Thread::run`]; [`RunError::NoCheckpoint`] when there is no such checkpoint.
    pub async fn fork(&self, checkpoint: CheckpointId) -> Result<CheckpointId, RunError> {
        self.rewrite(Some(checkpoint), Source::Fork, |_| Ok(()))
            .await
    }

    async fn rewrite(
        &self,
        from: Option<CheckpointId>,
        source: Source,
        write: impl FnOnce(&mut Machine<S>) -> Result<(), RunError>,
    ) -> Result<CheckpointId, RunError> {
        let durable = Arc::new(self.acquire(Durability::Sync, Arc::default()).await?);
        let held = durable.held.clone();
        let written = self.write_checkpoint(durable, from, source, write).await;
        held.release().await;
        written
    }

    async fn write_checkpoint(
        &self,
        durable: Arc<Durable>,
        from: Option<CheckpointId>,
        source: Source,
        write: impl FnOnce(&mut Machine<S>) -> Result<(), RunError>,
    ) -> Result<CheckpointId, RunError> {
        let saved = self.saver.load(&self.id, "", from).await?;
        let mut machine = self.machine();
        let mut journal = Journal::new(durable);
        match &saved {
            Some(saved) => {
                machine.restore(saved)?;
                journal.continue_from(saved.checkpoint.id);
            }
            None if from.is_some() => return Err(RunError::NoCheckpoint),
            None => {}
        }
        write(&mut machine)?;
        journal.checkpoint(&mut machine, source, false).await?;
        Ok(journal.current())
    }

    /// Removes old checkpoints, and says how many.
    ///
    /// # Errors
    ///
    /// [`SaverError::Busy`] while a run writes the thread.
    pub async fn prune(&self, keep: Keep) -> Result<u64, SaverError> {
        let durable = self.acquire(Durability::Sync, Arc::default()).await?;
        let removed = self.saver.prune(&durable.held.lease, keep).await;
        durable.held.release().await;
        removed
    }

    fn machine(&self) -> Machine<S> {
        let mut machine = Machine::new(self.graph.topology.clone(), u64::MAX);
        machine.keep_writes();
        machine
    }
}

impl<S: State, C, E> Clone for Thread<S, C, E> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            saver: self.saver.clone(),
            id: self.id.clone(),
            ..*self
        }
    }
}

impl<S: State, C, E> fmt::Debug for Thread<S, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Shows numbers and names, not values: a log is no place for a state.
impl<S> fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("checkpoint", &self.checkpoint.id)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
