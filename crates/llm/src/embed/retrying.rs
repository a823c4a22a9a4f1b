//! Another attempt at embedding texts after a failure that may pass.
//!
//! Invariant: retries stay within their budget, so an outage is never made worse.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings};
use lyceum_queue::RetryPolicy;

use crate::{metrics, retry_budget::SharedRetryBudget, retrying::patience};

/// Repeats failed calls of an embedder. Clones share the budget.
#[derive(Debug, Clone)]
pub struct RetryingEmbedder {
    embedder: Arc<dyn Embedder>,
    policy: RetryPolicy,
    budget: SharedRetryBudget,
}

impl RetryingEmbedder {
    /// Repeats calls of `embedder` by a policy, within a budget of 20 % extra calls.
    #[must_use]
    pub fn new(embedder: impl Embedder + 'static, policy: RetryPolicy) -> Self {
        Self {
            embedder: Arc::new(embedder),
            policy,
            budget: SharedRetryBudget::default(),
        }
    }

    /// The same within a budget that others draw on too, e.g. the queue behind it.
    #[must_use]
    pub fn with_shared_budget(mut self, budget: SharedRetryBudget) -> Self {
        self.budget = budget;
        self
    }
}

#[async_trait]
impl Embedder for RetryingEmbedder {
    fn model(&self) -> &str {
        self.embedder.model()
    }

    fn dimensions(&self) -> usize {
        self.embedder.dimensions()
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        self.budget.deposit();
        let mut failed = 0;
        loop {
            let error = match self.embedder.embed(call, kind, texts).await {
                Err(error) if error.is_retryable() => error,
                outcome => return outcome,
            };
            failed += 1;
            let delay = self.policy.random_delay(failed, error.retry_after());
            let delay = delay.filter(|delay| *delay < patience(call));
            let Some(delay) = delay.filter(|_| self.budget.withdraw()) else {
                return Err(error);
            };
            metrics::retried(self.model(), error.label(), &error, failed, delay);
            tokio::time::sleep(delay).await;
        }
    }
}
