//! A request in work: what it holds and what it must give back.
//!
//! Invariant: dropping a [`Call`] releases its place in the quota and the counters, once,
//! however it ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;

use crate::{
    quota::Ticket,
    server::Shared,
    stats::{add, take_one},
};

/// Tells a connection to end with a TCP reset.
pub(crate) type ResetFlag = Arc<AtomicBool>;

/// A request that was admitted and is not over.
#[derive(Debug)]
pub(crate) struct Call {
    shared: Arc<Shared>,
    ticket: Option<(u64, Ticket)>,
    reset: ResetFlag,
    sent_tokens: u64,
    state: State,
    streamed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// The answer left whole.
    Answered,
    /// A fault took the answer's place, or ended it.
    Faulted,
}

impl Call {
    /// A call admitted under a ticket of the meter with the given key.
    pub(crate) fn start(
        shared: Arc<Shared>,
        ticket: Option<(u64, Ticket)>,
        reset: ResetFlag,
    ) -> Self {
        let active = add(&shared.counters.active, 1) + 1;
        shared
            .counters
            .active_peak
            .fetch_max(active, Ordering::Relaxed);
        shared.changed.notify_waiters();
        Self {
            shared,
            ticket,
            reset,
            sent_tokens: 0,
            state: State::Running,
            streamed: false,
        }
    }

    /// Counts the call as an open stream from here on.
    pub(crate) fn stream_opened(&mut self) {
        self.streamed = true;
        add(&self.shared.counters.open_streams, 1);
        self.shared.changed.notify_waiters();
    }

    /// Counts output tokens as sent.
    pub(crate) fn sent(&mut self, tokens: u64) {
        self.sent_tokens += tokens;
    }

    /// The planned bytes have left.
    pub(crate) fn finish(&mut self) {
        if self.state == State::Running {
            self.state = State::Answered;
        }
    }

    /// A fault takes the place of a regular end; a client that leaves then did not cancel.
    pub(crate) fn faulted(&mut self) {
        self.state = State::Faulted;
    }

    /// Makes the connection end with a TCP reset when it is dropped.
    pub(crate) fn reset_connection(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let counters = &self.shared.counters;
        take_one(&counters.active);
        if self.streamed {
            take_one(&counters.open_streams);
        }
        add(&counters.output_tokens, self.sent_tokens);
        match self.state {
            State::Running => add(&counters.cancelled, 1),
            State::Answered => add(&counters.answered, 1),
            State::Faulted => 0,
        };
        if let Some((key, ticket)) = self.ticket.take() {
            self.shared
                .settle(Instant::now().into_std(), key, ticket, self.sent_tokens);
        }
        self.shared.changed.notify_waiters();
    }
}
