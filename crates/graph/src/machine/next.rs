//! Where a run goes after a step: edges, commands, joins, and the plan of the next one.
//!
//! Invariant: what is planned depends on what was merged alone, not on the order in which tasks
//! ended.

use super::{Machine, Next, Progress, Slot, Task};
use crate::{
    Command, END, NodeName, RunError, START, SendTo, State,
    builder::Route,
    error::nearest,
    pause::Pause,
    topology::{After, NodeId, Takes},
};

impl<S: State> Machine<S> {
    /// Follows everything that leads away from a node that is done.
    pub(super) fn leave(&mut self, node: NodeId, command: Command<S>) -> Result<(), RunError> {
        let topology = self.topology.clone();
        let after = &topology.after[node.index()];
        for (join, source) in &after.joins {
            self.arrived[*join][*source] = true;
        }
        self.follow(after, Some(node), command)
    }

    pub(super) fn fire_joins(&mut self) {
        for (join, arrived) in self.topology.joins.iter().zip(&mut self.arrived) {
            if arrived.iter().all(|arrived| *arrived) {
                arrived.fill(false);
                self.next.nodes.push(join.target);
            }
        }
    }

    /// Collects what follows a node, or the start.
    pub(super) fn follow(
        &mut self,
        after: &After<S>,
        from: Option<NodeId>,
        command: Command<S>,
    ) -> Result<(), RunError> {
        if let Some(SendTo { target, payload }) = command.rescue {
            // The handler was checked by `compile`; the node's own edges are not taken.
            if let Some(id) = self.topology.ids.get(&target) {
                self.next.sends.push((*id, payload));
            }
            return Ok(());
        }
        self.left_to.extend(command.leave_to);
        self.next.nodes.extend(&after.edges);
        self.go(
            after,
            from,
            Route {
                goto: command.goto,
                sends: command.sends,
            },
        )?;
        for route in &after.routes {
            let route = route(&self.state);
            self.go(after, from, route)?;
        }
        Ok(())
    }

    pub(super) fn go(
        &mut self,
        after: &After<S>,
        from: Option<NodeId>,
        route: Route,
    ) -> Result<(), RunError> {
        for target in route.goto {
            if target.as_str() == END && (after.may_end || after.always_ends) {
                continue;
            }
            let id = self.declared(after, from, &target)?;
            self.next.nodes.push(id);
        }
        for SendTo { target, payload } in route.sends {
            let id = self.declared(after, from, &target)?;
            if self.topology.takes[id.index()] == Takes::State {
                let from = from.map_or_else(|| START.into(), |id| self.topology.name(id).clone());
                return Err(RunError::NotAWorker { from, target });
            }
            self.next.sends.push((id, payload));
        }
        Ok(())
    }

    pub(super) fn declared(
        &self,
        after: &After<S>,
        from: Option<NodeId>,
        target: &NodeName,
    ) -> Result<NodeId, RunError> {
        let known = self
            .topology
            .ids
            .get(target)
            .filter(|id| after.declared.contains(id));
        known.copied().ok_or_else(|| {
            let names = after.declared.iter().map(|id| self.topology.name(*id));
            RunError::UndeclaredTarget {
                from: from.map_or_else(|| START.into(), |id| self.topology.name(id).clone()),
                target: target.clone(),
                near: nearest(target.as_str(), names),
            }
        })
    }

    /// Makes tasks of what was collected: sends first, then nodes by name, each once.
    pub(super) fn plan(&mut self) -> Result<Progress, RunError> {
        let Next { nodes, sends } = &mut self.next;
        if !self.left_to.is_empty() {
            nodes.clear();
            sends.clear();
            self.waiting.clear();
        }
        if nodes.iter().any(|id| self.topology.deferred[id.index()]) {
            let deferred = nodes.extract_if(.., |id| self.topology.deferred[id.index()]);
            self.waiting.extend(deferred);
        }
        if nodes.is_empty() && sends.is_empty() {
            nodes.append(&mut self.waiting);
        }
        nodes.sort_unstable();
        nodes.dedup();
        self.tasks.clear();
        let sends = sends.drain(..).map(|(node, payload)| Task {
            node,
            payload: Some(payload),
        });
        self.tasks.extend(sends);
        self.tasks.extend(nodes.drain(..).map(|node| Task {
            node,
            payload: None,
        }));
        self.open_slots();
        self.torn = false;
        let stops = std::mem::take(&mut self.stops_after) || self.stops_before();
        self.pause = if stops { Pause::Due } else { Pause::None };
        if self.tasks.is_empty() {
            return Ok(Progress::Done);
        }
        if self.planned_in_run == self.step_limit {
            return Err(RunError::StepLimit {
                limit: self.step_limit,
            });
        }
        self.planned_in_run += 1;
        Ok(Progress::Planned)
    }

    pub(super) fn open_slots(&mut self) {
        self.open = self.tasks.len();
        self.slots.clear();
        // Exactly: a slot is large, and most steps are one task.
        self.slots.reserve_exact(self.open);
        self.slots.resize_with(self.open, || Slot::Open);
    }
}
