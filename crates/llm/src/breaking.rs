//! A circuit breaker around one provider: it is left alone while it keeps failing.
//!
//! Invariant: every call that was let through is recorded once, also when its stream is
//! dropped. When to open and close is `lyceum-queue`'s business; this file judges which
//! ends of a call speak against the provider. Place it next to the provider, inside the
//! queue: calls that waited while it opened are then not sent.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits,
};
use lyceum_queue::{Breaker, BreakerConfig, BreakerPermit, BreakerState, CallOutcome};
use tokio::time::Instant;

use crate::{answer::is_content, metrics};

/// Whether refusals for rate speak against a provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RateLimits {
    /// They say nothing: the queue slows down instead.
    #[default]
    Ignored,
    /// They count as failures, for a provider without a queue.
    Counted,
}

/// Refuses calls of a model while its circuit is open.
///
/// Failures are status 500 and above, time-outs (not the caller's own deadline), broken
/// connections and unreadable or cut answers. Other refusals of a request say nothing.
#[derive(Debug, Clone)]
pub struct Breaking {
    model: Arc<dyn ChatModel>,
    circuit: Circuit,
    rate_limits: RateLimits,
}

impl Breaking {
    /// Guards `model`; `name` labels the circuit in metrics and errors and must come from
    /// a small fixed set, e.g. the configured endpoints.
    #[must_use]
    pub fn new(
        model: impl ChatModel + 'static,
        name: impl Into<Arc<str>>,
        config: BreakerConfig,
    ) -> Self {
        Self {
            model: Arc::new(model),
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

    /// Its circuit, for health checks, balancing and caches.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        self.circuit.clone()
    }
}

/// The state of a [`Breaking`] model, seen from outside.
#[derive(Clone)]
pub struct Circuit {
    name: Arc<str>,
    breaker: Arc<Mutex<Breaker>>,
}

impl Circuit {
    pub(crate) fn new(name: Arc<str>, config: BreakerConfig) -> Self {
        metrics::breaker_state(&name, BreakerState::Closed);
        Self {
            name,
            breaker: Arc::new(Mutex::new(Breaker::new(config))),
        }
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether calls go through now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.lock().state(Instant::now().into_std())
    }

    /// Poison is ignored: every change of the breaker is complete.
    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn permit(&self) -> Result<Permit, ChatError> {
        let permit = self.change(|breaker, now| breaker.permit(now));
        match permit {
            Ok(permit) => Ok(Permit {
                circuit: self.clone(),
                permit: Some(permit),
                begun: false,
            }),
            Err(rejected) => {
                metrics::breaker_refused(&self.name);
                Err(ChatError::BreakerOpen {
                    provider: self.name.to_string(),
                    retry_after: rejected.retry_after.max(Duration::from_secs(1)),
                })
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Breaker, std::time::Instant) -> T) -> T {
        let now = Instant::now().into_std();
        let mut breaker = self.lock();
        let before = breaker.state(now);
        let changed = change(&mut breaker, now);
        let after = breaker.state(now);
        drop(breaker);
        if before != after {
            metrics::breaker_changed(&self.name, after);
        }
        changed
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit")
            .field("name", &self.name)
            .field("state", &self.state())
            .finish()
    }
}

impl ChatModel for Breaking {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn traits(&self) -> ModelTraits {
        self.model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let mut permit = this.circuit.permit()?;
            let deadline = call.deadline;
            let mut stream = this.model.stream(call, request);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => {
                        permit.begun |= is_content(&event);
                        if matches!(event, ChatEvent::Finished(_)) {
                            permit.record(CallOutcome::Success);
                        }
                        yield event;
                    }
                    Err(error) => {
                        permit.record(judge(&error, deadline, this.rate_limits));
                        Err(error)?;
                    }
                }
            }
            permit.record(CallOutcome::Failure);
        })
    }
}

/// What an error says about the provider.
pub(crate) fn judge(
    error: &ChatError,
    deadline: Option<std::time::Instant>,
    rate_limits: RateLimits,
) -> CallOutcome {
    let late = |deadline| Instant::now() >= Instant::from_std(deadline);
    match error {
        ChatError::Timeout { .. } if deadline.is_some_and(late) => CallOutcome::Unknown,
        ChatError::Unavailable { status, .. } if *status < 500 => CallOutcome::Unknown,
        ChatError::RateLimited { .. } if rate_limits == RateLimits::Ignored => CallOutcome::Unknown,
        ChatError::Connect { .. }
        | ChatError::Timeout { .. }
        | ChatError::RateLimited { .. }
        | ChatError::Unavailable { .. }
        | ChatError::Protocol { .. }
        | ChatError::Interrupted { .. }
        | ChatError::Truncated => CallOutcome::Failure,
        _ => CallOutcome::Unknown,
    }
}

/// A call under way; a drop records what is known of it.
pub(crate) struct Permit {
    circuit: Circuit,
    permit: Option<BreakerPermit>,
    begun: bool,
}

impl Permit {
    pub(crate) fn record(&mut self, outcome: CallOutcome) {
        if let Some(permit) = self.permit.take() {
            self.circuit
                .change(|breaker, now| breaker.record(permit, outcome, now));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.record(match self.begun {
            true => CallOutcome::Success,
            false => CallOutcome::Unknown,
        });
    }
}
