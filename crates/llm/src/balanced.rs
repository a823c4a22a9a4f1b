//! One model behind several keys or addresses: each call goes to one of them.
//!
//! Invariant: the content of one endpoint only reaches the caller. Endpoints whose circuit
//! is open or whose key was refused are left out as long as another is there. Each
//! endpoint is a whole stack with its own queue and quota; deliberately absent: sharing
//! one quota between them.

mod picker;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits,
};
use lyceum_queue::{BreakerState, RetryBudget};
use tokio::time::Instant;

use self::picker::Picker;
use crate::{
    breaking::Circuit,
    fallback::is_late,
    metrics,
    opening::{Opened, Opening},
};

pub use self::picker::Strategy;

/// How long an endpoint is left out after it refused its key.
const BARRED: Duration = Duration::from_secs(300);

/// One way to reach a model.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The model there, with its own queue.
    pub model: Arc<dyn ChatModel>,
    /// Its share compared with the others, at least 1.
    pub weight: u32,
    /// Its price compared with the others, for [`Strategy::Cheapest`].
    pub price: u64,
    /// Its breaker, where it has one.
    pub circuit: Option<Circuit>,
}

impl Endpoint {
    /// An endpoint of weight 1 without a price or a breaker.
    #[must_use]
    pub fn new(model: Arc<dyn ChatModel>) -> Self {
        Self {
            model,
            weight: 1,
            price: 0,
            circuit: None,
        }
    }
}

/// Spreads calls over the endpoints of one model.
///
/// A call whose endpoint fails before the content begins goes to another one: at once when
/// nothing was done for it (open breaker, refused key, full queue), else within a budget
/// of 20 % extra calls.
#[derive(Debug, Clone)]
pub struct Balanced {
    endpoints: Arc<[Endpoint]>,
    picker: Arc<Mutex<Picker>>,
    budget: Arc<Mutex<RetryBudget>>,
}

impl Balanced {
    /// Spreads calls over `first` and `others`.
    #[must_use]
    pub fn new(
        strategy: Strategy,
        first: Endpoint,
        others: impl IntoIterator<Item = Endpoint>,
    ) -> Self {
        let endpoints: Arc<[Endpoint]> = std::iter::once(first).chain(others).collect();
        let ends = endpoints.iter().map(|end| (end.weight, end.price));
        let picker = Picker::new(strategy, ends);
        Self {
            endpoints,
            picker: Arc::new(Mutex::new(picker)),
            budget: Arc::default(),
        }
    }

    fn begin(&self, tried: &[bool]) -> Option<Running> {
        let now = Instant::now();
        let open = |at: usize| {
            let circuit = self.endpoints[at].circuit.as_ref();
            circuit.is_some_and(|circuit| circuit.state() == BreakerState::Open)
        };
        let unfit: Vec<bool> = (0..self.endpoints.len()).map(open).collect();
        let random = [rand::random(), rand::random()];
        let std_now = now.into_std();
        let mut picker = lock(&self.picker);
        let barred: Vec<bool> = (0..self.endpoints.len())
            .map(|at| picker.is_barred(at, std_now))
            .collect();
        let healthy = picker.begin(
            |at| !tried[at] && !unfit[at] && !barred[at],
            random,
            std_now,
        );
        // With nobody left an unhealthy one says why.
        let at = match healthy {
            Some(at) => at,
            None if tried.contains(&true) => return None,
            None => picker.begin(|_| true, random, std_now)?,
        };
        drop(picker);
        Some(Running {
            picker: Arc::clone(&self.picker),
            at,
            since: now,
        })
    }

    /// Whether a call that failed like this may go to another endpoint.
    fn goes_on(&self, error: &ChatError) -> bool {
        match error {
            ChatError::BreakerOpen { .. }
            | ChatError::Authentication { .. }
            | ChatError::Shed { .. } => true,
            error if error.is_retryable() => lock(&self.budget).withdraw(Instant::now().into_std()),
            _ => false,
        }
    }
}

impl ChatModel for Balanced {
    /// The first endpoint's name.
    fn name(&self) -> &str {
        self.endpoints[0].model.name()
    }

    /// The first endpoint's traits.
    fn traits(&self) -> ModelTraits {
        self.endpoints[0].model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            lock(&this.budget).deposit(Instant::now().into_std());
            let mut tried = vec![false; this.endpoints.len()];
            let mut last = None;
            loop {
                let Some(mut running) = this.begin(&tried) else {
                    Err(last.unwrap_or(ChatError::Truncated))?;
                    return;
                };
                tried[running.at] = true;
                let model = &this.endpoints[running.at].model;
                let mut opening = Opening::new(model.stream(call.clone(), Arc::clone(&request)));
                let error = loop {
                    match opening.next().await {
                        Opened::Waiting(position) => yield ChatEvent::Queued(position),
                        Opened::Begun => {
                            running.began();
                            let mut rest = opening.into_stream();
                            while let Some(event) = rest.next().await {
                                yield event?;
                            }
                            return;
                        }
                        Opened::Failed(error) => break error,
                    }
                };
                running.failed(&error);
                let more = tried.contains(&false) && !is_late(&call);
                if !more || !this.goes_on(&error) {
                    Err(error)?;
                    return;
                }
                metrics::rerouted(model.name(), &error);
                last = Some(error);
            }
        })
    }
}

/// A call at one endpoint; its place is given back when it is dropped.
struct Running {
    picker: Arc<Mutex<Picker>>,
    at: usize,
    since: Instant,
}

impl Running {
    fn began(&mut self) {
        let now = Instant::now();
        lock(&self.picker).began(self.at, now - self.since, now.into_std());
    }

    fn failed(&mut self, error: &ChatError) {
        let now = Instant::now();
        let mut picker = lock(&self.picker);
        match error {
            ChatError::Authentication { .. } => {
                picker.bar(self.at, (now + BARRED).into_std());
            }
            error if error.is_retryable() => {
                picker.failed(self.at, now - self.since, now.into_std());
            }
            _ => {}
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.picker).end(self.at);
    }
}

/// Poison is ignored: every change under these locks is complete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
