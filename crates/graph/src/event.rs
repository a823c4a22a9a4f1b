//! What a stream of a run says.
//!
//! Invariant: sequence numbers rise by one from 1, and the last event of a run that did not
//! fail is [`EventKind::Finished`]. Within a step: its tasks start; what they say and write
//! comes as it happens; then the merged state, then the checkpoint that holds it.
//! Deliberately absent: a serialised form.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Checkpoint, Digest, Interrupt, Mode, Namespace, NodeName, Output, Shown, State, TaskId,
};

/// One event of a run.
#[derive(Clone)]
pub struct Event<S: State, E = ()> {
    /// Its place in the stream; the first is 1.
    pub seq: u64,
    /// The subgraph it comes from; the root for the run itself.
    pub namespace: Namespace,
    /// The step it belongs to, in its own graph; 0 before the first.
    pub step: u64,
    /// When it happened, in milliseconds since 1970 by the system's clock; informative.
    pub at_ms: u64,
    /// What happened.
    pub kind: EventKind<S, E>,
}

/// What happened in a run.
#[derive(Clone)]
#[non_exhaustive]
pub enum EventKind<S: State, E = ()> {
    /// A step was planned. Mode [`Mode::Debug`].
    Planned {
        /// Its tasks, in the order in which their writes will be merged.
        tasks: Vec<TaskRef>,
    },
    /// A task started. Mode [`Mode::Tasks`].
    Started {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
        /// What the node is given.
        input: TaskInput,
    },
    /// An attempt failed and another follows. Mode [`Mode::Debug`].
    Retried {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
        /// The attempt that failed; the first is 1.
        attempt: u32,
        /// What its error said.
        error: String,
        /// The wait before the next attempt.
        wait: Duration,
    },
    /// A node emitted this. Mode [`Mode::Custom`].
    Custom {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
        /// What it gave to `Context::emit`.
        value: E,
    },
    /// A node sent a piece of a message. Mode [`Mode::Messages`].
    Message(Chunk<E>),
    /// A node is done and wrote this. Mode [`Mode::Updates`].
    Updated {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
        /// Its writes, not merged yet; `None` when it wrote nothing.
        update: Option<S::Update>,
    },
    /// A node of a subgraph is done and wrote this. Mode [`Mode::Updates`].
    NestedUpdated {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
        /// Its writes as JSON: the subgraph's types are its own.
        update: serde_json::Value,
    },
    /// A node waits for answers. Mode [`Mode::Updates`].
    Asked {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
        /// What it asks.
        interrupts: Vec<Interrupt>,
    },
    /// A task ended, in whichever way. Mode [`Mode::Tasks`]. Tasks that were dropped because
    /// a sibling failed or the run was cancelled do not say so.
    Ended {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeName,
        /// How it ended.
        result: TaskResult,
    },
    /// The state: as the input made it, and after each step was merged. Mode
    /// [`Mode::Values`].
    State(Arc<S>),
    /// The state of a subgraph, as JSON. Mode [`Mode::Values`].
    NestedState(serde_json::Value),
    /// A checkpoint was given to the saver. Mode [`Mode::Checkpoints`]. Only with
    /// `Durability::Async` may it not be stored yet.
    Checkpointed(Box<Checkpointed>),
    /// The run goes on from this checkpoint, which was stored before. Mode
    /// [`Mode::Resumed`].
    Resumed(Box<Checkpointed>),
    /// The run is over. Always sent.
    Finished(Output<S>),
}

/// A task that is named without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRef {
    /// The task.
    pub id: TaskId,
    /// Its node.
    pub node: NodeName,
}

/// What a node is given.
#[derive(Debug, Clone)]
pub struct TaskInput {
    /// The state it sees.
    pub state: Shown,
    /// The payload it was sent, as JSON text; `None` when it was not sent.
    pub payload: Option<Arc<str>>,
}

impl TaskInput {
    /// A fingerprint of state and payload.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let state = self.state.digest().to_string();
        let payload = self.payload.as_deref().unwrap_or_default();
        Digest::of([state.as_bytes(), payload.as_bytes()])
    }
}

/// How a task ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TaskResult {
    /// It wrote this; `None` when it wrote nothing.
    Wrote(Option<Shown>),
    /// It failed for good.
    Failed {
        /// What its last error said.
        error: String,
    },
    /// It waits for answers.
    Asked(Vec<Interrupt>),
}

/// One piece of a message that a node sends while it runs, e.g. a token of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk<E> {
    /// The task.
    pub task: TaskId,
    /// Its node.
    pub node: NodeName,
    /// The attempt that sends; a later attempt sends the message again from its start.
    pub attempt: u32,
    /// The message it belongs to: the same id in every attempt.
    pub message: Arc<str>,
    /// Its place in the message; the first is 0.
    pub index: u32,
    /// The piece.
    pub value: E,
}

/// What a checkpoint holds.
#[derive(Debug, Clone)]
pub struct Checkpointed {
    /// Its head.
    pub checkpoint: Checkpoint,
    /// The tasks that run next; none when the run is done.
    pub next: Vec<TaskRef>,
    /// The state.
    pub state: Shown,
}

impl<S: State, E> EventKind<S, E> {
    /// The mode that carries this kind of event; `None` for the end, which is always sent.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        Some(match self {
            Self::Started { .. } | Self::Ended { .. } => Mode::Tasks,
            Self::Updated { .. } | Self::NestedUpdated { .. } | Self::Asked { .. } => Mode::Updates,
            Self::Custom { .. } => Mode::Custom,
            Self::Message(_) => Mode::Messages,
            Self::State(_) | Self::NestedState(_) => Mode::Values,
            Self::Checkpointed(_) => Mode::Checkpoints,
            Self::Resumed(_) => Mode::Resumed,
            Self::Planned { .. } | Self::Retried { .. } => Mode::Debug,
            Self::Finished(_) => return None,
        })
    }
}

/// Shows names and numbers, not values: a log is no place for a state.
impl<S: State, E> fmt::Debug for Event<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.seq)?;
        if !self.namespace.is_root() {
            write!(f, " {}", self.namespace)?;
        }
        write!(f, " step {} {:?}", self.step, self.kind)
    }
}

/// Shows names, not values.
impl<S: State, E> fmt::Debug for EventKind<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned { tasks } => {
                f.write_str("planned")?;
                tasks
                    .iter()
                    .try_for_each(|task| write!(f, " {}", task.node))
            }
            Self::Started { node, .. } => write!(f, "started {node}"),
            Self::Retried { node, attempt, .. } => write!(f, "retried {node} after {attempt}"),
            Self::Updated { node, .. } => write!(f, "updated {node}"),
            Self::Asked {
                node, interrupts, ..
            } => write!(f, "asked {node} x{}", interrupts.len()),
            Self::Custom { node, .. } => write!(f, "custom {node}"),
            Self::Message(chunk) => write!(f, "message {} {}", chunk.node, chunk.index),
            Self::NestedUpdated { node, .. } => write!(f, "updated {node}"),
            Self::Ended { node, result, .. } => {
                let how = match result {
                    TaskResult::Wrote(_) => "wrote",
                    TaskResult::Failed { .. } => "failed",
                    TaskResult::Asked(_) => "asked",
                };
                write!(f, "ended {node} {how}")
            }
            Self::State(_) | Self::NestedState(_) => f.write_str("state"),
            Self::Checkpointed(stored) => write!(f, "checkpoint {}", stored.checkpoint.id),
            Self::Resumed(stored) => write!(f, "resumed {}", stored.checkpoint.id),
            Self::Finished(output) => write!(f, "finished {:?}", output.status),
        }
    }
}
