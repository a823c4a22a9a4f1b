//! Where a run stops although nobody asks anything: static interrupts.
//!
//! Invariant: that a run stops is part of the checkpoint it stops at, so a crash does not
//! carry it past the place. Deliberately absent: questions, which nodes ask themselves.

use serde::{Deserialize, Serialize};

use crate::{
    NodeName, RunError, State,
    error::nearest,
    topology::{NodeId, Topology},
};

/// Nodes before and after which runs stop.
#[derive(Debug, Clone)]
pub(crate) struct Pauses<N> {
    pub(crate) before: Vec<N>,
    pub(crate) after: Vec<N>,
}

impl<N> Default for Pauses<N> {
    fn default() -> Self {
        let (before, after) = (Vec::new(), Vec::new());
        Self { before, after }
    }
}

impl<N> Pauses<N> {
    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

impl Pauses<NodeId> {
    /// Adds those of a run to those of its graph.
    pub(crate) fn add<S: State>(
        &mut self,
        named: &Pauses<NodeName>,
        topology: &Topology<S>,
    ) -> Result<(), RunError> {
        let find = |name: &NodeName| {
            let known = topology.ids.get(name).copied();
            known.ok_or_else(|| RunError::UnknownPause {
                node: name.clone(),
                near: nearest(name.as_str(), &topology.names),
            })
        };
        for name in &named.before {
            self.before.push(find(name)?);
        }
        for name in &named.after {
            self.after.push(find(name)?);
        }
        Ok(())
    }
}

/// Whether the run stops before the planned step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pause {
    #[default]
    None,
    /// It stops here once.
    Due,
    /// It has stopped here.
    Passed,
}

impl Pause {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::None
    }
}
