//! Which nodes certainly run in one step, and whether they declare to write one field.
//!
//! Invariant: only edges and joins count, so what is found here happens in every run that
//! comes to the step. Deliberately absent: routes, commands and sends, whose collisions a
//! run finds.

use std::collections::BTreeSet;

use crate::{
    CompileError, State,
    topology::{NodeId, Topology},
};

/// Finds two declared writers of a field that takes one write a step, in one step.
pub(crate) fn check<S: State>(topology: &Topology<S>) -> Result<(), CompileError> {
    let declared = topology.writes.iter().flatten().count();
    if declared < 2 {
        return Ok(());
    }
    walk(topology, &topology.start.edges)?;
    let forks = topology.after.iter().map(|after| &after.edges);
    forks
        .filter(|edges| edges.len() > 1)
        .try_for_each(|edges| walk(topology, edges))
}

/// Follows what certainly runs after a fork, until its branches have met.
fn walk<S: State>(topology: &Topology<S>, first: &[NodeId]) -> Result<(), CompileError> {
    let is_known = |id: &NodeId| !topology.deferred[id.index()];
    let mut step: BTreeSet<NodeId> = first.iter().copied().filter(is_known).collect();
    let mut arrived = vec![BTreeSet::new(); topology.joins.len()];
    // A walk longer than the graph goes round in a circle.
    for _ in 0..topology.names.len() {
        if step.len() < 2 {
            break;
        }
        collide(topology, &step)?;
        let mut next = BTreeSet::new();
        for node in &step {
            let after = &topology.after[node.index()];
            next.extend(after.edges.iter().copied().filter(is_known));
            for (join, source) in &after.joins {
                arrived[*join].insert(*source);
            }
        }
        for (join, arrived) in topology.joins.iter().zip(&mut arrived) {
            if arrived.len() == join.sources.len() {
                arrived.clear();
                next.extend(Some(join.target).filter(is_known));
            }
        }
        step = next;
    }
    Ok(())
}

fn collide<S: State>(topology: &Topology<S>, step: &BTreeSet<NodeId>) -> Result<(), CompileError> {
    for (index, channel) in S::CHANNELS.iter().enumerate() {
        if !channel.kind.takes_one_write() {
            continue;
        }
        let mut writers = step.iter().filter(|node| {
            let writes = &topology.writes[node.index()];
            writes.as_ref().is_some_and(|writes| writes[index])
        });
        if let (Some(first), Some(second)) = (writers.next(), writers.next()) {
            return Err(CompileError::TwoWriters {
                channel: channel.name,
                first: topology.name(*first).clone(),
                second: topology.name(*second).clone(),
            });
        }
    }
    Ok(())
}
