//! The compiled shape of a graph: which node follows which.
//!
//! Invariant: node ids follow the order of names, so sorting ids sorts names; every id in
//! here is in range. Deliberately absent: node code and checks.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    AnyGraph, State, builder::RouteFn, cache::NodeCache, node::NodeFn, pause::Pauses,
    retry::NodeOptions,
};

/// Where a graph begins: the source of its first edges.
pub const START: &str = "__start__";

/// Where a path ends: a target that runs nothing.
pub const END: &str = "__end__";

/// A node's name; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Borrows the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: AsRef<str>> From<T> for NodeName {
    fn from(text: T) -> Self {
        Self(text.as_ref().into())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A node's place in the order of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a node is started with beside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing: a payload would be lost.
    State,
    /// What it was sent.
    Payload,
}

/// What follows a node when it is done.
pub(crate) struct After<S> {
    pub(crate) edges: Vec<NodeId>,
    pub(crate) routes: Vec<RouteFn<S>>,
    /// Nodes that a route or a command may name.
    pub(crate) declared: Vec<NodeId>,
    /// Whether an edge leads to the end.
    pub(crate) always_ends: bool,
    /// Whether a route or a command may name the end.
    pub(crate) may_end: bool,
    /// Joins that wait for this node, and its place among their sources.
    pub(crate) joins: Vec<(usize, usize)>,
}

impl<S> Default for After<S> {
    fn default() -> Self {
        Self {
            edges: Vec::new(),
            routes: Vec::new(),
            declared: Vec::new(),
            always_ends: false,
            may_end: false,
            joins: Vec::new(),
        }
    }
}

/// A node that runs once after all its sources.
pub(crate) struct Join {
    pub(crate) sources: Vec<NodeId>,
    pub(crate) target: NodeId,
}

/// Everything the stepping needs to know of a graph.
pub(crate) struct Topology<S> {
    pub(crate) names: Vec<NodeName>,
    pub(crate) ids: BTreeMap<NodeName, NodeId>,
    pub(crate) deferred: Vec<bool>,
    pub(crate) takes: Vec<Takes>,
    pub(crate) start: After<S>,
    pub(crate) after: Vec<After<S>>,
    pub(crate) joins: Vec<Join>,
    /// Per node, the channels it declares to write, if it declares any.
    pub(crate) writes: Vec<Option<Vec<bool>>>,
    pub(crate) pauses: Pauses<NodeId>,
}

/// What runs as a node.
pub(crate) struct NodeCode<S: State, C, E> {
    pub(crate) run: NodeFn<S, C, E>,
    pub(crate) options: Arc<NodeOptions>,
    pub(crate) cache: Option<Arc<NodeCache<S>>>,
    /// The graph that the node is, if it is one.
    pub(crate) inner: Option<Arc<dyn AnyGraph>>,
}

impl<S: State> Topology<S> {
    pub(crate) fn name(&self, id: NodeId) -> &NodeName {
        &self.names[id.index()]
    }
}
