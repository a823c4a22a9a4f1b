//! A circuit breaker around one embedder.
//!
//! Invariant: every call that was let through is recorded once, also when its future is
//! dropped. What speaks against a provider is the same as for chat.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings};
use lyceum_queue::{BreakerConfig, CallOutcome};

use crate::{
    RateLimits,
    breaking::{Circuit, judge},
};

/// Refuses calls of an embedder while its circuit is open. Place it inside the queue.
#[derive(Debug, Clone)]
pub struct BreakingEmbedder {
    embedder: Arc<dyn Embedder>,
    circuit: Circuit,
    rate_limits: RateLimits,
}

impl BreakingEmbedder {
    /// Guards `embedder`; `name` labels the circuit in metrics and errors and must come
    /// from a small fixed set.
    #[must_use]
    pub fn new(
        embedder: impl Embedder + 'static,
        name: impl Into<Arc<str>>,
        config: BreakerConfig,
    ) -> Self {
        Self {
            embedder: Arc::new(embedder),
            circuit: Circuit::new(name.into(), config),
            rate_limits: RateLimits::default(),
        }
    }

    /// The same, judging refusals for rate in another way.
    #[must_use]
    pub fn with_rate_limits(mut self, rate_limits: RateLimits) -> Self {
        self.rate_limits = rate_limits;
        self
    }

    /// Its circuit, for health checks.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        self.circuit.clone()
    }
}

#[async_trait]
impl Embedder for BreakingEmbedder {
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
        let mut permit = self.circuit.permit()?;
        let answer = self.embedder.embed(call, kind, texts).await;
        permit.record(match &answer {
            Ok(_) => CallOutcome::Success,
            Err(EmbedError::Call(error)) => judge(error, call.deadline, self.rate_limits),
            // The answer is not what was asked for.
            Err(EmbedError::Count { .. } | EmbedError::NotFinite) => CallOutcome::Failure,
            Err(_) => CallOutcome::Unknown,
        });
        answer
    }
}
