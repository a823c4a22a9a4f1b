//! A queue that is always as full, to measure what one turn of it costs.

use std::fmt;

use lyceum_core::{QueuePosition, Usage};

use crate::{
    Ask, QueueConfig, Quotas,
    admission::{Admission, Admitted, Decision, Owner, Ticket},
    order::Index,
};

/// One slot, and a fixed number of calls that wait for it.
pub struct Backlog {
    admission: Admission,
    running: Option<Ticket>,
    /// Waiting calls by owner.
    waiting: Vec<Option<Index>>,
    now: u64,
}

impl Backlog {
    /// A queue in which all of these calls but the first wait.
    #[must_use]
    pub fn new(asks: impl IntoIterator<Item = Ask>) -> Self {
        let quotas = Quotas {
            concurrency: Some(1),
            ..Quotas::default()
        };
        let config = QueueConfig {
            quotas,
            capacity: usize::MAX,
            ..QueueConfig::default()
        };
        let mut backlog = Self {
            admission: Admission::new(config, 0),
            running: None,
            waiting: Vec::new(),
            now: 0,
        };
        for ask in asks {
            backlog.enqueue(ask);
        }
        backlog
    }

    /// One turn: the running call is settled, the next one starts, and `ask` is enqueued.
    /// Returns which call started, counted in the order of their asks.
    pub fn turn(&mut self, ask: Ask) -> Option<usize> {
        self.now += 1_000_000;
        if let Some(ticket) = self.running.take() {
            self.admission.settle(ticket, &Usage::default(), self.now);
        }
        let started = self.start_next();
        self.enqueue(ask);
        started
    }

    /// Where a call stands that still waits.
    pub fn position(&mut self, call: usize) -> Option<QueuePosition> {
        let index = self.waiting.get(call).copied().flatten()?;
        self.admission.position(index, self.now)
    }

    fn start_next(&mut self) -> Option<Owner> {
        let Decision::Grant(owner, ticket) = self.admission.next(self.now) else {
            return None;
        };
        self.running = Some(ticket);
        self.waiting[owner] = None;
        Some(owner)
    }

    fn enqueue(&mut self, ask: Ask) {
        let owner = self.waiting.len();
        let index = match self.admission.enqueue(ask, None, owner, self.now) {
            Ok(Admitted::Waiting(index)) => Some(index),
            Ok(Admitted::Now(ticket)) => {
                self.running = Some(ticket);
                None
            }
            Err(_) => None,
        };
        self.waiting.push(index);
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog")
            .field("asked", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
