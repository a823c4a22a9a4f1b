//! The thin driver: polls node futures, feeds their results to the machine, and has the
//! journal store what must not be lost.
//!
//! Invariant: dropping the driver drops every running node; nothing outlives a run but what
//! a subgraph that was cut off leaves to its next attempt. Deliberately absent: decisions
//! about steps, which are the machine's.

mod observe;
mod step;
mod tell;

use std::{any::Any, collections::BTreeMap, future::Future, sync::Arc};

use tokio::time::Instant;

use crate::{
    Answers, CheckpointId, Command, Graph, Input, Interrupt, Output, RunError, State, Status,
    checkpoint::{Children, Plan},
    context::RunContext,
    journal::{Journal, Recorded, distribute, has_paused, recorded},
    machine::{Machine, Progress},
    observer::RunWatch,
    outlet::Events,
    saver::{Checkpoint, Saved, Source},
    task::TaskState,
    thread::Base,
};
use step::Ended;

/// How a run begins.
pub(crate) enum Begin<S: State> {
    /// With an input, on top of the thread's state there.
    Input(Input<S>, Base),
    /// Where the thread stopped, with what is written and planned beside.
    Resume(Answers, Option<Command<S>>),
    /// As the work of one task of an enclosing graph.
    Nested(Nested<S>),
}

/// How a subgraph begins: it goes on if its task began it before.
pub(crate) struct Nested<S: State> {
    /// Names the task.
    pub(crate) origin: String,
    pub(crate) input: Input<S>,
    pub(crate) answers: BTreeMap<String, serde_json::Value>,
    /// The checkpoint whose state it continues when it begins anew.
    pub(crate) memory: Option<CheckpointId>,
    /// What the subgraphs inside it continue then.
    pub(crate) children: Children,
    /// Whether the task cannot have begun it before.
    pub(crate) is_first: bool,
}

/// Drives one run to its end, and stores what is left to store however it ends.
pub(crate) fn drive<S, C, E>(
    graph: Graph<S, C, E>,
    begin: Begin<S>,
    run: Arc<RunContext<C, E>>,
    events: Option<Arc<Events<S, E>>>,
) -> impl Future<Output = Result<Output<S>, RunError>> + Send
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    let mut parts = Parts::new(graph, run, events);
    // Boxed, because runs begin once and wait for long.
    let begin = Some(Box::new(begin));
    async move { parts.drive(begin).await }
}

/// The same for a subgraph, as the work of a task. What an attempt leaves when it fails or is
/// cut off stays with the task, and the next attempt goes on from there: results that were
/// there are taken, recorded effects are not repeated.
pub(crate) async fn drive_nested<S, C, E>(
    graph: Graph<S, C, E>,
    begin: impl FnOnce() -> Nested<S> + Send,
    run: Arc<RunContext<C, E>>,
    events: Option<Arc<Events<S, E>>>,
    task: &TaskState,
) -> Result<Output<S>, RunError>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    let left = task.memo().left.take();
    let left = left.and_then(|left| left.downcast::<Parts<S, C, E>>().ok());
    let (parts, begin) = match left {
        Some(parts) => (*parts, None),
        None => {
            let mut parts = Parts::new(graph, run, events);
            parts.driver.started = Some(Vec::new());
            (parts, Some(Box::new(Begin::Nested(begin()))))
        }
    };
    let parts = Some(parts);
    let mut leaving = Leaving { parts, task };
    let Some(parts) = &mut leaving.parts else {
        return Err(RunError::NotStarted);
    };
    let result = parts.drive(begin).await;
    if result.is_ok() {
        leaving.parts = None;
    }
    result
}

/// A run of a subgraph that may be dropped at any await.
struct Leaving<'a, S: State, C: Send + Sync + 'static, E: Send + 'static> {
    parts: Option<Parts<S, C, E>>,
    task: &'a TaskState,
}

impl<S, C, E> Drop for Leaving<'_, S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else {
            return;
        };
        let driver = &mut parts.driver;
        if !driver.has_begun || driver.machine.is_torn() {
            return;
        }
        if let Some(journal) = &mut driver.journal {
            // What cannot be written now is written, or fails, when the run goes on.
            let _not_stored = journal.leave(&mut driver.machine);
        }
        driver.put_down(&parts.ended);
        let left: Box<dyn Any + Send> = Box::new(parts);
        self.task.memo().left = Some(left);
    }
}

/// A run without the nodes that are running.
struct Parts<S: State, C, E> {
    driver: Driver<S, C, E>,
    ended: Ended<S>,
}

impl<S, C, E> Parts<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    fn new(
        graph: Graph<S, C, E>,
        run: Arc<RunContext<C, E>>,
        events: Option<Arc<Events<S, E>>>,
    ) -> Self {
        let mut machine = Machine::new(graph.topology.clone(), run.config.step_limit);
        if run.durable.is_some() {
            machine.keep_writes();
        }
        let driver = Driver {
            graph,
            machine,
            journal: run.durable.clone().map(Journal::new),
            run,
            events,
            has_begun: false,
            recorded: BTreeMap::new(),
            started: None,
            interrupts: Vec::new(),
            paused: false,
            merged_before: 0,
            step_began: None,
            step_ends: None,
        };
        let ended = Ended::default();
        Self { driver, ended }
    }

    /// Drives the run from its beginning, or from where it was left.
    async fn drive(&mut self, begin: Option<Box<Begin<S>>>) -> Result<Output<S>, RunError> {
        let Self { driver, ended } = self;
        let watch = RunWatch::start(&driver.run);
        let begun = match begin {
            // Boxed, because runs begin once and wait for long.
            Some(begin) => Box::pin(driver.begin(*begin)).await,
            None => driver.go_on().await,
        };
        let result = match begun {
            Ok(progress) => {
                driver.has_begun = true;
                driver.advance(ended, progress).await
            }
            Err(error) => Err(error),
        };
        let closed = match driver.journal {
            Some(_) => Box::pin(driver.close()).await,
            None => Ok(()),
        };
        // The first error is the one that ended the run.
        let result = result.and_then(|output| closed.map(|()| output));
        watch.end(driver.machine.merged(), &result);
        result
    }
}

struct Driver<S: State, C, E> {
    graph: Graph<S, C, E>,
    machine: Machine<S>,
    journal: Option<Journal>,
    run: Arc<RunContext<C, E>>,
    events: Option<Arc<Events<S, E>>>,
    /// Its first plan is there, and stored where it has to be.
    has_begun: bool,
    /// What a resumed step's tasks achieved before.
    recorded: BTreeMap<usize, Recorded<S>>,
    /// The tasks of the step that were started, in a run that may go on after it was cut off.
    started: Option<Vec<Arc<TaskState>>>,
    interrupts: Vec<Interrupt>,
    /// A subgraph has stopped where it was told to.
    paused: bool,
    merged_before: u64,
    /// When the running step began, if somebody observes.
    step_began: Option<Instant>,
    /// When it has run out of time, if it can.
    step_ends: Option<Instant>,
}

impl<S, C, E> Driver<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    async fn begin(&mut self, begin: Begin<S>) -> Result<Progress, RunError> {
        if self.run.namespace.is_root() {
            self.machine.pause_at(&self.run.config.pauses)?;
        }
        let base = match &begin {
            Begin::Input(_, base) => *base,
            Begin::Resume(..) => Base::Newest,
            Begin::Nested(nested) if nested.is_first => Base::Empty,
            Begin::Nested(_) => Base::Newest,
        };
        let saved = match base {
            Base::Empty => None,
            Base::Newest | Base::At(_) => self.load(base.checkpoint()).await?,
        };
        if saved.is_none() && base.checkpoint().is_some() {
            return Err(RunError::NoCheckpoint);
        }
        match begin {
            Begin::Input(input, _) => self.begin_with(input, saved.as_ref(), None).await,
            Begin::Resume(answers, command) => {
                let saved = saved.ok_or(RunError::NoCheckpoint)?;
                self.resume(&saved, answers, command).await
            }
            Begin::Nested(nested) => self.begin_nested(nested, saved).await,
        }
    }

    async fn begin_nested(
        &mut self,
        nested: Nested<S>,
        newest: Option<Saved>,
    ) -> Result<Progress, RunError> {
        if let Some(saved) = &newest
            && Plan::read(&saved.checkpoint)?.origin.as_ref() == Some(&nested.origin)
        {
            let asked = recorded::<S>(saved)?;
            let asked = asked.values().flat_map(|recorded| &recorded.pending);
            let asked: Vec<_> = asked.map(|interrupt| &interrupt.id).collect();
            let mut answers = nested.answers;
            answers.retain(|id, _| asked.contains(&id));
            return self.resume(saved, Answers::ById(answers), None).await;
        }
        let memory = match nested.memory {
            None => None,
            Some(id) => match newest.filter(|newest| newest.checkpoint.id == id) {
                Some(newest) => Some(newest),
                None => Some(self.load(Some(id)).await?.ok_or(RunError::NoCheckpoint)?),
            },
        };
        self.machine.set_children(nested.children);
        let origin = Some(nested.origin);
        self.begin_with(nested.input, memory.as_ref(), origin).await
    }

    /// Reads a checkpoint of this graph's part of the thread, or the newest; `None` without a
    /// thread. It borrows nothing of the driver, which other threads must not look at.
    fn load(
        &self,
        id: Option<CheckpointId>,
    ) -> impl Future<Output = Result<Option<Saved>, RunError>> + Send + use<S, C, E> {
        let durable = self.run.durable.clone();
        async move {
            match durable {
                Some(durable) => Ok(durable.load(id).await?),
                None => Ok(None),
            }
        }
    }

    /// Takes up a run that was left in the middle of a step.
    async fn go_on(&mut self) -> Result<Progress, RunError> {
        if let Some(journal) = &mut self.journal {
            journal.catch_up().await?;
        }
        Ok(self.machine.progress())
    }

    /// Keeps what the unfinished tasks know, for the next time they are started.
    fn put_down(&mut self, ended: &Ended<S>) {
        let started = self.started.replace(Vec::new()).unwrap_or_default();
        for task in started {
            if self.machine.is_open(task.index) && !ended.has(task.index) {
                let recorded = Recorded {
                    result: None,
                    memo: task.take_memo(),
                    pending: Vec::new(),
                    error: None,
                };
                self.recorded.insert(task.index, recorded);
            }
        }
    }

    async fn close(&mut self) -> Result<(), RunError> {
        let is_told = self.wants_checkpoints();
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        let stored = journal.close(&mut self.machine, is_told).await?;
        self.observe_checkpoint(stored.as_ref());
        self.observe_pruning();
        self.tell_stored(stored).await;
        Ok(())
    }

    async fn begin_with(
        &mut self,
        input: Input<S>,
        saved: Option<&Saved>,
        origin: Option<String>,
    ) -> Result<Progress, RunError> {
        if let Some(saved) = saved {
            self.restore(saved)?;
        }
        self.machine.set_origin(origin);
        let progress = self.machine.begin(input)?;
        let stored = self.checkpoint(Source::Input).await?;
        self.tell_merged(stored).await;
        Ok(progress)
    }

    fn restore(&mut self, saved: &Saved) -> Result<Progress, RunError> {
        let progress = self.machine.restore(saved)?;
        self.merged_before = self.machine.merged();
        if let Some(journal) = &mut self.journal {
            journal.continue_from(saved.checkpoint.id);
        }
        Ok(progress)
    }

    /// Continues a step: results that were recorded are taken, tasks that still wait for an
    /// answer stay asleep, the others run.
    async fn resume(
        &mut self,
        saved: &Saved,
        answers: Answers,
        command: Option<Command<S>>,
    ) -> Result<Progress, RunError> {
        let mut progress = self.restore(saved)?;
        if let Some(command) = command {
            progress = self.machine.command(command)?;
        }
        self.observe_resumed(&saved.checkpoint);
        self.tell_resumed(&saved.checkpoint).await;
        self.machine.pass_pause(has_paused(saved));
        let mut tasks = recorded::<S>(saved)?;
        let given = distribute(&mut tasks, answers)?;
        if let Some(journal) = &mut self.journal {
            journal.answers(&given).await?;
        }
        for (index, mut recorded) in tasks {
            let is_answered = given.iter().any(|(task, ..)| *task == index);
            if let Some(command) = recorded.result.take() {
                progress = self.machine.finish(index, command)?;
            } else if !recorded.pending.is_empty() && !is_answered {
                self.interrupts.append(&mut recorded.pending);
                progress = self.machine.interrupt(index)?;
            } else {
                self.recorded.insert(index, recorded);
            }
        }
        if self.machine.merged() > self.merged_before {
            let stored = self.checkpoint(Source::Step).await?;
            self.tell_merged(stored).await;
        } else if progress == Progress::Waiting {
            return Ok(Progress::Planned);
        }
        Ok(progress)
    }

    async fn checkpoint(&mut self, source: Source) -> Result<Option<Checkpoint>, RunError> {
        let is_told = self.wants_checkpoints();
        let Some(journal) = &mut self.journal else {
            return Ok(None);
        };
        let machine = &mut self.machine;
        let stored = journal.checkpoint(machine, source, is_told).await?;
        self.observe_checkpoint(stored.as_ref());
        self.observe_pruning();
        Ok(stored)
    }

    fn output(&mut self, status: Status) -> Output<S> {
        Output {
            state: self.machine.state().clone(),
            status,
            steps: self.machine.merged() - self.merged_before,
            interrupts: std::mem::take(&mut self.interrupts),
            left_to: self.machine.take_left_to(),
            checkpoint: self.journal.as_ref().map(Journal::current),
            children: self.machine.children().clone(),
        }
    }
}
