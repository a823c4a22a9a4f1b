//! Records what every node of a run was given and what it did, as JSON.
//!
//! Invariant: calls are listed in the order in which they began. Deliberately absent: what
//! nodes emit and the effects they run; a subgraph is recorded as the one node it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Graph, Interrupt, NodeName, State,
    node::{self, NodeFn},
    shown::state_json,
    task::TaskState,
    topology::NodeCode,
};

/// What happened in the nodes of some runs; keep it as JSON beside a test.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// The calls, in the order in which they began.
    pub calls: Vec<Call>,
}

/// One attempt of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its step.
    pub step: u64,
    /// Its node.
    pub node: NodeName,
    /// Its place among the tasks of the step.
    pub index: usize,
    /// Which attempt it was; the first is 1.
    pub attempt: u32,
    /// The state that the node saw. Untracked channels are left out.
    pub state: Value,
    /// What it was sent, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// What it did.
    pub outcome: Outcome,
}

/// What a node did in one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It returned this command: writes, targets, sends.
    Returned(Value),
    /// It failed.
    Failed {
        /// Whether another attempt might help.
        is_retryable: bool,
        /// What its error said.
        error: String,
    },
    /// It waited for answers.
    Asked(Vec<Interrupt>),
    /// It was dropped: its time was up, or its run was cancelled.
    Dropped,
}

/// Where a recorded graph writes. Clones share the recording.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// What was recorded so far.
    #[must_use]
    pub fn recording(&self) -> Recording {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A graph that behaves as the given one and writes down what its nodes do, in however many
/// runs. Results are not taken from caches, so that every task is recorded.
#[must_use]
pub fn record<S, C, E>(graph: &Graph<S, C, E>) -> (Graph<S, C, E>, Recorder)
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    let recorder = Recorder::default();
    let wrapped = wrap(graph, |code| {
        let (run, recorder) = (code.run.clone(), recorder.clone());
        Arc::new(move |call| {
            let begun = Begun::new(&recorder, &call);
            let running = run(call);
            Box::pin(async move {
                let result = running.await;
                begun.end(match &result {
                    // What is no JSON is shown as null.
                    Ok(command) => {
                        Outcome::Returned(serde_json::to_value(command).unwrap_or_default())
                    }
                    Err(error) => Outcome::Failed {
                        is_retryable: error.is_retryable(),
                        error: error.to_string(),
                    },
                });
                result
            })
        })
    });
    (wrapped, recorder)
}

/// The same graph with other code in its nodes.
pub(super) fn wrap<S, C, E>(
    graph: &Graph<S, C, E>,
    code: impl Fn(&NodeCode<S, C, E>) -> NodeFn<S, C, E>,
) -> Graph<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    let nodes = graph.nodes.iter().map(|node| NodeCode {
        run: code(node),
        options: node.options.clone(),
        cache: None,
        inner: node.inner.clone(),
    });
    Graph {
        nodes: nodes.collect(),
        ..graph.clone()
    }
}

/// A call as it begins.
pub(super) fn begun<S: State, C, E>(call: &node::Call<S, C, E>) -> Call {
    let task = &call.context.task;
    Call {
        step: task.step,
        node: task.node.clone(),
        index: task.index,
        attempt: call.context.attempt,
        state: state_json(&*call.state),
        payload: call.payload.as_deref().map(str::to_owned),
        outcome: Outcome::Dropped,
    }
}

/// A call that was written down and has yet to say how it ended.
struct Begun {
    recorder: Recorder,
    place: usize,
    task: Arc<TaskState>,
    outcome: Option<Outcome>,
}

impl Begun {
    fn new<S: State, C, E>(recorder: &Recorder, call: &node::Call<S, C, E>) -> Self {
        let begun = begun(call);
        let mut recording = recorder.lock();
        recording.calls.push(begun);
        Self {
            recorder: recorder.clone(),
            place: recording.calls.len() - 1,
            task: call.context.task.clone(),
            outcome: None,
        }
    }
}

impl Begun {
    fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let asked = || {
            let interrupts = self.task.memo().interrupts.clone();
            let asks = !interrupts.is_empty();
            asks.then_some(Outcome::Asked(interrupts))
        };
        let outcome = self.outcome.take().or_else(asked);
        if let Some(outcome) = outcome
            && let Some(call) = self.recorder.lock().calls.get_mut(self.place)
        {
            call.outcome = outcome;
        }
    }
}
