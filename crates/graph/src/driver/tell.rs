//! What a run tells its stream, and in which order.
//!
//! Invariant: what is told of a thread was given to its saver before. Deliberately absent:
//! effects on the run, which goes on as soon as there is room for the event.

use std::{future::Future, sync::Arc};

use super::Driver;
use crate::{
    Checkpointed, EventKind, Interrupt, Mode, Shown, State, TaskInput, TaskRef, TaskResult,
    outlet::Events,
    saver::{Checkpoint, CheckpointId},
    task::TaskState,
};

/// What a task wrote, for whoever wants it.
pub(super) struct Written<S: State> {
    update: Option<S::Update>,
}

/// Events that wait for their places in the stream, in order. It borrows nothing of the
/// driver, which other threads must not look at while they wait.
struct Ready<S: State, E> {
    events: Arc<Events<S, E>>,
    step: u64,
    kinds: [Option<EventKind<S, E>>; 2],
}

impl<S: State, E: Send + 'static> Ready<S, E> {
    async fn send(self) {
        for kind in self.kinds.into_iter().flatten() {
            self.events.send(self.step, kind).await;
        }
    }
}

impl<S, C, E> Driver<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    pub(super) fn wants(&self, mode: Mode) -> bool {
        let events = self.events.as_ref();
        events.is_some_and(|events| events.wants(mode))
    }

    fn if_wanted(
        &self,
        mode: Mode,
        kind: impl FnOnce() -> EventKind<S, E>,
    ) -> Option<EventKind<S, E>> {
        self.wants(mode).then(kind)
    }

    fn tell(
        &self,
        step: u64,
        kinds: [Option<EventKind<S, E>>; 2],
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let is_told = kinds.iter().any(Option::is_some);
        let events = self.events.clone().filter(|_| is_told);
        // Boxed, because most runs tell nobody anything, and all would be as large.
        let told = events.map(|events| {
            let ready = Ready {
                events,
                step,
                kinds,
            };
            Box::pin(ready.send())
        });
        async move {
            if let Some(told) = told {
                told.await;
            }
        }
    }

    pub(super) fn current(&self) -> CheckpointId {
        let journal = self.journal.as_ref();
        journal.map_or(CheckpointId(0), |journal| journal.current())
    }

    fn planned(&self) -> Vec<TaskRef> {
        let (checkpoint, step) = (self.current(), self.machine.merged() + 1);
        let tasks = self.machine.tasks().iter().enumerate();
        let tasks = tasks.map(|(index, task)| {
            let node = self.graph.topology.name(task.node).clone();
            let id = self.run.planned_id(checkpoint, step, &node, index);
            TaskRef { id, node }
        });
        tasks.collect()
    }

    pub(super) fn tell_planned(&self) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let tasks = || EventKind::Planned {
            tasks: self.planned(),
        };
        let kind = self.if_wanted(Mode::Debug, tasks);
        self.tell(self.machine.merged() + 1, [kind, None])
    }

    pub(super) fn tell_started(
        &self,
        task: &TaskState,
        payload: Option<&Arc<str>>,
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let kind = self.if_wanted(Mode::Tasks, || EventKind::Started {
            task: self.run.task_id(task),
            node: task.node.clone(),
            input: TaskInput {
                state: Shown::state(self.machine.state()),
                payload: payload.cloned(),
            },
        });
        self.tell(task.step, [kind, None])
    }

    fn ended(
        &self,
        task: &TaskState,
        result: impl FnOnce() -> TaskResult,
    ) -> Option<EventKind<S, E>> {
        self.if_wanted(Mode::Tasks, || EventKind::Ended {
            task: self.run.task_id(task),
            node: task.node.clone(),
            result: result(),
        })
    }

    pub(super) fn tell_asked(
        &self,
        task: &TaskState,
        interrupts: &[Interrupt],
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let asked = self.if_wanted(Mode::Updates, || EventKind::Asked {
            task: self.run.task_id(task),
            node: task.node.clone(),
            interrupts: interrupts.to_vec(),
        });
        let ended = self.ended(task, || TaskResult::Asked(interrupts.to_vec()));
        self.tell(task.step, [asked, ended])
    }

    pub(super) fn tell_failed(
        &self,
        task: &TaskState,
        error: &dyn std::fmt::Display,
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let ended = self.ended(task, || TaskResult::Failed {
            error: error.to_string(),
        });
        self.tell(task.step, [ended, None])
    }

    /// Keeps what will be told of an update before it is merged.
    pub(super) fn written(&self, update: Option<&S::Update>) -> Option<Written<S>> {
        let is_wanted = self.wants(Mode::Updates) || self.wants(Mode::Tasks);
        is_wanted.then(|| Written {
            update: update.cloned(),
        })
    }

    pub(super) fn tell_written(
        &self,
        task: &TaskState,
        written: Option<Written<S>>,
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let kinds = match written {
            None => [None, None],
            Some(Written { update }) => {
                let shown = update.clone().filter(|_| self.wants(Mode::Tasks));
                let updated = self.if_wanted(Mode::Updates, || EventKind::Updated {
                    task: self.run.task_id(task),
                    node: task.node.clone(),
                    update,
                });
                let ended = self.ended(task, || TaskResult::Wrote(shown.map(Shown::value)));
                [updated, ended]
            }
        };
        self.tell(task.step, kinds)
    }

    /// Tells the state and the checkpoint that holds it.
    pub(super) fn tell_merged(
        &self,
        stored: Option<Checkpoint>,
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let state = || EventKind::State(self.machine.state().clone());
        let state = self.if_wanted(Mode::Values, state);
        self.tell(self.machine.merged(), [state, self.checkpointed(stored)])
    }

    /// Tells the checkpoint that the run goes on from.
    pub(super) fn tell_resumed(
        &self,
        checkpoint: &Checkpoint,
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        let resumed = self.if_wanted(Mode::Resumed, || {
            EventKind::Resumed(Box::new(Checkpointed {
                checkpoint: checkpoint.clone(),
                next: self.planned(),
                state: Shown::state(self.machine.state()),
            }))
        });
        self.tell(self.machine.merged(), [resumed, None])
    }

    pub(super) fn tell_stored(
        &self,
        stored: Option<Checkpoint>,
    ) -> impl Future<Output = ()> + Send + use<S, C, E> {
        self.tell(self.machine.merged(), [self.checkpointed(stored), None])
    }

    fn checkpointed(&self, stored: Option<Checkpoint>) -> Option<EventKind<S, E>> {
        let stored = stored.filter(|_| self.wants(Mode::Checkpoints));
        let stored = stored.map(|checkpoint| Checkpointed {
            checkpoint,
            next: self.planned(),
            state: Shown::state(self.machine.state()),
        });
        stored.map(|stored| EventKind::Checkpointed(Box::new(stored)))
    }
}
