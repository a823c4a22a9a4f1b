//! What `/health` asks of the parts.

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_memory::Memory;
use lyceum_observe::{Observation, Probe};
use lyceum_queue::Queue;

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

/// How busy the model's queue is. A long queue is a warning, never a failure.
pub(crate) fn queue(queue: &Queue, capacity: usize) -> Observation {
    let now = queue.snapshot();
    let seen = match now.waiting {
        waiting if waiting * 10 >= capacity * 9 => Observation::warn("the queue is nearly full"),
        _ => Observation::pass(),
    };
    seen.with_value("queued", now.waiting as f64)
        .with_value("running", now.running as f64)
}
