//! The thin driver: polls node futures, feeds their results to the machine, and has the
//! journal store what must not be lost.
//!
//! Invariant: dropping the driver drops every running node; nothing outlives a run.
//! Deliberately absent: decisions about steps, which are the machine's.

mod observe;
mod tell;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Answers, Command, Graph, Input, Interrupt, Output, RunError, State, Status,
    attempt::{Attempts, Outcome},
    checkpoint::Plan,
    context::RunContext,
    journal::{Journal, Recorded, distribute, has_paused, recorded},
    machine::{Machine, Progress},
    observer::RunWatch,
    outlet::Events,
    retry::Failure,
    saver::{Checkpoint, Saved, Source},
    task::TaskState,
    thread::Base,
};

/// How a run begins.
pub(crate) enum Begin<S: State> {
    /// With an input, on top of the thread's state there.
    Input(Input<S>, Base),
    /// Where the thread stopped, with what is written and planned beside.
    Resume(Answers, Option<Command<S>>),
    /// As the work of one task of an enclosing graph: continues if that task began before.
    Nested {
        origin: String,
        input: Input<S>,
        answers: BTreeMap<String, serde_json::Value>,
        keep_state: bool,
    },
}

/// Drives one run to its end, and stores what is left to store however it ends.
pub(crate) async fn drive<S, C, E>(
    graph: Graph<S, C, E>,
    begin: Begin<S>,
    run: Arc<RunContext<C, E>>,
    events: Option<Arc<Events<S, E>>>,
) -> Result<Output<S>, RunError>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    let watch = RunWatch::start(&run);
    let mut machine = Machine::new(graph.topology.clone(), run.config.step_limit);
    if run.durable.is_some() {
        machine.keep_writes();
    }
    let journal = run.durable.clone().map(Journal::new);
    let mut driver = Driver {
        graph,
        machine,
        journal,
        run,
        events,
        recorded: BTreeMap::new(),
        interrupts: Vec::new(),
        paused: false,
        merged_before: 0,
        step_began: None,
    };
    let result = match driver.begin(begin).await {
        Ok(progress) => driver.advance(progress).await,
        Err(error) => Err(error),
    };
    let is_told = driver.wants_checkpoints();
    let closed = match &mut driver.journal {
        Some(journal) => journal.close(&mut driver.machine, is_told).await,
        None => Ok(None),
    };
    let closed = match closed {
        Ok(stored) => {
            driver.observe_checkpoint(stored.as_ref());
            driver.observe_pruning();
            driver.tell_stored(stored).await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    // The first error is the one that ended the run.
    let result = result.and_then(|output| closed.map(|()| output));
    watch.end(driver.machine.merged(), &result);
    result
}

struct Driver<S: State, C, E> {
    graph: Graph<S, C, E>,
    machine: Machine<S>,
    journal: Option<Journal>,
    run: Arc<RunContext<C, E>>,
    events: Option<Arc<Events<S, E>>>,
    /// What a resumed step's tasks achieved before.
    recorded: BTreeMap<usize, Recorded<S>>,
    interrupts: Vec<Interrupt>,
    /// A subgraph has stopped where it was told to.
    paused: bool,
    merged_before: u64,
    /// When the running step began, if somebody observes.
    step_began: Option<Instant>,
}

impl<S, C, E> Driver<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    async fn begin(&mut self, begin: Begin<S>) -> Result<Progress, RunError> {
        if self.run.namespace.is_root() {
            self.machine.pause_at(&self.run.config.pauses)?;
        }
        let base = match &begin {
            Begin::Input(_, base) => *base,
            Begin::Resume(..) | Begin::Nested { .. } => Base::Newest,
        };
        let saved = match &self.run.durable {
            Some(durable) if base != Base::Empty => {
                let thread = &durable.held.lease.thread;
                let saver = &durable.saver;
                let id = base.checkpoint();
                durable.settle().await?;
                saver.load(thread, &durable.namespace, id).await?
            }
            _ => None,
        };
        if saved.is_none() && base.checkpoint().is_some() {
            return Err(RunError::NoCheckpoint);
        }
        match begin {
            Begin::Input(input, _) => self.begin_with(input, saved.as_ref(), None).await,
            Begin::Resume(answers, command) => {
                let saved = saved.ok_or(RunError::NoCheckpoint)?;
                self.resume(&saved, answers, command).await
            }
            Begin::Nested {
                origin,
                input,
                mut answers,
                keep_state,
            } => {
                if let Some(saved) = &saved
                    && Plan::read(&saved.checkpoint)?.origin.as_ref() == Some(&origin)
                {
                    let asked = recorded::<S>(saved)?;
                    let asked = asked.values().flat_map(|recorded| &recorded.pending);
                    let asked: Vec<_> = asked.map(|interrupt| &interrupt.id).collect();
                    answers.retain(|id, _| asked.contains(&id));
                    return self.resume(saved, Answers::ById(answers), None).await;
                }
                let saved = saved.filter(|_| keep_state);
                self.begin_with(input, saved.as_ref(), Some(origin)).await
            }
        }
    }

    async fn begin_with(
        &mut self,
        input: Input<S>,
        saved: Option<&Saved>,
        origin: Option<String>,
    ) -> Result<Progress, RunError> {
        if let Some(saved) = saved {
            self.restore(saved)?;
        }
        self.machine.set_origin(origin);
        let progress = self.machine.begin(input)?;
        let stored = self.checkpoint(Source::Input).await?;
        self.tell_merged(stored).await;
        Ok(progress)
    }

    fn restore(&mut self, saved: &Saved) -> Result<Progress, RunError> {
        let progress = self.machine.restore(saved)?;
        self.merged_before = self.machine.merged();
        if let Some(journal) = &mut self.journal {
            journal.continue_from(saved.checkpoint.id);
        }
        Ok(progress)
    }

    /// Continues a step: results that were recorded are taken, tasks that still wait for an
    /// answer stay asleep, the others run.
    async fn resume(
        &mut self,
        saved: &Saved,
        answers: Answers,
        command: Option<Command<S>>,
    ) -> Result<Progress, RunError> {
        let mut progress = self.restore(saved)?;
        if let Some(command) = command {
            progress = self.machine.command(command)?;
        }
        self.tell_resumed(&saved.checkpoint).await;
        self.machine.pass_pause(has_paused(saved));
        let mut tasks = recorded::<S>(saved)?;
        let given = distribute(&mut tasks, answers)?;
        if let Some(journal) = &mut self.journal {
            journal.answers(&given).await?;
        }
        for (index, mut recorded) in tasks {
            let is_answered = given.iter().any(|(task, ..)| *task == index);
            if let Some(command) = recorded.result.take() {
                progress = self.machine.finish(index, command)?;
            } else if !recorded.pending.is_empty() && !is_answered {
                self.interrupts.append(&mut recorded.pending);
                progress = self.machine.interrupt(index)?;
            } else {
                self.recorded.insert(index, recorded);
            }
        }
        if self.machine.merged() > self.merged_before {
            let stored = self.checkpoint(Source::Step).await?;
            self.tell_merged(stored).await;
        } else if progress == Progress::Waiting {
            return Ok(Progress::Planned);
        }
        Ok(progress)
    }

    async fn checkpoint(&mut self, source: Source) -> Result<Option<Checkpoint>, RunError> {
        let is_told = self.wants_checkpoints();
        let Some(journal) = &mut self.journal else {
            return Ok(None);
        };
        let machine = &mut self.machine;
        let stored = journal.checkpoint(machine, source, is_told).await?;
        self.observe_checkpoint(stored.as_ref());
        self.observe_pruning();
        Ok(stored)
    }

    async fn advance(&mut self, mut progress: Progress) -> Result<Output<S>, RunError> {
        let mut running = FuturesUnordered::new();
        let mut next = 0;
        loop {
            match progress {
                Progress::Done => return Ok(self.output(Status::Done)),
                Progress::Interrupted if self.interrupts.is_empty() && self.paused => {
                    return Ok(self.output(Status::Paused));
                }
                Progress::Interrupted if self.interrupts.is_empty() => {
                    return Ok(self.output(Status::Drained));
                }
                Progress::Interrupted => return Ok(self.output(Status::Interrupted)),
                Progress::Planned => {
                    let drain = &self.run.config.drain;
                    if drain.as_ref().is_some_and(CancellationToken::is_cancelled) {
                        return Ok(self.output(Status::Drained));
                    }
                    if self.machine.is_paused() {
                        if let Some(journal) = &mut self.journal {
                            journal.paused().await?;
                        }
                        return Ok(self.output(Status::Paused));
                    }
                    self.observe_step();
                    self.tell_planned().await;
                    next = 0;
                }
                Progress::Waiting => {}
            }
            while running.len() < self.run.config.max_concurrency.get()
                && next < self.machine.tasks().len()
            {
                if self.machine.is_open(next) {
                    let task = self.start(next).await;
                    running.push(task);
                }
                next += 1;
            }
            let Some((task, outcome)) = self.wait(&mut running).await? else {
                return Ok(self.output(Status::Cancelled));
            };
            if self.journal.is_none() {
                progress = self.settle(&task, outcome).await?;
                continue;
            }
            // Whatever else has ended by now is stored with it: one transaction, not many.
            let mut ended = vec![(task, outcome)];
            while let Some(Some(other)) = running.next().now_or_never() {
                ended.push(other);
            }
            self.record(&ended).await?;
            for (task, outcome) in ended {
                progress = self.settle(&task, outcome).await?;
            }
        }
    }

    /// Stores the results of tasks that ended together, unless they are all that the step
    /// waits for: then the next checkpoint holds what they wrote.
    async fn record(&mut self, ended: &[(Arc<TaskState>, Outcome<S>)]) -> Result<(), RunError> {
        let results = || {
            ended.iter().filter_map(|(task, outcome)| match outcome {
                Outcome::Done(command) => Some((task.index, command)),
                _ => None,
            })
        };
        let is_whole = results().count() == self.machine.open() && !self.machine.is_interrupted();
        match &mut self.journal {
            Some(journal) if !is_whole => journal.results(results()).await,
            _ => Ok(()),
        }
    }

    /// Makes a planned task a future; it runs when it is polled.
    async fn start(
        &mut self,
        index: usize,
    ) -> impl Future<Output = (Arc<TaskState>, Outcome<S>)> + Send + use<S, C, E> {
        let planned = &self.machine.tasks()[index];
        let (id, payload) = (planned.node, planned.payload.clone());
        let node = self.graph.topology.name(id).clone();
        let step = self.machine.merged() + 1;
        let checkpoint = self.current();
        let memo = self
            .recorded
            .remove(&index)
            .map(|recorded| recorded.memo)
            .unwrap_or_default();
        let task = Arc::new(TaskState::new(node, step, index, checkpoint, memo));
        self.tell_started(&task, payload.as_ref()).await;
        let code = &self.graph.nodes[id.index()];
        let attempts = Attempts {
            code: code.run.clone(),
            options: code.options.clone(),
            cache: code.cache.clone(),
            state: self.machine.state().clone(),
            run: self.run.clone(),
            task: task.clone(),
            payload,
        };
        async move { (task, attempts.run().await) }
    }

    /// Waits for a task; `None` when the run is cancelled.
    async fn wait<F>(
        &mut self,
        running: &mut FuturesUnordered<F>,
    ) -> Result<Option<F::Output>, RunError>
    where
        F: Future,
    {
        let cancel = self.run.config.cancel.clone();
        let Some(journal) = &mut self.journal else {
            return Ok(cancel.run_until_cancelled(running.next()).await.flatten());
        };
        // Three chances to renew before the lease ends.
        let renewal = journal.durable.held.lease.ttl / 3;
        loop {
            let renew = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(None),
                done = running.next() => return Ok(done),
                stored = journal.flush(), if journal.has_background() => {
                    stored?;
                    false
                }
                () = tokio::time::sleep(renewal) => true,
            };
            if renew {
                journal.renew().await?;
            }
        }
    }

    async fn settle(
        &mut self,
        task: &TaskState,
        outcome: Outcome<S>,
    ) -> Result<Progress, RunError> {
        let command = match outcome {
            Outcome::Done(command) => return self.finish(task, command).await,
            Outcome::Interrupted => {
                self.paused |= task.memo().paused;
                let interrupts = std::mem::take(&mut task.memo().interrupts);
                if let Some(journal) = &mut self.journal {
                    journal.interrupts(task.index, &interrupts).await?;
                }
                self.observe_interrupts(task, &interrupts);
                self.tell_asked(task, &interrupts).await;
                self.interrupts.extend(interrupts);
                return self.machine.interrupt(task.index);
            }
            Outcome::Panicked(message) => {
                self.note_error(task, &message).await;
                self.tell_failed(task, &message).await;
                return Err(RunError::Panicked {
                    node: task.node.clone(),
                    message,
                });
            }
            Outcome::Failed { error, attempts } => {
                self.tell_failed(task, &error).await;
                let node = self.machine.tasks()[task.index].node;
                let Some(handler) = self.graph.nodes[node.index()].options.rescue else {
                    self.note_error(task, &error.to_string()).await;
                    return Err(RunError::Node {
                        node: task.node.clone(),
                        source: error,
                    });
                };
                let (node, message) = (task.node.clone(), error.to_string());
                let failure = Failure {
                    node,
                    message,
                    attempts,
                };
                let mut command = Command::from(());
                command.rescue =
                    Some(failure.send(handler).map_err(|source| RunError::Encode {
                        what: "a failure".to_owned(),
                        source,
                    })?);
                command
            }
        };
        // The last result of a step is stored with the next checkpoint, in one transaction.
        let is_last = self.machine.open() == 1 && !self.machine.is_interrupted();
        if let Some(journal) = self.journal.as_mut().filter(|_| !is_last) {
            journal.results([(task.index, &command)]).await?;
        }
        self.finish(task, command).await
    }

    async fn finish(
        &mut self,
        task: &TaskState,
        command: Command<S>,
    ) -> Result<Progress, RunError> {
        // A node that failed and was taken over has been told of.
        let is_rescued = command.rescue.is_some();
        let written = self
            .written(command.update.as_ref())
            .filter(|_| !is_rescued);
        let finished = self.machine.finish(task.index, command);
        let is_merged = match &finished {
            Ok(progress) => matches!(progress, Progress::Planned | Progress::Done),
            // Only the run's patience ended: the merged step is good, and can be resumed.
            Err(RunError::StepLimit { .. }) => true,
            Err(_) => false,
        };
        let stored = match is_merged {
            true => self.checkpoint(Source::Step).await?,
            false => None,
        };
        if is_merged {
            self.observe_merged();
        }
        self.tell_written(task, written).await;
        if is_merged {
            self.tell_merged(stored).await;
        }
        finished
    }

    /// Records why a task failed, for readers of the thread. When that fails too, the run
    /// has its error already.
    async fn note_error(&mut self, task: &TaskState, error: &str) {
        if let Some(journal) = &mut self.journal {
            let _not_noted = journal.error(task.index, error).await;
        }
    }

    fn output(&mut self, status: Status) -> Output<S> {
        Output {
            state: self.machine.state().clone(),
            status,
            steps: self.machine.merged() - self.merged_before,
            interrupts: std::mem::take(&mut self.interrupts),
            left_to: self.machine.take_left_to(),
        }
    }
}
