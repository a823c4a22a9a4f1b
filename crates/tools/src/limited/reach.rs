//! The way to the tool itself: its turn, the breaker, another attempt.
//!
//! Invariants: nothing starts above the tool's limits; a call ends by its time-out; every
//! permit of the breaker is given back with what came of the call, also when the caller
//! goes away. A tool that panics is a tool that failed.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use lyceum_core::{CallContext, Effect, Tool, ToolError, ToolOutput, Usage};
use lyceum_queue::{
    Ask, Breaker, BreakerPermit, BreakerState, CallOutcome, Estimate, Queue, QueueConfig, Quotas,
    RetryBudget, RetryPolicy,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{ToolPolicy, metrics::ToolMetrics};

/// The longest pause that an upstream's refusal can cause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Reach {
    inner: Arc<dyn Tool>,
    timeout: Duration,
    queue: Queue,
    breaker: Option<Mutex<Breaker>>,
    retry: Option<RetryPolicy>,
    budget: Mutex<RetryBudget>,
    metrics: Arc<ToolMetrics>,
}

/// Why an attempt gave no result.
enum Attempt {
    /// It did not start.
    Refused(ToolError),
    /// The tool said so.
    Failed(ToolError),
}

impl Reach {
    pub(super) fn new(
        inner: Arc<dyn Tool>,
        policy: &ToolPolicy,
        metrics: Arc<ToolMetrics>,
    ) -> Self {
        let config = QueueConfig {
            quotas: Quotas {
                requests: policy.max_per_minute,
                concurrency: Some(policy.max_concurrent.max(1)),
                ..Quotas::default()
            },
            capacity: policy.max_waiting,
            // The limit is on starts here, not on arrivals elsewhere, and all of it may
            // start at once.
            jitter: Duration::ZERO,
            burst: 1.0,
            learn_estimates: false,
            ..QueueConfig::default()
        };
        let repeatable = inner.traits().effect != Effect::Once;
        Self {
            queue: Queue::named(format!("tool:{}", inner.spec().name), config),
            timeout: policy.timeout,
            breaker: policy
                .breaker
                .map(|config| Mutex::new(Breaker::new(config))),
            retry: policy.retry.filter(|_| repeatable),
            budget: Mutex::new(RetryBudget::default()),
            inner,
            metrics,
        }
    }

    /// When a call that begins now must end.
    pub(super) fn end(&self, call: &CallContext) -> Instant {
        let end = Instant::now() + self.timeout;
        call.deadline.map_or(end, |at| end.min(at.into()))
    }

    /// Calls the tool, by `end`.
    pub(super) async fn call(
        &self,
        call: &CallContext,
        arguments: &Value,
        end: Instant,
    ) -> Result<ToolOutput, ToolError> {
        let begun = Instant::now();
        let work = self.attempts(call, arguments, end);
        match tokio::time::timeout_at(end, work).await {
            Ok(result) => result,
            Err(_) => Err(ToolError::Timeout {
                after: end.saturating_duration_since(begun),
            }),
        }
    }

    async fn attempts(
        &self,
        call: &CallContext,
        arguments: &Value,
        end: Instant,
    ) -> Result<ToolOutput, ToolError> {
        if self.retry.is_some() {
            lock(&self.budget).deposit(now());
        }
        let mut failed = 0;
        loop {
            let error = match self.attempt(call, arguments).await {
                Ok(output) => return Ok(output),
                Err(Attempt::Refused(error)) => return Err(error),
                Err(Attempt::Failed(error)) => error,
            };
            failed += 1;
            let Some(delay) = self.again(&error, failed, end) else {
                return Err(error);
            };
            self.metrics.repeated();
            tokio::time::sleep(delay).await;
        }
    }

    /// How long to wait before another attempt, if there may be one.
    fn again(&self, error: &ToolError, failed: u32, end: Instant) -> Option<Duration> {
        let retry_after = match error {
            ToolError::Transient { .. } => None,
            ToolError::Unavailable { retry_after } => Some(*retry_after),
            _ => return None,
        };
        let delay = self.retry?.random_delay(failed, retry_after)?;
        let in_time = Instant::now() + delay < end;
        (in_time && lock(&self.budget).withdraw(now())).then_some(delay)
    }

    async fn attempt(&self, call: &CallContext, arguments: &Value) -> Result<ToolOutput, Attempt> {
        self.check().map_err(Attempt::Refused)?;
        // Without a deadline the queue refuses nobody by its forecast: a call waits in order
        // until its own time is over.
        let ask = Ask {
            deadline: None,
            ..Ask::from_call(call, Estimate::new(0, 0))
        };
        let unavailable = |retry_after: Option<Duration>| {
            let retry_after = retry_after.unwrap_or(self.timeout);
            Attempt::Refused(ToolError::Unavailable { retry_after })
        };
        let waiter = self
            .queue
            .enqueue(ask)
            .map_err(|refused| unavailable(refused.retry_after()))?;
        let turn = waiter.await.map_err(|_| unavailable(None))?;
        let mut permit = match self.permit() {
            Ok(permit) => permit,
            Err(error) => {
                turn.refund();
                return Err(Attempt::Refused(error));
            }
        };
        let work = self.inner.call(call, arguments.clone());
        let result = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(result) => result,
            Err(_) => Err(ToolError::Failed {
                detail: "it broke".to_owned(),
            }),
        };
        permit.ended(&result);
        match &result {
            Err(ToolError::Unavailable { retry_after }) => {
                turn.rejected();
                self.queue
                    .throttled(Some((*retry_after).min(LONGEST_PAUSE)));
            }
            _ => turn.settle(Usage::default()),
        }
        result.map_err(Attempt::Failed)
    }

    /// Refuses at once while the breaker is open: nobody waits for a turn in vain.
    fn check(&self) -> Result<(), ToolError> {
        let Some(breaker) = &self.breaker else {
            return Ok(());
        };
        let (mut breaker, now) = (lock(breaker), now());
        if breaker.state(now) != BreakerState::Open {
            return Ok(());
        }
        // An open breaker gives no permit, so none is lost here.
        match breaker.permit(now) {
            Ok(_) => Ok(()),
            Err(rejected) => Err(ToolError::Unavailable {
                retry_after: rejected.retry_after,
            }),
        }
    }

    fn permit(&self) -> Result<Permit<'_>, ToolError> {
        let Some(breaker) = &self.breaker else {
            return Ok(Permit {
                reach: self,
                held: None,
                begun: Instant::now(),
            });
        };
        let permit = lock(breaker).permit(now());
        match permit {
            Ok(permit) => Ok(Permit {
                reach: self,
                held: Some((breaker, permit)),
                begun: Instant::now(),
            }),
            Err(rejected) => Err(ToolError::Unavailable {
                retry_after: rejected.retry_after,
            }),
        }
    }
}

/// A running call that the breaker let through. Dropped before its end it was cut: by its
/// time-out, for which the tool is to blame when it had at least half of the whole time,
/// or by a caller who went away, which says nothing.
struct Permit<'a> {
    reach: &'a Reach,
    held: Option<(&'a Mutex<Breaker>, BreakerPermit)>,
    begun: Instant,
}

impl Permit<'_> {
    fn ended(&mut self, result: &Result<ToolOutput, ToolError>) {
        self.record(match result {
            Ok(_) => CallOutcome::Success,
            Err(ToolError::Arguments { .. } | ToolError::Denied { .. }) => CallOutcome::Unknown,
            Err(_) => CallOutcome::Failure,
        });
    }

    fn record(&mut self, outcome: CallOutcome) {
        if let Some((breaker, permit)) = self.held.take() {
            let (mut breaker, now) = (lock(breaker), now());
            let before = breaker.state(now);
            breaker.record(permit, outcome, now);
            let after = breaker.state(now);
            if before != after {
                let tool = &self.reach.inner.spec().name;
                tracing::warn!(tool = %tool, state = after.label(), "a tool's breaker changed");
                self.reach.metrics.breaker(after == BreakerState::Open);
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let late = self.begun.elapsed() >= self.reach.timeout / 2;
        self.record(match late {
            true => CallOutcome::Failure,
            false => CallOutcome::Unknown,
        });
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// What the locks hold stays sound when a holder panics, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
