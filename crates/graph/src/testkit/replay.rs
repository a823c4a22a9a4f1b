//! Replays a recording: the graph steps as before, and no node's code runs.
//!
//! Invariant: the first difference between the run and the recording ends the run and is
//! reported. Deliberately absent: guesses; a recording is not adapted to a changed graph.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::{pending, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::record::{Call, Outcome, Recording, begun, wrap};
use crate::{
    Graph, NodeError, NodeName, State,
    node::{self, NodeResult},
};

/// How far a replay is. Clones share it.
#[derive(Debug, Clone)]
pub struct Replay(Arc<Mutex<Left>>);

#[derive(Debug)]
struct Left {
    calls: BTreeMap<(u64, NodeName, usize), VecDeque<Call>>,
    first: Option<Divergence>,
}

/// Where a run and its recording part.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("replay step {step}, node {node}: {mismatch}")]
pub struct Divergence {
    /// The step.
    pub step: u64,
    /// The node.
    pub node: NodeName,
    /// How they differ.
    pub mismatch: Mismatch,
}

/// How a run and its recording differ.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The run called a node that was not called then.
    NotRecorded,
    /// The run did not call a node that was called then.
    NotCalled,
    /// The node was given something else.
    Input {
        /// Where in its state, as a JSON pointer; `payload` for what it was sent.
        at: String,
        /// What was recorded there.
        recorded: Value,
        /// What the run gave.
        found: Value,
    },
    /// What was recorded is no result of this graph's types.
    Result(String),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRecorded => f.write_str("it was not called when the run was recorded"),
            Self::NotCalled => f.write_str("it was called when the run was recorded"),
            Self::Input {
                at,
                recorded,
                found,
            } => write!(
                f,
                "its input differs at {at}: recorded {recorded}, found {found}"
            ),
            Self::Result(error) => write!(f, "its recorded result does not fit: {error}"),
        }
    }
}

impl Replay {
    /// Whether the run was what was recorded, all of it.
    ///
    /// # Errors
    ///
    /// The first divergence; a call that the run left out counts as one.
    pub fn finish(&self) -> Result<(), Divergence> {
        let left = self.lock();
        if let Some(first) = &left.first {
            return Err(first.clone());
        }
        match left.calls.iter().find(|(_, calls)| !calls.is_empty()) {
            None => Ok(()),
            Some(((step, node, _), _)) => Err(Divergence {
                step: *step,
                node: node.clone(),
                mismatch: Mismatch::NotCalled,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recorded call that a call repeats.
    fn take(&self, call: &Call) -> Result<Outcome, Divergence> {
        let mut left = self.lock();
        let key = (call.step, call.node.clone(), call.index);
        let recorded = left.calls.get_mut(&key).and_then(VecDeque::pop_front);
        let mismatch = match recorded {
            None => Mismatch::NotRecorded,
            Some(recorded) => match difference(&recorded, call) {
                None => return Ok(recorded.outcome),
                Some(mismatch) => mismatch,
            },
        };
        Err(left.diverge(call, mismatch))
    }
}

impl Left {
    fn diverge(&mut self, call: &Call, mismatch: Mismatch) -> Divergence {
        let divergence = Divergence {
            step: call.step,
            node: call.node.clone(),
            mismatch,
        };
        self.first.get_or_insert_with(|| divergence.clone());
        divergence
    }
}

/// A graph that steps as the given one while its nodes do what was recorded. A node whose
/// input differs, or that was not called then, fails for good with the [`Divergence`].
///
/// Calls are matched by step, node and place in the step, so runs on one thread are replayed
/// in the order in which they were recorded, on a fresh thread.
#[must_use]
pub fn replay<S, C, E>(graph: &Graph<S, C, E>, recording: Recording) -> (Graph<S, C, E>, Replay)
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    let mut calls: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
    for call in recording.calls {
        let key = (call.step, call.node.clone(), call.index);
        calls.entry(key).or_default().push_back(call);
    }
    let replay = Replay(Arc::new(Mutex::new(Left { calls, first: None })));
    let wrapped = wrap(graph, |_| {
        let replay = replay.clone();
        Arc::new(move |call| act(&replay, &call))
    });
    (wrapped, replay)
}

/// Does what was recorded of a call.
fn act<S: State, C, E>(
    replay: &Replay,
    call: &node::Call<S, C, E>,
) -> BoxFuture<'static, NodeResult<S>> {
    let asked = begun(call);
    let outcome = match replay.take(&asked) {
        Ok(outcome) => outcome,
        Err(divergence) => return Box::pin(ready(Err(NodeError::permanent(divergence)))),
    };
    match outcome {
        Outcome::Returned(json) => {
            let command = serde_json::from_value(json).map_err(|error| {
                let mismatch = Mismatch::Result(error.to_string());
                NodeError::permanent(replay.lock().diverge(&asked, mismatch))
            });
            Box::pin(ready(command))
        }
        Outcome::Failed {
            is_retryable,
            error,
        } => Box::pin(ready(Err(match is_retryable {
            true => NodeError::transient(error),
            false => NodeError::permanent(error),
        }))),
        Outcome::Asked(interrupts) => {
            call.context.task.memo().interrupts.extend(interrupts);
            Box::pin(pending())
        }
        Outcome::Dropped => Box::pin(pending()),
    }
}

/// The first difference of what two calls were given.
fn difference(recorded: &Call, found: &Call) -> Option<Mismatch> {
    if recorded.payload != found.payload {
        let at = "payload".to_owned();
        let (recorded, found) = (
            recorded.payload.clone().into(),
            found.payload.clone().into(),
        );
        return Some(Mismatch::Input {
            at,
            recorded,
            found,
        });
    }
    first_difference(String::new(), &recorded.state, &found.state)
}

fn first_difference(at: String, recorded: &Value, found: &Value) -> Option<Mismatch> {
    if recorded == found {
        return None;
    }
    let deeper = match (recorded, found) {
        (Value::Object(recorded), Value::Object(found)) => {
            let mut keys: Vec<_> = recorded.keys().chain(found.keys()).collect();
            keys.sort_unstable();
            keys.iter().find_map(|key| {
                let side = |map: &serde_json::Map<String, Value>| map.get(*key).cloned();
                let (recorded, found) = (side(recorded)?, side(found)?);
                let key = key.replace('~', "~0").replace('/', "~1");
                first_difference(format!("{at}/{key}"), &recorded, &found)
            })
        }
        (Value::Array(recorded), Value::Array(found)) => {
            let mut pairs = recorded.iter().zip(found).enumerate();
            pairs.find_map(|(index, (recorded, found))| {
                first_difference(format!("{at}/{index}"), recorded, found)
            })
        }
        _ => None,
    };
    // Two lists of different length, or two objects of different keys, differ as a whole.
    deeper.or_else(|| {
        let (recorded, found) = (recorded.clone(), found.clone());
        Some(Mismatch::Input {
            at,
            recorded,
            found,
        })
    })
}
