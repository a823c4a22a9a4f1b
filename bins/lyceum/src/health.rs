//! What `/health` asks of the parts.

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_llm::Circuit;
use lyceum_memory::Memory;
use lyceum_observe::{Observation, Probe};
use lyceum_queue::{BreakerState, Queue};

use crate::models::Watch;

/// Reads from the store.
pub(crate) struct StoreProbe(pub Memory);

#[async_trait]
impl Probe for StoreProbe {
    async fn probe(&self) -> Observation {
        match self.0.sessions().sessions(&Scope::local(), None, 1).await {
            Ok(_) => Observation::pass(),
            Err(error) => Observation::fail(error.label()),
        }
    }
}

/// How busy the model's queues are and whether its circuit breakers are open. A long queue
/// is a warning; so is an open breaker, and with no endpoint left the model fails.
pub(crate) fn model(watch: &Watch, capacity: usize) -> Observation {
    let queues = watch.queues.iter().map(Queue::snapshot);
    let is_cut_off = |queue: &Queue| queue.shared_status().is_some_and(|s| !s.linked);
    let alone = watch.queues.iter().any(is_cut_off);
    let (mut waiting, mut running, mut full) = (0, 0, false);
    for now in queues {
        waiting += now.waiting;
        running += now.running;
        full |= now.waiting * 10 >= capacity * 9;
    }
    let is_open = |circuit: &&Circuit| circuit.state() == BreakerState::Open;
    let open = watch.circuits.iter().filter(is_open).count();
    let seen = match open {
        0 if alone => {
            Observation::warn("the shared quota is out of reach: this process spends its share")
        }
        0 if full => Observation::warn("the queue is nearly full"),
        0 => Observation::pass(),
        n if n == watch.circuits.len() => {
            Observation::fail("the circuit breakers of all endpoints are open")
        }
        _ => Observation::warn("the circuit breaker of an endpoint is open"),
    };
    seen.with_value("queued", waiting as f64)
        .with_value("running", f64::from(running))
        .with_value("open_breakers", open as f64)
}
