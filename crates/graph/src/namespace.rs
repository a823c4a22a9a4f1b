//! Where in a run something happens: the run itself, or a subgraph inside it.
//!
//! Invariant: a namespace is as long as its graph is deep. Deliberately absent: parsing;
//! whoever writes a namespace on a wire chooses its form from the scopes.

use std::{fmt, sync::Arc};

use crate::{NodeName, TaskId};

/// The path from a run to one of its subgraphs; empty for the run itself. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Namespace(Option<Arc<[Scope]>>);

/// One subgraph on the way: the node it is, and the task that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The node.
    pub node: NodeName,
    /// Its task in the enclosing graph.
    pub task: TaskId,
    /// The task's place in its step's plan, if it was sent a payload: several such tasks of
    /// one node run side by side, and each keeps its part of a thread apart.
    pub sent: Option<usize>,
}

impl Namespace {
    /// Whether it is the run itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// The subgraphs on the way, from the outermost.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The path of these subgraphs, from the outermost; none is the run itself.
    #[must_use]
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let scopes: Arc<[Scope]> = scopes.into_iter().collect();
        Self(Some(scopes).filter(|scopes| !scopes.is_empty()))
    }

    /// Where the subgraph's part of a thread is kept: a name per level, without tasks.
    pub(crate) fn place(&self) -> String {
        let names = self.scopes().iter().map(|scope| match scope.sent {
            None => format!("/{}", scope.node),
            Some(index) => format!("/{}:{index}", scope.node),
        });
        names.collect()
    }

    pub(crate) fn child(&self, node: NodeName, task: TaskId, sent: Option<usize>) -> Self {
        let scopes = self.scopes().iter().cloned();
        Self(Some(scopes.chain([Scope { node, task, sent }]).collect()))
    }
}

/// Node names, joined by `/`.
impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.scopes().iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            scope.node.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
