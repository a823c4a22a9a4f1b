//! A model behind a queue: each call waits for its turn, says where it stands, and
//! settles what it reserved.
//!
//! Invariant: every reservation ends exactly once: settled with the provider's usage,
//! refunded when nothing was sent, else counted in full, also when the stream is
//! dropped. A refusal for rate or load is no error as long as a wait may help that the
//! caller's deadline allows, or two minutes where there is none.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits,
    QueuePosition, TenantId, TimeoutStage, Usage,
};
use lyceum_queue::{Ask, Estimate, Queue, Refused, Reservation, WaitError};

use crate::{
    answer::is_content, estimate::estimate, metrics, retry_budget::SharedRetryBudget,
    retrying::patience,
};

/// How often one call goes back into the queue after the provider refused it for rate or
/// load. The queue slows down each time, so more means that the provider is down.
pub(crate) const MAX_RETURNS: u32 = 5;

/// The longest pause of a queue at a provider's word. A provider that means more says so
/// again.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Lets a queue decide when calls of a model are sent.
#[derive(Debug, Clone)]
pub struct Queued {
    model: Arc<dyn ChatModel>,
    queue: Queue,
    estimate: fn(&ChatRequest) -> Estimate,
    budget: Option<SharedRetryBudget>,
    weights: Arc<HashMap<TenantId, u32>>,
}

impl Queued {
    /// Sends calls of `model` when `queue` lets them. Reservations follow [`estimate`].
    #[must_use]
    pub fn new(model: impl ChatModel + 'static, queue: Queue) -> Self {
        Self {
            model: Arc::new(model),
            queue,
            estimate,
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

    /// The same with another estimate, e.g. a tokenizer's.
    #[must_use]
    pub fn with_estimate(mut self, estimate: fn(&ChatRequest) -> Estimate) -> Self {
        self.estimate = estimate;
        self
    }

    /// The same, counting calls that the provider refused and that go back into the queue
    /// against a budget of calls made again.
    #[must_use]
    pub fn with_budget(mut self, budget: SharedRetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Whether a refused call may go back, which may take a while to know.
    async fn takes_back(&self, call: &CallContext) -> bool {
        match &self.budget {
            Some(budget) => budget.borrow(call).await,
            None => true,
        }
    }
}

impl ChatModel for Queued {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn traits(&self) -> ModelTraits {
        self.model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let estimate = (this.estimate)(&request);
            let mut returns = 0;
            'queue: loop {
                let mut ask = Ask::from_call(&call, estimate);
                ask.weight = this.weights.get(&call.scope.tenant).copied().unwrap_or(1);
                let mut waiter = this.queue.enqueue(ask).map_err(refused)?;
                let waiting = tracing::debug_span!("queue_wait", queue = this.name());
                let mut places = waiter.updates();
                let reservation = loop {
                    let next = tokio::select! {
                        biased;
                        turn = &mut waiter => Next::Turn(turn),
                        Some(place) = places.next() => Next::Place(place),
                    };
                    match next {
                        Next::Turn(turn) => break turn.map_err(gone)?,
                        Next::Place(place) => yield ChatEvent::Queued(place),
                    }
                };
                drop(waiting);
                let mut account = Account::new(reservation);
                let mut begun = false;
                // What comes before the content belongs to a call that may come to nothing.
                let mut held = Vec::new();
                let mut stream = this.model.stream(call.clone(), Arc::clone(&request));
                while let Some(event) = stream.next().await {
                    match event {
                        Ok(event) => {
                            account.note(&event);
                            begun |= is_content(&event) || matches!(event, ChatEvent::Finished(_));
                            held.push(event);
                            if begun {
                                for event in held.drain(..) {
                                    yield event;
                                }
                            }
                        }
                        Err(error) => {
                            let throttle = is_throttle(&error);
                            if throttle {
                                // Before the slot is free, or the next call runs into the
                                // same wall.
                                let pause = error.retry_after();
                                this.queue.throttled(pause.map(|pause| pause.min(LONGEST_PAUSE)));
                                metrics::throttled(this.name(), &error);
                            }
                            account.failed(&error);
                            let long = error.retry_after() > Some(patience(&call));
                            let may = throttle && !begun && !long && returns < MAX_RETURNS;
                            if may && this.takes_back(&call).await {
                                returns += 1;
                                continue 'queue;
                            }
                            Err(error)?;
                        }
                    }
                }
                return;
            }
        })
    }
}

/// What a waiting call hears.
enum Next {
    Turn(Result<Reservation, WaitError>),
    Place(QueuePosition),
}

/// What becomes of a reservation. Dropping it counts at least what was reserved.
struct Account {
    reservation: Option<Reservation>,
    usage: Option<Usage>,
}

impl Account {
    fn new(reservation: Reservation) -> Self {
        Self {
            reservation: Some(reservation),
            usage: None,
        }
    }

    fn note(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Usage(usage) => {
                self.usage = Some(*usage);
                if let Some(reservation) = &mut self.reservation {
                    reservation.saw(*usage);
                }
            }
            ChatEvent::Finished(_) => {
                // Without usage nobody knows what was used.
                if let (Some(usage), Some(reservation)) = (self.usage, self.reservation.take()) {
                    reservation.settle(usage);
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, error: &ChatError) {
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        match ending(error) {
            Ending::Unsent => reservation.refund(),
            Ending::Refused if self.usage.is_none() => reservation.rejected(),
            Ending::Refused | Ending::Uncertain => drop(reservation),
        }
    }
}

/// What a failed call leaves of its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing was sent.
    Unsent,
    /// It was refused before any work: the request counts, no token does.
    Refused,
    /// Nobody knows what was used.
    Uncertain,
}

pub(crate) fn ending(error: &ChatError) -> Ending {
    match error {
        ChatError::Connect { .. }
        | ChatError::Shed { .. }
        | ChatError::Cancelled
        | ChatError::BreakerOpen { .. }
        | ChatError::OverBudget { .. }
        | ChatError::Timeout {
            stage: TimeoutStage::Connect,
            ..
        } => Ending::Unsent,
        ChatError::Rejected { .. }
        | ChatError::ContextTooLong { .. }
        | ChatError::Authentication { .. }
        | ChatError::Unavailable { status: 503, .. } => Ending::Refused,
        error if is_throttle(error) => Ending::Refused,
        _ => Ending::Uncertain,
    }
}

/// Whether the provider refused the call because of its quota or load.
pub(crate) fn is_throttle(error: &ChatError) -> bool {
    match error {
        ChatError::RateLimited { .. } | ChatError::Unavailable { status: 529, .. } => true,
        ChatError::Unavailable {
            status: 503,
            retry_after,
            ..
        } => retry_after.is_some(),
        _ => false,
    }
}

pub(crate) fn refused(refused: Refused) -> ChatError {
    match refused.retry_after() {
        Some(retry_after) => ChatError::Shed { retry_after },
        // It alone exceeds the quota: a smaller request is needed.
        None => ChatError::Rejected {
            status: 413,
            message: refused.to_string(),
        },
    }
}

/// The call left the queue without being sent.
pub(crate) fn gone(error: WaitError) -> ChatError {
    match error {
        WaitError::Cancelled => ChatError::Cancelled,
        // Its deadline passed: it waited longer than was expected.
        _ => ChatError::Shed {
            retry_after: Duration::from_secs(1),
        },
    }
}
