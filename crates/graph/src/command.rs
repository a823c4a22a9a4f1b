//! What a node returns, and what a run is given.
//!
//! Invariant: a send can only be made for the type its worker takes. Deliberately absent:
//! any check of target names, which needs the graph.

use std::{marker::PhantomData, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{NodeError, NodeName, State, checkpoint::Children};

/// A node's result: its writes, and where to go beyond the graph's edges.
///
/// A node that only writes returns its update, and one that writes nothing returns `()`:
/// both convert.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Command<S: State> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) update: Option<S::Update>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) goto: Vec<NodeName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sends: Vec<SendTo>,
    /// Nodes of the enclosing graph; when set, this graph is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) leave_to: Vec<NodeName>,
    /// Set by the runtime when the node failed and has an error handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rescue: Option<SendTo>,
    /// Set by the runtime: where the node's subgraphs with memory stand.
    #[serde(default, skip_serializing_if = "Children::is_empty")]
    pub(crate) children: Children,
}

impl<S: State> Command<S> {
    /// Writes, and follows the graph's edges.
    #[must_use]
    pub fn update(update: S::Update) -> Self {
        let mut command = Self::from(());
        command.update = Some(update);
        command
    }

    /// Writes nothing and goes to a node that the graph declares as a destination.
    #[must_use]
    pub fn goto(target: impl Into<NodeName>) -> Self {
        Self::from(()).and_goto(target)
    }

    /// Also goes to this node, beside the graph's edges.
    #[must_use]
    pub fn and_goto(mut self, target: impl Into<NodeName>) -> Self {
        self.goto.push(target.into());
        self
    }

    /// Also starts this worker once for the payload of the send.
    #[must_use]
    pub fn and_send(mut self, send: SendTo) -> Self {
        self.sends.push(send);
        self
    }

    /// Also starts this node once for a payload that is JSON already; whether the node takes
    /// it shows when it runs.
    #[must_use]
    pub fn and_send_json(
        mut self,
        target: impl Into<NodeName>,
        payload: &serde_json::Value,
    ) -> Self {
        self.sends.push(SendTo {
            target: target.into(),
            payload: payload.to_string().into(),
        });
        self
    }

    /// Ends this graph after the step, and goes to a node of the graph that encloses it;
    /// the subgraph's node must declare that node as a destination. At the outermost graph
    /// it only ends the run.
    #[must_use]
    pub fn and_leave_to(mut self, target: impl Into<NodeName>) -> Self {
        self.leave_to.push(target.into());
        self
    }
}

impl<S: State> From<()> for Command<S> {
    fn from((): ()) -> Self {
        Self {
            update: None,
            goto: Vec::new(),
            sends: Vec::new(),
            leave_to: Vec::new(),
            rescue: None,
            children: Children::new(),
        }
    }
}

impl<S: State> From<SendTo> for Command<S> {
    fn from(send: SendTo) -> Self {
        Self::from(()).and_send(send)
    }
}

impl<S: State> From<Vec<SendTo>> for Command<S> {
    fn from(sends: Vec<SendTo>) -> Self {
        let mut command = Self::from(());
        command.sends = sends;
        command
    }
}

/// What a run starts with.
#[derive(Debug, Clone)]
pub enum Input<S: State> {
    /// Writes to the thread's state, merged like a node's.
    Update(S::Update),
    /// A whole state that replaces the thread's.
    State(S),
}

/// The typed name of a node that runs once per payload.
///
/// ```
/// # use lyceum_graph::Worker;
/// const GRADE: Worker<String> = Worker::new("grade");
/// let send = GRADE.send(&"an essay".to_owned())?;
/// # Ok::<(), lyceum_graph::NodeError>(())
/// ```
#[derive(Debug)]
pub struct Worker<T> {
    name: &'static str,
    payload: PhantomData<fn(T)>,
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Worker<T> {}

impl<T> Worker<T> {
    /// Names a worker.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            payload: PhantomData,
        }
    }

    /// The node's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T: Serialize> Worker<T> {
    /// Starts the worker once in the next step, with this payload.
    ///
    /// # Errors
    ///
    /// A permanent [`NodeError`] when the payload cannot be serialised.
    pub fn send(&self, payload: &T) -> Result<SendTo, NodeError> {
        let payload = serde_json::to_string(payload).map_err(NodeError::permanent)?;
        Ok(SendTo {
            target: self.name.into(),
            payload: payload.into(),
        })
    }
}

/// One planned call of a [`Worker`]; made by [`Worker::send`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendTo {
    pub(crate) target: NodeName,
    pub(crate) payload: Arc<str>,
}
