//! The stepping of a graph as a pure state machine: results in, planned tasks out.
//!
//! Invariant: the state after a step depends on the results of its tasks, never on their
//! order of arrival. Deliberately absent: clocks, tasks and I/O, which are the driver's.

use std::sync::Arc;

use crate::{
    Changed, Command, END, Input, NodeName, RunError, START, SendTo, State,
    builder::Route,
    error::nearest,
    topology::{After, NodeId, Topology},
};

/// One planned call of a node in the current step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) node: NodeId,
    /// Set when the task comes from a send.
    pub(crate) payload: Option<Arc<[u8]>>,
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Tasks of the current step are still running.
    Waiting,
    /// A new step was planned: start its tasks.
    Planned,
    /// Nothing is left to run.
    Done,
}

/// A run between its steps.
pub(crate) struct Machine<S: State> {
    topology: Arc<Topology<S>>,
    state: Arc<S>,
    changed: Changed,
    step: u64,
    step_limit: u64,
    tasks: Vec<Task>,
    results: Vec<Option<Command<S>>>,
    open: usize,
    /// Per join, which sources have run.
    arrived: Vec<Vec<bool>>,
    /// Deferred nodes that wait for everything else.
    waiting: Vec<NodeId>,
    /// The next step as it is collected; kept for its capacity.
    next: Next,
}

#[derive(Default)]
struct Next {
    nodes: Vec<NodeId>,
    sends: Vec<(NodeId, Arc<[u8]>)>,
}

impl<S: State> Machine<S> {
    pub(crate) fn new(topology: Arc<Topology<S>>, step_limit: u64) -> Self {
        let arrived = topology
            .joins
            .iter()
            .map(|join| vec![false; join.sources.len()])
            .collect();
        Self {
            topology,
            state: Arc::new(S::default()),
            changed: Changed::none(S::CHANNELS.len()),
            step: 0,
            step_limit,
            tasks: Vec::new(),
            results: Vec::new(),
            open: 0,
            arrived,
            waiting: Vec::new(),
            next: Next::default(),
        }
    }

    pub(crate) fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// The step whose tasks are planned or running; 0 before the first.
    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    pub(crate) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Takes the input and plans the first step.
    pub(crate) fn begin(&mut self, input: Input<S>) -> Result<Progress, RunError> {
        match input {
            Input::State(state) => self.state = Arc::new(state),
            Input::Update(update) => {
                Arc::make_mut(&mut self.state).apply(update, &mut self.changed);
            }
        }
        let topology = self.topology.clone();
        self.follow(&topology.start, None, Command::from(()))?;
        self.plan()
    }

    /// Takes the result of one task; merges and plans when it was the last of its step.
    pub(crate) fn finish(&mut self, task: usize, result: Command<S>) -> Result<Progress, RunError> {
        match self.results.get_mut(task) {
            Some(slot @ None) => *slot = Some(result),
            // A task has one result; a second one cannot come from our driver.
            _ => return Ok(Progress::Waiting),
        }
        self.open -= 1;
        if self.open > 0 {
            return Ok(Progress::Waiting);
        }
        self.merge()?;
        self.plan()
    }

    fn merge(&mut self) -> Result<(), RunError> {
        let mut commands: Vec<_> = self.results.drain(..).flatten().collect();
        let updates: Vec<_> = commands
            .iter_mut()
            .map(|c| c.update.take().unwrap_or_default())
            .collect();
        if updates.len() > 1
            && let Some(found) = S::conflict(&updates)
        {
            let name = |task: usize| self.topology.name(self.tasks[task].node).clone();
            return Err(RunError::Conflict {
                step: self.step,
                channel: S::CHANNELS[found.channel].name,
                first: name(found.first),
                second: name(found.second),
            });
        }
        let state = Arc::make_mut(&mut self.state);
        state.next_step(&mut self.changed);
        for update in updates {
            state.apply(update, &mut self.changed);
        }
        let topology = self.topology.clone();
        let tasks = std::mem::take(&mut self.tasks);
        for (task, command) in tasks.iter().zip(commands) {
            let after = &topology.after[task.node.index()];
            for (join, source) in &after.joins {
                self.arrived[*join][*source] = true;
            }
            self.follow(after, Some(task.node), command)?;
        }
        self.tasks = tasks;
        for (join, arrived) in topology.joins.iter().zip(&mut self.arrived) {
            if arrived.iter().all(|arrived| *arrived) {
                arrived.fill(false);
                self.next.nodes.push(join.target);
            }
        }
        Ok(())
    }

    /// Collects what follows a node, or the start.
    fn follow(
        &mut self,
        after: &After<S>,
        from: Option<NodeId>,
        command: Command<S>,
    ) -> Result<(), RunError> {
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

    fn go(&mut self, after: &After<S>, from: Option<NodeId>, route: Route) -> Result<(), RunError> {
        for target in route.goto {
            if target.as_str() != END {
                let id = self.declared(after, from, &target)?;
                self.next.nodes.push(id);
            }
        }
        for SendTo { target, payload } in route.sends {
            let id = self.declared(after, from, &target)?;
            self.next.sends.push((id, payload));
        }
        Ok(())
    }

    fn declared(
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
    fn plan(&mut self) -> Result<Progress, RunError> {
        let Next { nodes, sends } = &mut self.next;
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
        if self.tasks.is_empty() {
            return Ok(Progress::Done);
        }
        if self.step == self.step_limit {
            return Err(RunError::StepLimit {
                limit: self.step_limit,
            });
        }
        self.step += 1;
        self.open = self.tasks.len();
        self.results.clear();
        self.results.resize_with(self.open, || None);
        Ok(Progress::Planned)
    }
}
