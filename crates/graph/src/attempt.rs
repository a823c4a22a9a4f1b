//! One task from its first attempt to its outcome: panics caught, limits kept, retries made.
//!
//! Invariant: an attempt that failed or was cut off leaves no writes. Deliberately absent:
//! what an outcome means for the run.

use std::{
    any::Any,
    future::{Future, poll_fn},
    hash::{BuildHasher as _, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;

use crate::{
    Command, Context, Mode, NodeError, State,
    cache::NodeCache,
    context::RunContext,
    node::{Call, NodeFn, NodeResult},
    observer::{AttemptEnd, AttemptWatch},
    outlet::Told,
    retry::{NodeOptions, TimeoutError},
    task::TaskState,
};

/// How a task ended.
pub(crate) enum Outcome<S: State> {
    Done(Command<S>),
    Failed {
        error: NodeError,
        attempts: u32,
    },
    Panicked(String),
    /// It waits for answers to the interrupts in its memo.
    Interrupted,
}

/// Everything that a task runs with.
pub(crate) struct Attempts<S: State, C, E> {
    pub(crate) code: NodeFn<S, C, E>,
    pub(crate) options: Arc<NodeOptions>,
    pub(crate) cache: Option<Arc<NodeCache<S>>>,
    pub(crate) state: Arc<S>,
    pub(crate) run: Arc<RunContext<C, E>>,
    pub(crate) task: Arc<TaskState>,
    pub(crate) payload: Option<Arc<str>>,
}

impl<S: State, C, E> Attempts<S, C, E>
where
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    pub(crate) async fn run(self) -> Outcome<S> {
        let cache = self.cache.as_ref().filter(|_| self.payload.is_none());
        let Some(cache) = cache else {
            return self.try_out().await;
        };
        let key = match catch_unwind(AssertUnwindSafe(|| cache.key(&self.state))) {
            Ok(key) => key,
            Err(panic) => return Outcome::Panicked(message(&*panic)),
        };
        if let Some(command) = cache.get(&key) {
            return Outcome::Done(command);
        }
        let outcome = self.try_out().await;
        if let Outcome::Done(command) = &outcome {
            let mut command = command.clone();
            // Where a subgraph stands is this thread's own.
            command.children.clear();
            cache.put(key, command);
        }
        outcome
    }

    async fn try_out(&self) -> Outcome<S> {
        let mut attempt = 1;
        loop {
            let watch = AttemptWatch::start(&self.run, &self.task, attempt);
            let error = match self.attempt(attempt).await {
                None => return Outcome::Interrupted,
                Some(Ok(Ok(command))) => {
                    watch.end(AttemptEnd::Done);
                    return Outcome::Done(command);
                }
                Some(Ok(Err(error))) => error,
                Some(Err(panic)) => {
                    let message = message(&*panic);
                    watch.end(AttemptEnd::Failed(&message, None));
                    return Outcome::Panicked(message);
                }
            };
            let policy = self.options.retry.filter(|_| error.is_retryable());
            let wait = policy.and_then(|policy| policy.wait_after(attempt, share()));
            watch.end(AttemptEnd::Failed(&error, wait));
            let Some(wait) = wait else {
                return Outcome::Failed {
                    error,
                    attempts: attempt,
                };
            };
            // Boxed, because few tasks are tried again and all would be as large.
            Box::pin(self.pause(attempt, &error, wait)).await;
            attempt += 1;
        }
    }

    /// What is between two attempts.
    async fn pause(&self, attempt: u32, error: &NodeError, wait: Duration) {
        let told = || Told::Retried {
            task: self.run.task_id(&self.task),
            node: self.task.node.clone(),
            attempt,
            error: error.to_string(),
            wait,
        };
        self.run.tell(Mode::Debug, self.task.step, told).await;
        sleep(wait).await;
        self.task.restart();
    }

    /// `None` when the node waits for an answer.
    async fn attempt(&self, attempt: u32) -> Option<Result<NodeResult<S>, Box<dyn Any + Send>>> {
        let context = Context {
            run: self.run.clone(),
            task: self.task.clone(),
            attempt,
        };
        let (state, payload) = (self.state.clone(), self.payload.clone());
        let call = Call {
            state,
            context,
            payload,
        };
        // The node's function itself runs inside the guard: it may panic before its first
        // await, and it must not run before the run is polled.
        let running = async move { (self.code)(call).await };
        let span = tracing::debug_span!(
            "node",
            otel.name = format_args!("node {}", self.task.node),
            node = %self.task.node,
            step = self.task.step,
            attempt,
        );
        let mut guarded = pin!(AssertUnwindSafe(running).catch_unwind().instrument(span));
        // Few nodes have a limit: its timers are no part of every task's size.
        let is_limited = self
            .options
            .time_limit
            .or(self.options.idle_limit)
            .is_some();
        let mut limit = is_limited.then(|| Box::pin(self.limit()));
        poll_fn(|cx| {
            if let Poll::Ready(result) = guarded.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            if self.task.is_waiting() {
                return Poll::Ready(None);
            }
            let Some(limit) = &mut limit else {
                return Poll::Pending;
            };
            limit
                .as_mut()
                .poll(cx)
                .map(|timeout| Some(Ok(Err(NodeError::transient(timeout)))))
        })
        .await
    }

    /// Resolves when the attempt has run out of time.
    async fn limit(&self) -> TimeoutError {
        match (self.options.time_limit, self.options.idle_limit) {
            (None, None) => std::future::pending().await,
            (Some(total), None) => total_limit(total).await,
            (None, Some(idle)) => self.idle_limit(idle).await,
            (Some(total), Some(idle)) => {
                let (total, idle) = (pin!(total_limit(total)), pin!(self.idle_limit(idle)));
                futures_util::future::select(total, idle)
                    .await
                    .factor_first()
                    .0
            }
        }
    }

    async fn idle_limit(&self, idle: Duration) -> TimeoutError {
        let mut last = Instant::now();
        loop {
            sleep_until(last + idle).await;
            match self.task.memo().touched.filter(|touched| *touched > last) {
                Some(touched) => last = touched,
                None => return TimeoutError::IdleLimit(idle),
            }
        }
    }
}

async fn total_limit(total: Duration) -> TimeoutError {
    sleep(total).await;
    TimeoutError::TimeLimit(total)
}

/// A number in `[0, 1]` that differs from call to call: the hasher's keys are random, and
/// spreading retries needs no better randomness.
fn share() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 32;
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit a double")]
    let share = bits as f64 / f64::from(u32::MAX);
    share
}

/// What a panic said, as far as it was text.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
