//! Another attempt after a failure that may pass, as long as nothing was shown.
//!
//! Invariant: at most one attempt's content reaches the caller, and retries stay within
//! their budget, so an outage is never made worse. Waiting, policy and budget come from
//! `lyceum-queue`; this file only decides when they apply.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits,
};
use lyceum_queue::RetryPolicy;
use tokio::time::Instant;

use crate::{
    metrics,
    opening::{Opened, Opening},
    retry_budget::SharedRetryBudget,
};

/// The longest wait for another attempt of a caller without a deadline. When a provider
/// asks for more, the caller gets the error, which says how long, instead of a connection
/// that says nothing.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How long a call can be made to wait: until its deadline, where it has one.
pub(crate) fn patience(call: &CallContext) -> Duration {
    let left = |deadline| Instant::from_std(deadline).saturating_duration_since(Instant::now());
    call.deadline.map_or(LONGEST_WAIT, left)
}

/// Repeats failed calls before the first content. Clones share the budget.
#[derive(Debug, Clone)]
pub struct Retrying {
    model: Arc<dyn ChatModel>,
    policy: RetryPolicy,
    budget: SharedRetryBudget,
}

impl Retrying {
    /// Repeats calls of `model` by a policy, within a budget of 20 % extra calls.
    #[must_use]
    pub fn new(model: impl ChatModel + 'static, policy: RetryPolicy) -> Self {
        Self {
            model: Arc::new(model),
            policy,
            budget: SharedRetryBudget::default(),
        }
    }

    /// How long to wait after `failed` attempts; `None` when the error is final.
    fn delay(&self, error: &ChatError, failed: u32, call: &CallContext) -> Option<Duration> {
        if !error.is_retryable() {
            return None;
        }
        let delay = self.policy.random_delay(failed, error.retry_after())?;
        if delay >= patience(call) {
            return None;
        }
        self.budget.withdraw().then_some(delay)
    }

    /// The same with retries as another share of all calls, 0 to 1.
    #[must_use]
    pub fn with_budget(self, ratio: f64) -> Self {
        self.with_shared_budget(SharedRetryBudget::new(ratio))
    }

    /// The same within a budget that others draw on too, e.g. the queue behind it.
    #[must_use]
    pub fn with_shared_budget(mut self, budget: SharedRetryBudget) -> Self {
        self.budget = budget;
        self
    }
}

impl ChatModel for Retrying {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn traits(&self) -> ModelTraits {
        self.model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            this.budget.deposit();
            let mut failed = 0;
            loop {
                let stream = this.model.stream(call.clone(), Arc::clone(&request));
                let mut opening = Opening::new(stream);
                let error = loop {
                    match opening.next().await {
                        Opened::Waiting(position) => yield ChatEvent::Queued(position),
                        Opened::Begun => {
                            let mut rest = opening.into_stream();
                            while let Some(event) = rest.next().await {
                                yield event?;
                            }
                            return;
                        }
                        Opened::Failed(error) => break error,
                    }
                };
                failed += 1;
                let Some(delay) = this.delay(&error, failed, &call) else {
                    Err(error)?;
                    return;
                };
                metrics::retried(this.name(), error.label(), &error, failed, delay);
                // Closes the failed call before the wait.
                drop(opening);
                tokio::time::sleep(delay).await;
            }
        })
    }
}
