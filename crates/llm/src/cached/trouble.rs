//! Whether the provider is in trouble, so that older answers are better than none.

use std::sync::{Arc, Mutex, PoisonError};

use lyceum_queue::{BreakerState, Queue};
use tokio::time::{Duration, Instant};

use crate::Circuit;

/// How long one look is believed: a queue's state is not free.
const BELIEVED: Duration = Duration::from_millis(250);

/// Below this share of its quota a queue was slowed down by many refusals for rate.
const SLOWED: f64 = 0.8;

/// Looks at the breakers and queues of a provider. Clones share the last look.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    circuits: Vec<Circuit>,
    queues: Vec<Queue>,
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Trouble {
    /// Watches these.
    #[must_use]
    pub fn new(circuits: Vec<Circuit>, queues: Vec<Queue>) -> Self {
        Self {
            circuits,
            queues,
            last: Arc::default(),
        }
    }

    /// Whether a breaker is not closed, or a queue pauses or has slowed down because the
    /// provider refused calls for their rate.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let now = Instant::now();
        // Poison is ignored: every change is complete.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((at, trouble)) if now < at + BELIEVED => trouble,
            _ => {
                let trouble = self.look();
                *last = Some((now, trouble));
                trouble
            }
        }
    }

    fn look(&self) -> bool {
        let open = |circuit: &Circuit| circuit.state() != BreakerState::Closed;
        let slowed = |queue: &Queue| {
            let now = queue.snapshot();
            now.paused.is_some() || now.share < SLOWED
        };
        self.circuits.iter().any(open) || self.queues.iter().any(slowed)
    }
}
