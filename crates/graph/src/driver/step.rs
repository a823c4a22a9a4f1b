//! The steps of a run: nodes are started, their results recorded, merged and told.
//!
//! Invariant: a result is recorded before it is merged, and merged before it is told; and
//! while something is stored or waits to be told, the nodes that run go on. Deliberately
//! absent: how a run begins and what is left of one that is cut off.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures_util::{FutureExt as _, StreamExt as _, future::Either, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Driver;
use crate::{
    Command, Output, RunError, State, Status,
    attempt::{Attempts, Outcome},
    machine::Progress,
    retry::Failure,
    saver::Source,
    task::TaskState,
};

/// One task that has ended, with how.
type End<S> = (Arc<TaskState>, Outcome<S>);

/// Tasks that have ended and are not merged yet.
pub(super) struct Ended<S: State> {
    /// Those that are being recorded.
    now: VecDeque<End<S>>,
    /// Those that ended meanwhile.
    later: VecDeque<End<S>>,
}

impl<S: State> Default for Ended<S> {
    fn default() -> Self {
        // Most steps are one task.
        let (now, later) = (VecDeque::with_capacity(1), VecDeque::new());
        Self { now, later }
    }
}

impl<S: State> Ended<S> {
    pub(super) fn has(&self, task: usize) -> bool {
        let mut all = self.now.iter().chain(&self.later);
        all.any(|(state, _)| state.index == task)
    }
}

/// Waits for `work`, and lets the nodes that run go on meanwhile. It is pinned by the caller: a
/// future that is passed by value takes its place twice in every run.
fn beside<S, R, F>(
    running: &mut FuturesUnordered<R>,
    ended: &mut VecDeque<End<S>>,
    mut work: Pin<&mut F>,
) -> impl Future<Output = F::Output>
where
    S: State,
    R: Future<Output = End<S>>,
    F: Future,
{
    poll_fn(move |cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        while let Poll::Ready(Some(end)) = running.poll_next_unpin(cx) {
            ended.push_back(end);
        }
        Poll::Pending
    })
}

impl<S, C, E> Driver<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    pub(super) async fn advance(
        &mut self,
        ended: &mut Ended<S>,
        mut progress: Progress,
    ) -> Result<Output<S>, RunError> {
        let mut running = FuturesUnordered::new();
        let mut next = 0;
        loop {
            match progress {
                Progress::Done => return Ok(self.output(Status::Done)),
                Progress::Interrupted => return Ok(self.stopped()),
                Progress::Planned => {
                    if let Some(stopped) = self.before_step().await? {
                        return Ok(stopped);
                    }
                    next = 0;
                }
                Progress::Waiting => {}
            }
            // What has ended comes before what has not begun.
            while ended.now.is_empty()
                && running.len() < self.run.config.max_concurrency.get()
                && next < self.machine.tasks().len()
            {
                if self.machine.is_open(next) && !ended.has(next) {
                    let started = pin!(self.start(next));
                    let task = beside(&mut running, &mut ended.later, started).await;
                    running.push(task);
                }
                next += 1;
            }
            ended.now.append(&mut ended.later);
            if ended.now.is_empty() {
                match self.wait(&mut running).await? {
                    Some(end) => ended.now.push_back(end),
                    None => return Ok(self.output(Status::Cancelled)),
                }
            }
            progress = Progress::Waiting;
            let settled = self.settle_all(&mut running, ended, &mut progress).await;
            if let Err(error) = settled {
                self.rescue_results(ended).await;
                return Err(error);
            }
        }
    }

    /// Records and merges what has ended.
    async fn settle_all<R>(
        &mut self,
        running: &mut FuturesUnordered<R>,
        ended: &mut Ended<S>,
        progress: &mut Progress,
    ) -> Result<(), RunError>
    where
        R: Future<Output = End<S>> + Send,
    {
        let Ended { now, later } = ended;
        if self.journal.is_some() {
            // Whatever else has ended by now is stored with it: one transaction, not many.
            while let Some(Some(other)) = running.next().now_or_never() {
                now.push_back(other);
            }
            let recorded = pin!(self.record(now));
            beside(running, later, recorded).await?;
        }
        while let Some((task, outcome)) = now.pop_front() {
            let settled = pin!(self.settle(&task, outcome));
            *progress = beside(running, later, settled).await?;
        }
        Ok(())
    }

    /// What every step begins with; gives the output of a run that stops before it.
    async fn before_step(&mut self) -> Result<Option<Output<S>>, RunError> {
        let drain = &self.run.config.drain;
        if drain.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Ok(Some(self.output(Status::Drained)));
        }
        if self.machine.is_paused() {
            if let Some(journal) = &mut self.journal {
                journal.paused().await?;
            }
            return Ok(Some(self.output(Status::Paused)));
        }
        let limit = self.run.config.step_time_limit;
        self.step_ends = limit.map(|limit| Instant::now() + limit);
        if let Some(started) = &mut self.started {
            started.clear();
        }
        self.observe_step();
        self.tell_planned().await;
        Ok(None)
    }

    /// The output of a run whose tasks are all done or wait for something outside.
    fn stopped(&mut self) -> Output<S> {
        let status = match (self.interrupts.is_empty(), self.paused) {
            (false, _) => Status::Interrupted,
            (true, true) => Status::Paused,
            (true, false) => Status::Drained,
        };
        self.output(status)
    }

    /// Stores the results of tasks that ended together, unless they are all that the step
    /// waits for: then the next checkpoint holds what they wrote.
    async fn record(&mut self, ended: &VecDeque<End<S>>) -> Result<(), RunError> {
        let is_whole =
            results(ended).count() == self.machine.open() && !self.machine.is_interrupted();
        match &mut self.journal {
            Some(journal) if !is_whole => journal.results(results(ended)).await,
            _ => Ok(()),
        }
    }

    /// Records what ended while the run was about to fail. When that fails too, the run has
    /// its error already.
    async fn rescue_results(&mut self, ended: &Ended<S>) {
        if let Some(journal) = &mut self.journal {
            let _not_recorded = journal.results(results(&ended.later)).await;
        }
    }

    /// Makes a planned task a future; it runs when it is polled.
    async fn start(&mut self, index: usize) -> impl Future<Output = End<S>> + Send + use<S, C, E> {
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
        let mut task = TaskState::new(node, step, index, checkpoint, memo);
        task.is_sent = payload.is_some();
        task.children = self.machine.children().clone();
        let task = Arc::new(task);
        if let Some(started) = &mut self.started {
            started.push(task.clone());
        }
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
        F: Future + Send,
        F::Output: Send,
    {
        // Boxed, because a run without a thread and a limit would be as large.
        if self.journal.is_some() || self.step_ends.is_some() {
            return Box::pin(self.wait_with_care(running)).await;
        }
        let cancel = &self.run.config.cancel;
        Ok(cancel.run_until_cancelled(running.next()).await.flatten())
    }

    /// The same, while the lease is renewed and the step's time runs out.
    async fn wait_with_care<F>(
        &mut self,
        running: &mut FuturesUnordered<F>,
    ) -> Result<Option<F::Output>, RunError>
    where
        F: Future,
    {
        let cancel = self.run.config.cancel.clone();
        let (step, ends) = (self.machine.merged() + 1, self.step_ends);
        let limit = self.run.config.step_time_limit.unwrap_or_default();
        let late = || RunError::StepTimeLimit { step, limit };
        let Some(journal) = &mut self.journal else {
            return tokio::select! {
                biased;
                () = cancel.cancelled() => Ok(None),
                done = running.next() => Ok(done),
                () = at(ends) => Err(late()),
            };
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
                () = at(ends) => return Err(late()),
                () = tokio::time::sleep(renewal) => true,
            };
            if renew {
                journal.renew().await?;
            }
        }
    }

    fn settle<'a>(
        &'a mut self,
        task: &'a TaskState,
        outcome: Outcome<S>,
    ) -> impl Future<Output = Result<Progress, RunError>> + Send + 'a {
        match outcome {
            Outcome::Done(command) => Either::Left(self.finish(task, command)),
            // Boxed, because few tasks end so and all would be as large.
            other => Either::Right(Box::pin(self.settle_unfinished(task, other))),
        }
    }

    /// Settles a task that has not ended well.
    async fn settle_unfinished(
        &mut self,
        task: &TaskState,
        outcome: Outcome<S>,
    ) -> Result<Progress, RunError> {
        let command = match outcome {
            Outcome::Done(command) => command,
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

    /// Merges what a task wrote at once, and stores and tells it when it is polled.
    fn finish<'a>(
        &'a mut self,
        task: &'a TaskState,
        command: Command<S>,
    ) -> impl Future<Output = Result<Progress, RunError>> + Send + 'a {
        // A node that failed and was taken over has been told of.
        let is_rescued = command.rescue.is_some();
        let written = self
            .written(command.update.as_ref())
            .filter(|_| !is_rescued)
            .map(Box::new);
        let finished = self.machine.finish(task.index, command);
        async move {
            let is_merged = match &finished {
                Ok(progress) => matches!(progress, Progress::Planned | Progress::Done),
                // Only the run's patience ended: the merged step is good, and can be resumed.
                Err(RunError::StepLimit { .. }) => true,
                Err(_) => false,
            };
            let stored = match (is_merged, &self.journal) {
                // Boxed, because a run without a thread would be as large.
                (true, Some(_)) => Box::pin(self.checkpoint(Source::Step)).await?,
                _ => None,
            };
            if is_merged {
                self.observe_merged();
            }
            let told = self.tell_written(task, written.map(|written| *written));
            let merged = is_merged.then(|| self.tell_merged(stored));
            told.await;
            if let Some(merged) = merged {
                merged.await;
            }
            finished
        }
    }

    /// Records why a task failed, for readers of the thread. When that fails too, the run
    /// has its error already.
    async fn note_error(&mut self, task: &TaskState, error: &str) {
        if let Some(journal) = &mut self.journal {
            let _not_noted = journal.error(task.index, error).await;
        }
    }
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The results among what ended.
fn results<S: State>(ended: &VecDeque<End<S>>) -> impl Iterator<Item = (usize, &Command<S>)> {
    ended.iter().filter_map(|(task, outcome)| match outcome {
        Outcome::Done(command) => Some((task.index, command)),
        _ => None,
    })
}
