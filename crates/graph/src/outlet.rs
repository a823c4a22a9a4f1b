//! The bounded way from a run, and from the subgraphs inside it, to the run's stream.
//!
//! Invariant: at most the configured number of events is buffered; whoever tells one more
//! waits, so nothing is lost and nothing grows. Deliberately absent: sequence numbers,
//! which the stream gives when it hands events out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use crate::{
    Checkpointed, Chunk, Event, EventKind, Interrupt, Mode, Namespace, NodeName, State, TaskId,
    TaskInput, TaskResult, event::TaskRef, mode::Modes, shown::state_json,
};

/// What is told without knowing the type of the state: by a running node, or by a subgraph,
/// whose updates and states are JSON to the enclosing graph.
pub(crate) enum Told<E> {
    Planned(Vec<TaskRef>),
    Started(TaskId, NodeName, TaskInput),
    Retried {
        task: TaskId,
        node: NodeName,
        attempt: u32,
        error: String,
        wait: Duration,
    },
    Custom(TaskId, NodeName, E),
    Message(Chunk<E>),
    Updated(TaskId, NodeName, Value),
    Asked(TaskId, NodeName, Vec<Interrupt>),
    Ended(TaskId, NodeName, TaskResult),
    State(Value),
    Checkpointed(Box<Checkpointed>),
    Resumed(Box<Checkpointed>),
}

/// Takes events without knowing the type of the state.
pub(crate) trait Outlet<E>: Send + Sync {
    fn wants(&self, mode: Mode) -> bool;
    fn tell(&self, namespace: Namespace, step: u64, told: Told<E>) -> BoxFuture<'_, ()>;
}

/// A run's way out: its own stream, or the stream of the run it is a part of.
pub(crate) enum Events<S: State, E> {
    Stream {
        sender: Sender<Box<Event<S, E>>>,
        modes: Modes,
    },
    Nested {
        outermost: Arc<dyn Outlet<E>>,
        namespace: Namespace,
    },
}

impl<S: State, E: Send + 'static> Events<S, E> {
    pub(crate) fn wants(&self, mode: Mode) -> bool {
        match self {
            Self::Stream { modes, .. } => modes.has(mode),
            Self::Nested { outermost, .. } => outermost.wants(mode),
        }
    }

    /// Sends an event of the graph's own, once there is room for it.
    pub(crate) async fn send(&self, step: u64, kind: EventKind<S, E>) {
        match self {
            Self::Stream { sender, .. } => send(sender, Namespace::default(), step, kind).await,
            Self::Nested {
                outermost,
                namespace,
            } => {
                if let Some(told) = Told::of(kind) {
                    outermost.tell(namespace.clone(), step, told).await;
                }
            }
        }
    }
}

async fn send<S: State, E>(
    sender: &Sender<Box<Event<S, E>>>,
    namespace: Namespace,
    step: u64,
    kind: EventKind<S, E>,
) {
    let event = Box::new(Event {
        seq: 0,
        namespace,
        step,
        at_ms: now_ms(),
        kind,
    });
    // A closed channel means that the stream, and with it this run, is being dropped.
    let _closed = sender.send(event).await;
}

impl<S: State, E: Send + 'static> Outlet<E> for Events<S, E> {
    fn wants(&self, mode: Mode) -> bool {
        Events::wants(self, mode)
    }

    fn tell(&self, namespace: Namespace, step: u64, told: Told<E>) -> BoxFuture<'_, ()> {
        match self {
            Self::Stream { sender, .. } => Box::pin(send(sender, namespace, step, told.kind())),
            Self::Nested { outermost, .. } => outermost.tell(namespace, step, told),
        }
    }
}

impl<E> Told<E> {
    fn of<S: State>(kind: EventKind<S, E>) -> Option<Self> {
        // A value that is no JSON, e.g. a map whose keys are structs, is shown as null.
        let json = |update| serde_json::to_value(update).unwrap_or_default();
        Some(match kind {
            EventKind::Planned { tasks } => Self::Planned(tasks),
            EventKind::Started { task, node, input } => Self::Started(task, node, input),
            EventKind::Retried {
                task,
                node,
                attempt,
                error,
                wait,
            } => Self::Retried {
                task,
                node,
                attempt,
                error,
                wait,
            },
            EventKind::Custom { task, node, value } => Self::Custom(task, node, value),
            EventKind::Message(chunk) => Self::Message(chunk),
            EventKind::Updated { task, node, update } => Self::Updated(task, node, json(update)),
            EventKind::NestedUpdated { task, node, update } => Self::Updated(task, node, update),
            EventKind::Asked {
                task,
                node,
                interrupts,
            } => Self::Asked(task, node, interrupts),
            EventKind::Ended { task, node, result } => Self::Ended(task, node, result),
            EventKind::State(state) => Self::State(state_json(&*state)),
            EventKind::NestedState(state) => Self::State(state),
            EventKind::Checkpointed(stored) => Self::Checkpointed(stored),
            EventKind::Resumed(stored) => Self::Resumed(stored),
            EventKind::Finished(_) => return None,
        })
    }

    /// The event as the stream of the outermost graph shows it.
    fn kind<S: State>(self) -> EventKind<S, E> {
        match self {
            Self::Planned(tasks) => EventKind::Planned { tasks },
            Self::Started(task, node, input) => EventKind::Started { task, node, input },
            Self::Retried {
                task,
                node,
                attempt,
                error,
                wait,
            } => EventKind::Retried {
                task,
                node,
                attempt,
                error,
                wait,
            },
            Self::Custom(task, node, value) => EventKind::Custom { task, node, value },
            Self::Message(chunk) => EventKind::Message(chunk),
            Self::Updated(task, node, update) => EventKind::NestedUpdated { task, node, update },
            Self::Asked(task, node, interrupts) => EventKind::Asked {
                task,
                node,
                interrupts,
            },
            Self::Ended(task, node, result) => EventKind::Ended { task, node, result },
            Self::State(state) => EventKind::NestedState(state),
            Self::Checkpointed(stored) => EventKind::Checkpointed(stored),
            Self::Resumed(stored) => EventKind::Resumed(stored),
        }
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
