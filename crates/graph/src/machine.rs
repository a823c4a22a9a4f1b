//! The stepping of a graph as a pure state machine: results in, planned tasks out.
//!
//! Invariant: the state after a step depends on the results of its tasks, never on their
//! order of arrival. Deliberately absent: clocks, tasks and I/O, which are the driver's.

mod next;

use std::sync::Arc;

use crate::{
    Changed, Command, END, Input, NodeName, RunError, START, SendTo, State,
    chain::Chain,
    checkpoint::Children,
    pause::{Pause, Pauses},
    topology::{NodeId, Takes, Topology},
};

/// One planned call of a node in the current step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) node: NodeId,
    /// Set when the task comes from a send: JSON.
    pub(crate) payload: Option<Arc<str>>,
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Tasks of the current step are still running.
    Waiting,
    /// A new step was planned: start its tasks.
    Planned,
    /// Every task of the step is done or waits for an answer from outside.
    Interrupted,
    /// Nothing is left to run.
    Done,
}

/// How far one task is.
enum Slot<S: State> {
    Open,
    Done(Command<S>),
    Interrupted,
}

/// A run between its steps.
pub(crate) struct Machine<S: State> {
    pub(super) topology: Arc<Topology<S>>,
    pub(super) state: Arc<S>,
    /// Channels written since the last checkpoint was taken.
    pub(super) changed: Changed,
    /// Per channel, what is stored of it.
    pub(super) stored: Vec<Chain>,
    /// Steps merged in the thread.
    pub(super) merged: u64,
    planned_in_run: u64,
    step_limit: u64,
    pub(super) tasks: Vec<Task>,
    slots: Vec<Slot<S>>,
    open: usize,
    /// Per join, which sources have run.
    pub(super) arrived: Vec<Vec<bool>>,
    /// Deferred nodes that wait for everything else.
    pub(super) waiting: Vec<NodeId>,
    /// Nodes of an enclosing graph that this graph leaves to.
    left_to: Vec<NodeName>,
    /// The next step as it is collected; kept for its capacity.
    next: Next,
    /// Where runs stop, if anywhere.
    pauses: Option<Box<Pauses<NodeId>>>,
    /// Whether this one stops before the planned step.
    pub(super) pause: Pause,
    /// Whether a node of the merged step stops the run after it.
    stops_after: bool,
    /// Where subgraphs with memory stand.
    pub(super) children: Arc<Children>,
    /// The task of an enclosing graph that began this run.
    pub(super) origin: Option<String>,
    /// Set while a merge is under way: after an error in it, state and plan do not agree.
    torn: bool,
}

#[derive(Default)]
struct Next {
    nodes: Vec<NodeId>,
    sends: Vec<(NodeId, Arc<str>)>,
}

impl<S: State> Machine<S> {
    pub(crate) fn new(topology: Arc<Topology<S>>, step_limit: u64) -> Self {
        let arrived = topology
            .joins
            .iter()
            .map(|join| vec![false; join.sources.len()])
            .collect();
        let pauses = Some(&topology.pauses).filter(|pauses| !pauses.is_empty());
        let pauses = pauses.cloned().map(Box::new);
        Self {
            topology,
            state: Arc::new(S::default()),
            changed: Changed::none(S::CHANNELS.len()),
            stored: S::CHANNELS.iter().map(|_| Chain::default()).collect(),
            merged: 0,
            planned_in_run: 0,
            step_limit,
            tasks: Vec::new(),
            slots: Vec::new(),
            open: 0,
            arrived,
            waiting: Vec::new(),
            left_to: Vec::new(),
            next: Next::default(),
            pauses,
            pause: Pause::None,
            stops_after: false,
            children: Arc::default(),
            origin: None,
            torn: false,
        }
    }

    /// Says that checkpoints will be taken, so that writes are kept for them.
    pub(crate) fn keep_writes(&mut self) {
        self.changed.keep_writes();
    }

    /// Adds places where this run stops.
    pub(crate) fn pause_at(&mut self, named: &Pauses<NodeName>) -> Result<(), RunError> {
        if named.is_empty() {
            return Ok(());
        }
        let pauses = self.pauses.get_or_insert_default();
        pauses.add(named, &self.topology)
    }

    /// Whether the run stops before the planned step.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause == Pause::Due
    }

    /// Goes on from a checkpoint: past its stop if the run has stopped there.
    pub(crate) fn pass_pause(&mut self, has_stopped: bool) {
        if has_stopped && self.pause == Pause::Due {
            self.pause = Pause::Passed;
        } else if !has_stopped && self.pause == Pause::None && self.stops_before() {
            self.pause = Pause::Due;
        }
    }

    fn stops_before(&self) -> bool {
        let stops = |pauses: &Pauses<NodeId>| {
            let mut tasks = self.tasks.iter();
            tasks.any(|task| pauses.before.contains(&task.node))
        };
        self.pauses.as_deref().is_some_and(stops)
    }

    pub(crate) fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// Steps merged in the thread so far; the tasks planned now belong to the next one.
    pub(crate) fn merged(&self) -> u64 {
        self.merged
    }

    /// Tasks of the step that have neither finished nor been interrupted.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn is_open(&self, task: usize) -> bool {
        matches!(self.slots.get(task), Some(Slot::Open))
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| matches!(slot, Slot::Interrupted))
    }

    pub(crate) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Whether an error left state and plan in disagreement, so that neither may be saved.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn
    }

    pub(crate) fn children(&self) -> &Arc<Children> {
        &self.children
    }

    pub(crate) fn set_children(&mut self, children: Children) {
        self.children = children.into();
    }

    /// What the driver does next with a run that was left where it is.
    pub(crate) fn progress(&self) -> Progress {
        match (self.tasks.is_empty(), self.open) {
            (true, _) => Progress::Done,
            (false, 0) => Progress::Interrupted,
            (false, _) => Progress::Planned,
        }
    }

    pub(crate) fn set_origin(&mut self, origin: Option<String>) {
        self.origin = origin;
    }

    pub(crate) fn take_left_to(&mut self) -> Vec<NodeName> {
        std::mem::take(&mut self.left_to)
    }

    /// Takes an input, drops whatever was planned, and plans from the start.
    pub(crate) fn begin(&mut self, input: Input<S>) -> Result<Progress, RunError> {
        match input {
            Input::State(state) => {
                self.state = Arc::new(state);
                self.changed.mark_all();
            }
            Input::Update(update) => {
                Arc::make_mut(&mut self.state).apply(update, &mut self.changed);
            }
        }
        self.waiting.clear();
        self.arrived
            .iter_mut()
            .for_each(|arrived| arrived.fill(false));
        let topology = self.topology.clone();
        self.follow(&topology.start, None, Command::from(()))?;
        self.plan()
    }

    /// Writes from outside a run. With a node, what follows it is planned instead of what
    /// was planned before.
    pub(crate) fn write(
        &mut self,
        update: S::Update,
        as_node: Option<NodeId>,
    ) -> Result<(), RunError> {
        Arc::make_mut(&mut self.state).apply(update, &mut self.changed);
        if let Some(node) = as_node {
            self.leave(node, Command::from(()))?;
            self.fire_joins();
            self.plan()?;
        }
        Ok(())
    }

    /// Writes from outside, and adds tasks to those that are planned.
    pub(crate) fn command(&mut self, command: Command<S>) -> Result<Progress, RunError> {
        if let Some(update) = command.update {
            Arc::make_mut(&mut self.state).apply(update, &mut self.changed);
        }
        let mut tasks = std::mem::take(&mut self.tasks);
        for SendTo { target, payload } in command.sends {
            let (node, payload) = (self.known(&target)?, Some(payload));
            if self.topology.takes[node.index()] == Takes::State {
                let from = START.into();
                return Err(RunError::NotAWorker { from, target });
            }
            tasks.push(Task { node, payload });
        }
        for target in command.goto {
            if target.as_str() == END {
                continue;
            }
            let (node, payload) = (self.known(&target)?, None);
            let task = Task { node, payload };
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        Ok(self.replan(tasks))
    }

    /// Continues with the tasks of a checkpoint.
    pub(crate) fn replan(&mut self, tasks: Vec<Task>) -> Progress {
        self.tasks = tasks;
        self.open_slots();
        if self.tasks.is_empty() {
            Progress::Done
        } else {
            self.planned_in_run = 1;
            Progress::Planned
        }
    }

    /// Takes the result of one task; merges and plans when it was the last of its step.
    pub(crate) fn finish(&mut self, task: usize, result: Command<S>) -> Result<Progress, RunError> {
        self.settle(task, Slot::Done(result))
    }

    /// Notes that a task waits for an answer from outside the run.
    pub(crate) fn interrupt(&mut self, task: usize) -> Result<Progress, RunError> {
        self.settle(task, Slot::Interrupted)
    }

    fn settle(&mut self, task: usize, settled: Slot<S>) -> Result<Progress, RunError> {
        match self.slots.get_mut(task) {
            Some(slot @ Slot::Open) => *slot = settled,
            // A task settles once; a second time cannot come from our driver.
            _ => return Ok(Progress::Waiting),
        }
        self.open -= 1;
        if self.open > 0 {
            return Ok(Progress::Waiting);
        }
        if self.is_interrupted() {
            return Ok(Progress::Interrupted);
        }
        self.merge()?;
        self.plan()
    }

    fn merge(&mut self) -> Result<(), RunError> {
        let mut commands: Vec<_> = self
            .slots
            .drain(..)
            .filter_map(|slot| match slot {
                Slot::Done(command) => Some(command),
                Slot::Open | Slot::Interrupted => None,
            })
            .collect();
        let updates: Vec<_> = commands
            .iter_mut()
            .map(|command| command.update.take().unwrap_or_default())
            .collect();
        if updates.len() > 1
            && let Some(found) = S::conflict(&updates)
        {
            let name = |task: usize| self.topology.name(self.tasks[task].node).clone();
            return Err(RunError::Conflict {
                step: self.merged + 1,
                channel: S::CHANNELS[found.channel].name,
                first: name(found.first),
                second: name(found.second),
            });
        }
        self.check_writes(&updates)?;
        self.torn = true;
        let state = Arc::make_mut(&mut self.state);
        state.next_step(&mut self.changed);
        for update in updates {
            state.apply(update, &mut self.changed);
        }
        self.merged += 1;
        let tasks = std::mem::take(&mut self.tasks);
        if let Some(pauses) = &self.pauses {
            let stops = |task: &Task| pauses.after.contains(&task.node);
            self.stops_after = tasks.iter().any(stops);
        }
        for (task, mut command) in tasks.iter().zip(commands) {
            if !command.children.is_empty() {
                let children = std::mem::take(&mut command.children);
                Arc::make_mut(&mut self.children).extend(children);
            }
            self.leave(task.node, command)?;
        }
        self.tasks = tasks;
        self.fire_joins();
        Ok(())
    }

    /// Holds nodes that declare what they write to it.
    fn check_writes(&self, updates: &[S::Update]) -> Result<(), RunError> {
        for (task, update) in self.tasks.iter().zip(updates) {
            let Some(declared) = &self.topology.writes[task.node.index()] else {
                continue;
            };
            let undeclared = declared
                .iter()
                .enumerate()
                .find(|(channel, declared)| !**declared && S::writes(update, *channel));
            if let Some((channel, _)) = undeclared {
                return Err(RunError::UndeclaredWrite {
                    step: self.merged + 1,
                    node: self.topology.name(task.node).clone(),
                    channel: S::CHANNELS[channel].name,
                });
            }
        }
        Ok(())
    }
}
