//! Runs of a graph whose types the server does not know.
//!
//! Invariant: every event of a run is told as JSON, in its order. Deliberately absent: which
//! of them a client asked for.

use std::sync::Arc;

use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use lyceum_graph::{
    Answers, AnyGraph, Checkpoint, CheckpointId, Checkpointed, Command, Durability, EventKind,
    Graph, Interrupt, Metadata, Mode, NodeName, RunConfig, RunError, Saver, State, Status,
    TaskResult, ThreadId,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::served::Invocation;

/// Where a client wants a run to go on, beside what is planned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Goto {
    Node(String),
    Send(String, Value),
}

/// What a client writes and plans.
#[derive(Debug, Clone, Default)]
pub(crate) struct Write {
    pub(crate) update: Value,
    pub(crate) goto: Vec<Goto>,
}

/// How a run begins.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    Input(Value),
    Resume(Answers, Option<Write>),
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
    pub(crate) durability: Durability,
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
    Asked {
        task: String,
        interrupts: Vec<Interrupt>,
    },
    Message {
        node: String,
        id: String,
        index: u32,
        piece: Value,
    },
    Custom(Value),
    Started(Value),
    Ended(Value),
    Checkpoint(Box<Stored>),
    Resumed(Box<Stored>),
    Finished {
        status: Status,
        values: Value,
        interrupts: Vec<Interrupt>,
    },
}

/// What a checkpoint holds.
pub(crate) struct Stored {
    pub(crate) head: Checkpoint,
    pub(crate) next: Vec<(String, String)>,
    pub(crate) state: Value,
}

/// A graph behind JSON.
pub(crate) trait Erased: Send + Sync {
    /// Its shape, its threads.
    fn any(&self) -> Arc<dyn AnyGraph>;
    fn run(&self, call: Call) -> BoxStream<'static, Result<Said, RunError>>;
    /// Writes and plans, outside a run.
    fn command(
        &self,
        saver: Arc<dyn Saver>,
        thread: ThreadId,
        at: Option<CheckpointId>,
        write: Write,
        metadata: Metadata,
    ) -> BoxFuture<'static, Result<CheckpointId, RunError>>;
}

/// What of a client's object the graph has fields for; anything else is refused when it is
/// read.
pub(crate) fn known(graph: &dyn AnyGraph, given: Value) -> Value {
    let channels = graph.channels();
    match given {
        Value::Object(mut fields) => {
            fields.retain(|name, _| channels.iter().any(|channel| channel.name == name));
            Value::Object(fields)
        }
        Value::Null => json!({}),
        // Pairs of names and values.
        Value::Array(pairs) if pairs.iter().all(is_pair) => {
            let fields = pairs.into_iter().filter_map(|pair| {
                let name = pair.get(0)?.as_str()?.to_owned();
                Some((name, pair.get(1)?.clone()))
            });
            known(graph, Value::Object(fields.collect()))
        }
        other => other,
    }
}

fn is_pair(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|pair| pair.len() == 2 && pair.first().is_some_and(Value::is_string))
}

fn command<S: State>(graph: &dyn AnyGraph, write: Write) -> Result<Command<S>, RunError> {
    let update = serde_json::from_value(known(graph, write.update));
    let mut command = Command::update(update.map_err(|source| RunError::Refused { source })?);
    for goto in write.goto {
        command = match goto {
            Goto::Node(name) => command.and_goto(name),
            Goto::Send(name, payload) => command.and_send_json(name, &payload),
        };
    }
    Ok(command)
}

impl<S: State> Erased for Graph<S, Invocation, Value> {
    fn any(&self) -> Arc<dyn AnyGraph> {
        Arc::new(self.clone())
    }

    fn run(&self, call: Call) -> BoxStream<'static, Result<Said, RunError>> {
        let mut thread = self.thread(call.saver, call.thread);
        if let Some(at) = call.at {
            thread = thread.at(at);
        }
        let stops = |names: Vec<String>| match names.first() {
            Some(first) if first == "*" => self.node_names().to_vec(),
            // Clients may name nodes that this graph does not have.
            _ => {
                let names = names.into_iter().map(NodeName::from);
                let known = names.filter(|name| self.node_names().contains(name));
                known.collect()
            }
        };
        let config = RunConfig::new(call.invocation)
            .cancellation(call.cancel)
            .step_limit(call.step_limit)
            .durability(call.durability)
            .metadata(call.metadata)
            .interrupt_before(stops(call.before))
            .interrupt_after(stops(call.after))
            .modes([
                Mode::Values,
                Mode::Updates,
                Mode::Messages,
                Mode::Custom,
                Mode::Tasks,
                Mode::Checkpoints,
                Mode::Resumed,
            ]);
        let refused = |source| {
            let failed = Err(RunError::Refused { source });
            futures_util::stream::once(async { failed }).boxed()
        };
        let events = match call.start {
            Start::Resume(answers, None) => thread.resume_stream(answers, config),
            Start::Resume(answers, Some(write)) => match command(self, write) {
                Ok(command) => thread.command_stream(answers, command, config),
                Err(error) => return futures_util::stream::once(async { Err(error) }).boxed(),
            },
            Start::Input(input) => match serde_json::from_value::<S::Update>(known(self, input)) {
                Ok(update) => thread.stream(lyceum_graph::Input::Update(update), config),
                Err(error) => return refused(error),
            },
        };
        events
            .filter_map(async |event| {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => return Some(Err(error)),
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

    fn command(
        &self,
        saver: Arc<dyn Saver>,
        thread: ThreadId,
        at: Option<CheckpointId>,
        write: Write,
        metadata: Metadata,
    ) -> BoxFuture<'static, Result<CheckpointId, RunError>> {
        let mut thread = self.thread(saver, thread).metadata(metadata);
        if let Some(at) = at {
            thread = thread.at(at);
        }
        let command = command(self, write);
        Box::pin(async move { thread.command(command?).await })
    }
}

fn stored(stored: Checkpointed) -> Box<Stored> {
    let next = stored.next.iter();
    let next = next.map(|task| (task.node.to_string(), task.id.to_string()));
    Box::new(Stored {
        next: next.collect(),
        state: stored.state.to_json(),
        head: stored.checkpoint,
    })
}

/// A state as one object, untracked fields included.
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
        EventKind::Asked {
            interrupts, task, ..
        } => What::Asked {
            task: task.to_string(),
            interrupts,
        },
        EventKind::Message(chunk) => What::Message {
            node: chunk.node.to_string(),
            id: chunk.message.to_string(),
            index: chunk.index,
            piece: chunk.value,
        },
        EventKind::Custom { value, .. } => What::Custom(value),
        EventKind::Started { task, node, input } => What::Started(json!({
            "id": task.to_string(), "name": node.to_string(),
            "input": input.state.to_json(), "interrupts": [], "triggers": [],
        })),
        EventKind::Ended { task, node, result } => {
            let id = task.to_string();
            let (result, error, asked) = match result {
                TaskResult::Wrote(wrote) => (wrote.map(|wrote| wrote.to_json()), None, Vec::new()),
                TaskResult::Failed { error } => (None, Some(error), Vec::new()),
                TaskResult::Asked(asked) => (None, None, asked),
                _ => return None,
            };
            What::Ended(json!({
                "id": id, "name": node.to_string(), "result": result,
                "error": error, "interrupts": shown(&asked, Some(&id)),
            }))
        }
        EventKind::Checkpointed(checkpoint) => What::Checkpoint(stored(*checkpoint)),
        EventKind::Resumed(checkpoint) => What::Resumed(stored(*checkpoint)),
        EventKind::Finished(output) => What::Finished {
            status: output.status,
            values: object(&*output.state),
            interrupts: output.interrupts,
        },
        _ => return None,
    })
}

/// Interrupts as clients know them; older ones read more than value and id.
pub(crate) fn shown(asked: &[Interrupt], task: Option<&str>) -> Value {
    asked
        .iter()
        .map(|one| {
            let mut shown = json!({
                "value": one.payload, "id": one.id, "when": "during", "resumable": true,
            });
            if let Some(task) = task {
                shown["ns"] = json!([format!("{}:{task}", one.node)]);
            }
            shown
        })
        .collect()
}
