//! An embedder behind a queue, as chat models are: each call waits for its turn and settles
//! what it reserved.
//!
//! Invariant: every reservation ends exactly once: settled with the provider's usage,
//! refunded when nothing was sent, else counted as estimated, also when the future is
//! dropped. One call should be one request, so place it behind the
//! [`BatchingEmbedder`](super::BatchingEmbedder). Deliberately absent: news of the place.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Embedder, Embeddings, TenantId, Tokens,
};
use lyceum_queue::{Ask, Estimate, Queue, Reservation};

use crate::{
    estimate::text_tokens,
    metrics,
    queued::{Ending, LONGEST_PAUSE, MAX_RETURNS, ending, gone, is_throttle, refused},
    retry_budget::SharedRetryBudget,
    retrying::patience,
};

/// Lets a queue decide when calls of an embedder are sent.
#[derive(Debug, Clone)]
pub struct QueuedEmbedder {
    embedder: Arc<dyn Embedder>,
    queue: Queue,
    budget: Option<SharedRetryBudget>,
    weights: Arc<HashMap<TenantId, u32>>,
}

impl QueuedEmbedder {
    /// Sends calls of `embedder` when `queue` lets them.
    #[must_use]
    pub fn new(embedder: impl Embedder + 'static, queue: Queue) -> Self {
        Self {
            embedder: Arc::new(embedder),
            queue,
            budget: None,
            weights: Arc::default(),
        }
    }

    /// The same with other shares of the queue than 1 for some tenants.
    #[must_use]
    pub fn with_weights(mut self, weights: Arc<HashMap<TenantId, u32>>) -> Self {
        self.weights = weights;
        self
    }

    /// The same, counting refused calls that go back into the queue against a budget.
    #[must_use]
    pub fn with_budget(mut self, budget: SharedRetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    async fn turn(&self, call: &CallContext, estimate: Estimate) -> Result<Reservation, ChatError> {
        let mut ask = Ask::from_call(call, estimate);
        ask.kind = "embed";
        ask.weight = self.weights.get(&call.scope.tenant).copied().unwrap_or(1);
        let waiter = self.queue.enqueue(ask).map_err(refused)?;
        waiter.await.map_err(gone)
    }

    /// Whether a call that was refused so often before goes back after this refusal.
    async fn takes_back(&self, call: &CallContext, error: &ChatError, returns: u32) -> bool {
        let long = error.retry_after() > Some(patience(call));
        if !is_throttle(error) || long || returns >= MAX_RETURNS {
            return false;
        }
        match &self.budget {
            Some(budget) => budget.borrow(call).await,
            None => true,
        }
    }

    fn failed(&self, error: &ChatError, reservation: Reservation) {
        if is_throttle(error) {
            // Before the slot is free, or the next call runs into the same wall.
            let pause = error.retry_after();
            self.queue
                .throttled(pause.map(|pause| pause.min(LONGEST_PAUSE)));
            metrics::throttled(self.model(), error);
        }
        match ending(error) {
            Ending::Unsent => reservation.refund(),
            Ending::Refused => reservation.rejected(),
            Ending::Uncertain => drop(reservation),
        }
    }
}

#[async_trait]
impl Embedder for QueuedEmbedder {
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
        if texts.is_empty() {
            return self.embedder.embed(call, kind, texts).await;
        }
        let input: Tokens = texts.iter().map(|text| text_tokens(text)).sum();
        let mut returns = 0;
        loop {
            let reservation = self.turn(call, Estimate::new(input.0, 0)).await?;
            match self.embedder.embed(call, kind, texts).await {
                // A provider that reports nothing used something.
                Ok(all) if all.usage.input == Tokens(0) => return Ok(all),
                Ok(all) => {
                    reservation.settle(all.usage);
                    return Ok(all);
                }
                Err(EmbedError::Call(error)) => {
                    self.failed(&error, reservation);
                    if !self.takes_back(call, &error, returns).await {
                        return Err(EmbedError::Call(error));
                    }
                    returns += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
