//! Hooks into the life of a run: for timing, tracing and metrics.
//!
//! Invariant: an observer cannot change, delay by waiting, or break a run: it is called
//! without `await` and its panics are caught. Without observers no clock is read.
//! Deliberately absent: values; a stream shows those.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Checkpoint, Interrupt, Namespace, NodeName, RunError, SaverError, State, Status, TaskId,
    ThreadId, context::RunContext, output::Output, task::TaskState,
};

/// Is told of the moments of a run, where and when they happen: see `RunConfig::observe`.
///
/// It is called by the run itself, between two polls of the nodes, so it must be quick:
/// count, note a time, open or close a span. Closures over `&Moment` are observers.
pub trait Observer: Send + Sync + 'static {
    /// Is told of one moment. A panic is caught and otherwise ignored.
    fn observe(&self, moment: &Moment<'_>);
}

impl<F: Fn(&Moment<'_>) + Send + Sync + 'static> Observer for F {
    fn observe(&self, moment: &Moment<'_>) {
        self(moment);
    }
}

/// One moment of a run or of a subgraph inside it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Moment<'a> {
    /// The thread; `None` for a run without one.
    pub thread: Option<&'a ThreadId>,
    /// The subgraph it happens in; the root for the run itself.
    pub namespace: &'a Namespace,
    /// The step, in its own graph; 0 before the first.
    pub step: u64,
    /// What happens.
    pub kind: MomentKind<'a>,
}

/// What happens in a run.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum MomentKind<'a> {
    /// A run begins.
    RunStarted,
    /// A run is over, in whichever way.
    RunEnded {
        /// How.
        outcome: RunOutcome<'a>,
        /// Since it began.
        took: Duration,
    },
    /// A step begins.
    StepStarted {
        /// How many tasks it has.
        tasks: usize,
    },
    /// A step was merged, and stored if its thread is durable.
    StepEnded {
        /// Since it began.
        took: Duration,
    },
    /// An attempt of a node begins.
    NodeStarted(Attempt<'a>),
    /// An attempt is done.
    NodeEnded {
        /// The attempt.
        attempt: Attempt<'a>,
        /// Since it began.
        took: Duration,
    },
    /// An attempt failed, ran out of time or panicked.
    NodeFailed {
        /// The attempt.
        attempt: Attempt<'a>,
        /// Since it began.
        took: Duration,
        /// What its error says.
        error: &'a str,
        /// The wait before the next attempt; `None` when it was the last.
        retry_in: Option<Duration>,
    },
    /// An attempt was dropped: its run was cancelled, failed elsewhere, or waits for answers.
    NodeDropped {
        /// The attempt.
        attempt: Attempt<'a>,
        /// Since it began.
        took: Duration,
    },
    /// A node waits for answers.
    Interrupted {
        /// The node.
        node: &'a NodeName,
        /// What it asks.
        interrupts: &'a [Interrupt],
    },
    /// A run goes on from this checkpoint, where an earlier one has stopped.
    Resumed(&'a Checkpoint),
    /// A checkpoint was given to the saver.
    Checkpointed(&'a Checkpoint),
    /// Old checkpoints could not be removed, see `Thread::keep_last`. The run goes on, and
    /// tries it again after its next checkpoint.
    PruneFailed(&'a SaverError),
}

/// One attempt of one task.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The task.
    pub task: TaskId,
    /// Its node.
    pub node: &'a NodeName,
    /// Which attempt; the first is 1.
    pub number: u32,
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RunOutcome<'a> {
    /// It gave an output.
    Ended(Status),
    /// It failed.
    Failed(&'a RunError),
    /// Its future was dropped.
    Dropped,
}

/// The observers of a run.
#[derive(Clone, Default)]
pub(crate) struct Observers(Option<Arc<[Arc<dyn Observer>]>>);

impl Observers {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn with(&self, observer: Arc<dyn Observer>) -> Self {
        let others = self
            .0
            .iter()
            .flat_map(|observers| observers.iter().cloned());
        Self(Some(others.chain([observer]).collect()))
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} observers",
            self.0.as_ref().map_or(0, |all| all.len())
        )
    }
}

impl<C, E> RunContext<C, E> {
    pub(crate) fn is_observed(&self) -> bool {
        !self.config.observers.is_empty()
    }

    /// The time, if anybody will ask how long something took.
    pub(crate) fn clock(&self) -> Option<Instant> {
        self.is_observed().then(Instant::now)
    }

    pub(crate) fn observe(&self, step: u64, kind: MomentKind<'_>) {
        let Some(observers) = &self.config.observers.0 else {
            return;
        };
        let durable = self.durable.as_ref();
        let moment = Moment {
            thread: durable.map(|durable| &durable.held.lease.thread),
            namespace: &self.namespace,
            step,
            kind,
        };
        for observer in observers.iter() {
            // What a broken observer says is its own business, not the run's.
            let _panic = catch_unwind(AssertUnwindSafe(|| observer.observe(&moment)));
        }
    }
}

fn since(began: Option<Instant>) -> Duration {
    began.map(|began| began.elapsed()).unwrap_or_default()
}

/// A run under observation: says how it ended, also when it is dropped.
pub(crate) struct RunWatch<C, E> {
    run: Option<Arc<RunContext<C, E>>>,
    began: Option<Instant>,
}

impl<C, E> RunWatch<C, E> {
    pub(crate) fn start(run: &Arc<RunContext<C, E>>) -> Self {
        run.observe(0, MomentKind::RunStarted);
        let began = run.clock();
        let run = run.is_observed().then(|| run.clone());
        Self { run, began }
    }

    pub(crate) fn end<S: State>(mut self, step: u64, result: &Result<Output<S>, RunError>) {
        self.tell(
            step,
            match result {
                Ok(output) => RunOutcome::Ended(output.status),
                Err(error) => RunOutcome::Failed(error),
            },
        );
    }

    fn tell(&mut self, step: u64, outcome: RunOutcome<'_>) {
        if let Some(run) = self.run.take() {
            let took = since(self.began);
            run.observe(step, MomentKind::RunEnded { outcome, took });
        }
    }
}

impl<C, E> Drop for RunWatch<C, E> {
    fn drop(&mut self) {
        self.tell(0, RunOutcome::Dropped);
    }
}

/// An attempt under observation: says how it ended, also when it is dropped.
pub(crate) struct AttemptWatch<'a, C, E> {
    run: &'a RunContext<C, E>,
    task: &'a TaskState,
    number: u32,
    began: Option<Instant>,
}

/// How an attempt ended.
#[derive(Clone, Copy)]
pub(crate) enum AttemptEnd<'a> {
    Done,
    Failed(&'a dyn fmt::Display, Option<Duration>),
    Dropped,
}

impl<'a, C, E> AttemptWatch<'a, C, E> {
    pub(crate) fn start(run: &'a RunContext<C, E>, task: &'a TaskState, number: u32) -> Self {
        let began = run.clock();
        let watch = Self {
            run,
            task,
            number,
            began,
        };
        if began.is_some() {
            run.observe(task.step, MomentKind::NodeStarted(watch.attempt()));
        }
        watch
    }

    fn attempt(&self) -> Attempt<'a> {
        Attempt {
            task: self.run.task_id(self.task),
            node: &self.task.node,
            number: self.number,
        }
    }

    pub(crate) fn end(mut self, end: AttemptEnd<'_>) {
        self.tell(end);
    }

    fn tell(&mut self, end: AttemptEnd<'_>) {
        let Some(began) = self.began.take() else {
            return;
        };
        let (attempt, took) = (self.attempt(), began.elapsed());
        let text;
        let kind = match end {
            AttemptEnd::Done => MomentKind::NodeEnded { attempt, took },
            AttemptEnd::Dropped => MomentKind::NodeDropped { attempt, took },
            AttemptEnd::Failed(error, retry_in) => {
                text = error.to_string();
                MomentKind::NodeFailed {
                    attempt,
                    took,
                    error: &text,
                    retry_in,
                }
            }
        };
        self.run.observe(self.task.step, kind);
    }
}

impl<C, E> Drop for AttemptWatch<'_, C, E> {
    fn drop(&mut self) {
        self.tell(AttemptEnd::Dropped);
    }
}
