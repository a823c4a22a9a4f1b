//! A graph's runs on one durable thread.
//!
//! Invariant: whatever writes holds the thread's lease, so two writers never interleave.
//! Deliberately absent: waiting for a busy thread; the caller decides what to do instead.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    Answers, CheckpointId, Claim, Command, Graph, Input, Metadata, Multitask, Namespace, Output,
    RunConfig, RunError, Saver, SaverError, State, ThreadId, Turns,
    context::RunContext,
    driver::{Begin, drive},
    durable::{self, Durability, Durable, HeldLease},
    graph::RunStream,
    outlet::Events,
    turns::Turn,
};

/// How long a silent writer keeps a thread. Long enough for a slow disk and a paused
/// process, short enough that a person who retries after a crash is not sent away twice.
const LEASE: Duration = Duration::from_secs(30);

/// Where a run of a thread begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// At its newest checkpoint, if it has any.
    Newest,
    /// At this one.
    At(CheckpointId),
    /// As if it had none.
    Empty,
}

impl Base {
    /// The checkpoint to load; `None` for the newest.
    pub(crate) fn checkpoint(self) -> Option<CheckpointId> {
        match self {
            Self::At(checkpoint) => Some(checkpoint),
            Self::Newest | Self::Empty => None,
        }
    }
}

impl From<Option<CheckpointId>> for Base {
    fn from(checkpoint: Option<CheckpointId>) -> Self {
        checkpoint.map_or(Self::Empty, Self::At)
    }
}

/// One thread of a graph: see [`Graph::thread`].
pub struct Thread<S: State, C = (), E = ()> {
    pub(crate) graph: Graph<S, C, E>,
    pub(crate) saver: Arc<dyn Saver>,
    pub(crate) id: ThreadId,
    pub(crate) base: Base,
    /// The subgraph whose part of the thread this is.
    pub(crate) namespace: Namespace,
    pub(crate) metadata: Arc<Metadata>,
    claim: Claim,
    lease: Duration,
    turns: Option<(Turns, Multitask)>,
    keep: Option<NonZeroU32>,
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
            base: Base::Newest,
            namespace: Namespace::default(),
            metadata: Arc::default(),
            claim: Claim::default(),
            lease: LEASE,
            turns: None,
            keep: None,
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

    /// The thread as it was at a checkpoint: runs, resumes and updates go on from there
    /// instead of from the newest one, as a branch; the other branch stays in the history.
    ///
    /// When an older checkpoint is resumed, its interrupts ask again; answers to the
    /// questions of that checkpoint are taken, though they were answered before.
    #[must_use]
    pub fn at(&self, checkpoint: CheckpointId) -> Self {
        let mut thread = self.clone();
        thread.base = Base::At(checkpoint);
        thread
    }

    /// The part of the thread that this graph keeps as a subgraph of another, for reading
    /// and for [`Thread::update`]; only the outermost graph runs.
    #[must_use]
    pub fn within(&self, namespace: Namespace) -> Self {
        let mut thread = self.clone();
        thread.namespace = namespace;
        thread
    }

    /// What to do when another run of this process has the thread: see [`Multitask`]. All
    /// runs that are to respect each other share the turns. Default: the thread's lease
    /// refuses the second run.
    #[must_use]
    pub fn multitask(mut self, turns: &Turns, strategy: Multitask) -> Self {
        self.turns = Some((turns.clone(), strategy));
        self
    }

    /// Attaches this to the checkpoints that [`Thread::update`] and [`Thread::fork`] make;
    /// those of a run carry its configuration's. Default: nothing.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Removes old checkpoints while the thread is written: the newest so many of each
    /// namespace are kept, at least 1, and at most about twice as many exist. A removal that
    /// fails costs no run: observers are told, see
    /// [`MomentKind::PruneFailed`](crate::MomentKind::PruneFailed), and it is tried again
    /// after the next checkpoint. Default: all are kept.
    #[must_use]
    pub fn keep_last(mut self, checkpoints: u32) -> Self {
        self.keep = Some(NonZeroU32::new(checkpoints).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Runs the graph on the thread's state: the input is merged into it, and the run
    /// begins at the start. Whatever an earlier run left undone is given up.
    ///
    /// # Errors
    ///
    /// As [`Graph::run`]; [`SaverError::Busy`] when another writer holds the thread,
    /// [`SaverError::Fenced`] when one has taken it over; [`RunError::NotStarted`] when
    /// another run displaced this one while it waited for its turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the nodes that run; what was recorded stays recorded (with
    /// [`Durability::Exit`] nothing was), and the thread is given back by a short task on the
    /// current tokio runtime.
    pub async fn run(
        &self,
        input: impl Into<Input<S>>,
        config: RunConfig<C>,
    ) -> Result<Output<S>, RunError> {
        self.start(Begin::Input(input.into(), Base::Newest), config, None)
            .await
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
        self.start(Begin::Resume(answers, None), config, None).await
    }

    /// [`Thread::run`] as a stream of events, see [`Graph::stream`].
    pub fn stream(&self, input: impl Into<Input<S>>, config: RunConfig<C>) -> RunStream<S, E> {
        self.events(Begin::Input(input.into(), Base::Newest), config)
    }

    /// [`Thread::resume`] as a stream of events, see [`Graph::stream`].
    pub fn resume_stream(&self, answers: Answers, config: RunConfig<C>) -> RunStream<S, E> {
        self.events(Begin::Resume(answers, None), config)
    }

    /// Resumes, and in the step that is resumed writes what the command says, and starts what
    /// it names beside what was planned: a stream as [`Thread::resume_stream`].
    ///
    /// What the command writes is stored with the step's end; after a crash before that, the
    /// same call is to be made again.
    pub fn command_stream(
        &self,
        answers: Answers,
        command: Command<S>,
        config: RunConfig<C>,
    ) -> RunStream<S, E> {
        self.events(Begin::Resume(answers, Some(command)), config)
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
            let (mut begin, mut config, mut base) = (begin, config, self.base);
            let turn = match &self.turns {
                Some((turns, strategy)) => {
                    Some(turns.take(&self.id, *strategy, &config.cancel).await?)
                }
                None => None,
            };
            if let Some(turn) = &turn {
                config.cancel = turn.cancel.clone();
                base = turn.base.map_or(base, Base::from);
            }
            let metadata = config.metadata.clone();
            let durable = Arc::new(self.acquire(config.durability, metadata, turn).await?);
            let held = durable.held.clone();
            if held.has_turn() {
                held.began_at(self.newest(base).await?);
            }
            match &mut begin {
                Begin::Input(_, from) => *from = base,
                Begin::Resume(answers, _) => {
                    if let Base::At(from) = base
                        && self.newest(Base::Newest).await? != Some(from)
                    {
                        let given = std::mem::take(answers);
                        *answers = self.branch(&durable, from, given).await?;
                    }
                }
                Begin::Nested { .. } => {}
            }
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

    /// The checkpoint that a run begins at.
    async fn newest(&self, base: Base) -> Result<Option<CheckpointId>, SaverError> {
        Ok(match base {
            Base::At(checkpoint) => Some(checkpoint),
            Base::Empty => None,
            Base::Newest => {
                let heads = self.saver.history(&self.id, "", None, 1).await?;
                heads.first().map(|head| head.id)
            }
        })
    }

    pub(crate) async fn acquire(
        &self,
        durability: Durability,
        metadata: Arc<Metadata>,
        turn: Option<Turn>,
    ) -> Result<Durable, SaverError> {
        let lease = durable::acquire(&self.saver, &self.id, self.lease, self.claim).await?;
        let saver = self.saver.clone();
        let held = HeldLease::new(saver.clone(), lease, durability, self.keep, turn);
        let root = Durable::root(held.into(), saver, durability, metadata);
        Ok(root.within(self.namespace.place()))
    }
}

impl<S: State, C, E> Clone for Thread<S, C, E> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            saver: self.saver.clone(),
            id: self.id.clone(),
            namespace: self.namespace.clone(),
            metadata: self.metadata.clone(),
            turns: self.turns.clone(),
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
