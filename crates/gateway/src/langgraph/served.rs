//! A typed graph as clients see it: JSON in, JSON out.
//!
//! Invariant: what a client sends becomes the graph's own update type or is refused.
//! Deliberately absent: HTTP, and who keeps threads.

use std::{fmt, sync::Arc};

use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use lyceum_core::Scope;
use lyceum_graph::{
    Answers, Checkpoint, CheckpointId, Edge, EdgeKind, EventKind, Graph, Interrupt, Metadata, Mode,
    NodeName, RunConfig, RunError, Saver, State, Status, TaskResult, TaskSnapshot, ThreadId,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What the nodes of a served graph find in `Context::shared`.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Who calls.
    pub scope: Scope,
    /// The thread's id, as the client knows it.
    pub thread_id: String,
    /// What the client configured: `config.configurable`.
    pub configurable: Value,
}

impl Default for Invocation {
    fn default() -> Self {
        Self {
            scope: Scope::local(),
            thread_id: String::new(),
            configurable: Value::Null,
        }
    }
}

/// How a run begins.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    Input(Value),
    Resume(Answers),
}

/// One run of a served graph.
pub(crate) struct Call {
    pub(crate) saver: Arc<dyn Saver>,
    pub(crate) thread: ThreadId,
    pub(crate) at: Option<CheckpointId>,
    pub(crate) start: Start,
    pub(crate) before: Vec<String>,
    pub(crate) after: Vec<String>,
    pub(crate) step_limit: u64,
    pub(crate) metadata: Metadata,
    pub(crate) cancel: CancellationToken,
    pub(crate) invocation: Invocation,
}

/// What a run of a served graph says.
pub(crate) struct Said {
    /// The subgraph it comes from, e.g. `child:1f…`; empty for the run itself.
    pub(crate) namespace: Vec<String>,
    pub(crate) step: u64,
    pub(crate) what: What,
}

pub(crate) enum What {
    Values(Value),
    Updates {
        node: String,
        update: Value,
    },
    Asked(Vec<Interrupt>),
    Message {
        node: String,
        id: String,
        index: u32,
        piece: Value,
    },
    Custom(Value),
    Task(Value),
    Checkpoint(Value),
    Finished {
        status: Status,
        values: Value,
        interrupts: Vec<Interrupt>,
    },
}

/// A thread's state at one checkpoint.
pub(crate) struct View {
    pub(crate) values: Value,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) next: Vec<String>,
    pub(crate) tasks: Vec<TaskSnapshot>,
    pub(crate) interrupts: Vec<Interrupt>,
}

/// A graph behind JSON.
pub(crate) trait Erased: Send + Sync {
    fn run(&self, call: Call) -> BoxStream<'static, Result<Said, Failed>>;
    fn view(
        &self,
        saver: Arc<dyn Saver>,
        thread: ThreadId,
        at: Option<CheckpointId>,
    ) -> BoxFuture<'static, Result<Option<View>, RunError>>;
    fn update(
        &self,
        saver: Arc<dyn Saver>,
        thread: ThreadId,
        at: Option<CheckpointId>,
        values: Value,
        as_node: Option<String>,
        metadata: Metadata,
    ) -> BoxFuture<'static, Result<CheckpointId, Failed>>;
    fn nodes(&self) -> Vec<String>;
    fn edges(&self) -> Vec<Edge>;
    fn channels(&self) -> Vec<&'static str>;
}

/// Why a graph did not do what a client wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("the graph does not take this input: {0}")]
    Input(#[source] serde_json::Error),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A graph under the name by which clients find it.
#[derive(Clone)]
pub struct Served {
    pub(crate) name: Arc<str>,
    pub(crate) graph: Arc<dyn Erased>,
}

impl Served {
    /// Serves a graph. What its nodes emit and the pieces of their messages are JSON; a
    /// field named `messages` holds chat messages, see [`crate::langgraph::add_messages`].
    pub fn new<S: State>(name: &str, graph: Graph<S, Invocation, Value>) -> Self {
        Self {
            name: name.into(),
            graph: Arc::new(graph),
        }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Served").field(&self.name).finish()
    }
}

/// A state as one object: what was never written is left out.
fn object<S: State>(state: &S) -> Value {
    let fields = S::CHANNELS
        .iter()
        .enumerate()
        .filter_map(|(index, channel)| {
            let value = serde_json::from_slice(&state.save(index).ok()?).ok()?;
            Some((channel.name.to_owned(), value))
        });
    Value::Object(fields.collect())
}

fn interrupts(asked: &[Interrupt]) -> Value {
    asked
        .iter()
        .map(|one| json!({ "value": one.payload, "id": one.id }))
        .collect()
}

/// Interrupts as clients know them.
pub(crate) fn shown(asked: &[Interrupt]) -> Value {
    interrupts(asked)
}

impl<S: State> Erased for Graph<S, Invocation, Value> {
    fn run(&self, call: Call) -> BoxStream<'static, Result<Said, Failed>> {
        let mut thread = self.thread(call.saver, call.thread);
        if let Some(at) = call.at {
            thread = thread.at(at);
        }
        let all = |names: Vec<String>| match names.first() {
            Some(first) if first == "*" => self.node_names().to_vec(),
            _ => names.into_iter().map(NodeName::from).collect(),
        };
        let config = RunConfig::new(call.invocation)
            .cancellation(call.cancel)
            .step_limit(call.step_limit)
            .metadata(call.metadata)
            .interrupt_before(all(call.before))
            .interrupt_after(all(call.after))
            .modes([
                Mode::Values,
                Mode::Updates,
                Mode::Messages,
                Mode::Custom,
                Mode::Tasks,
                Mode::Checkpoints,
            ]);
        let events = match call.start {
            Start::Resume(answers) => thread.resume_stream(answers, config),
            Start::Input(input) => match serde_json::from_value::<S::Update>(input) {
                Ok(update) => thread.stream(lyceum_graph::Input::Update(update), config),
                Err(error) => {
                    let failed = Err(Failed::Input(error));
                    return futures_util::stream::once(async { failed }).boxed();
                }
            },
        };
        events
            .filter_map(async |event| {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => return Some(Err(Failed::Run(error))),
                };
                let scopes = event.namespace.scopes().iter();
                let namespace = scopes.map(|scope| format!("{}:{}", scope.node, scope.task));
                let (namespace, step) = (namespace.collect(), event.step);
                said::<S>(event.kind).map(|what| {
                    Ok(Said {
                        namespace,
                        step,
                        what,
                    })
                })
            })
            .boxed()
    }

    fn view(
        &self,
        saver: Arc<dyn Saver>,
        thread: ThreadId,
        at: Option<CheckpointId>,
    ) -> BoxFuture<'static, Result<Option<View>, RunError>> {
        let thread = self.thread(saver, thread);
        Box::pin(async move {
            let snapshot = thread.snapshot(at).await?;
            Ok(snapshot.map(|snapshot| View {
                values: object(&*snapshot.state),
                checkpoint: snapshot.checkpoint,
                next: snapshot.next.iter().map(ToString::to_string).collect(),
                tasks: snapshot.tasks,
                interrupts: snapshot.interrupts,
            }))
        })
    }

    fn update(
        &self,
        saver: Arc<dyn Saver>,
        thread: ThreadId,
        at: Option<CheckpointId>,
        values: Value,
        as_node: Option<String>,
        metadata: Metadata,
    ) -> BoxFuture<'static, Result<CheckpointId, Failed>> {
        let mut thread = self.thread(saver, thread).metadata(metadata);
        if let Some(at) = at {
            thread = thread.at(at);
        }
        Box::pin(async move {
            let values = if values.is_null() { json!({}) } else { values };
            let update = serde_json::from_value(values).map_err(Failed::Input)?;
            let as_node = as_node.map(NodeName::from);
            Ok(thread.update(update, as_node.as_ref()).await?)
        })
    }

    fn nodes(&self) -> Vec<String> {
        self.node_names().iter().map(ToString::to_string).collect()
    }

    fn edges(&self) -> Vec<Edge> {
        Graph::edges(self)
    }

    fn channels(&self) -> Vec<&'static str> {
        S::CHANNELS.iter().map(|channel| channel.name).collect()
    }
}

fn said<S: State>(kind: EventKind<S, Value>) -> Option<What> {
    Some(match kind {
        EventKind::State(state) => What::Values(object(&*state)),
        EventKind::NestedState(state) => What::Values(state),
        EventKind::Updated { node, update, .. } => What::Updates {
            node: node.to_string(),
            update: update.map_or(Value::Null, |update| {
                serde_json::to_value(update).unwrap_or_default()
            }),
        },
        EventKind::NestedUpdated { node, update, .. } => What::Updates {
            node: node.to_string(),
            update,
        },
        EventKind::Asked { interrupts, .. } => What::Asked(interrupts),
        EventKind::Message(chunk) => What::Message {
            node: chunk.node.to_string(),
            id: chunk.message.to_string(),
            index: chunk.index,
            piece: chunk.value,
        },
        EventKind::Custom { value, .. } => What::Custom(value),
        EventKind::Started { task, node, input } => What::Task(json!({
            "id": task.to_string(), "name": node.to_string(),
            "input": input.state.to_json(), "interrupts": [], "triggers": [],
        })),
        EventKind::Ended { task, node, result } => {
            let (result, error, asked) = match result {
                TaskResult::Wrote(wrote) => (wrote.map(|wrote| wrote.to_json()), None, Vec::new()),
                TaskResult::Failed { error } => (None, Some(error), Vec::new()),
                TaskResult::Asked(asked) => (None, None, asked),
                _ => return None,
            };
            What::Task(json!({
                "id": task.to_string(), "name": node.to_string(), "result": result,
                "error": error, "interrupts": shown(&asked),
            }))
        }
        EventKind::Checkpointed(stored) => What::Checkpoint(json!({
            "values": stored.state.to_json(),
            "next": stored.next.iter().map(|task| task.node.to_string()).collect::<Vec<_>>(),
            "config": { "configurable": {
                "checkpoint_ns": "",
                "checkpoint_id": super::resources::checkpoint_id(stored.checkpoint.id),
            }},
            "metadata": { "step": stored.checkpoint.step },
            "tasks": [],
        })),
        EventKind::Finished(output) => What::Finished {
            status: output.status,
            values: object(&*output.state),
            interrupts: output.interrupts,
        },
        _ => return None,
    })
}

/// Whether an edge is taken only when something chooses it.
pub(crate) fn is_conditional(edge: &Edge) -> bool {
    edge.kind == EdgeKind::Chosen
}
