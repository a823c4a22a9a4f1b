//! What a caller holds: first a [`Waiter`], then a [`Reservation`].

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use lyceum_core::{QueuePosition, Usage};
use tokio::time::{Instant, Sleep, sleep};

use crate::{Queue, WaitError, admission::Ticket, driver::CallId, queue::End};

/// A call's place in the queue; a future of its [`Reservation`].
///
/// # Errors
///
/// [`WaitError`] when the deadline passes or the conversation is cancelled.
///
/// # Cancel safety
///
/// Dropping it gives the place up at once; nothing stays reserved.
#[must_use = "dropping a waiter gives its place up"]
pub struct Waiter {
    state: Place,
}

enum Place {
    Ready(Reservation),
    Waiting(Queue, CallId),
    Done,
}

impl Waiter {
    pub(crate) fn ready(reservation: Reservation) -> Self {
        Self {
            state: Place::Ready(reservation),
        }
    }

    pub(crate) fn waiting(queue: Queue, id: CallId) -> Self {
        Self {
            state: Place::Waiting(queue, id),
        }
    }

    /// Where the call stands; `None` once it may start or has failed.
    #[must_use]
    pub fn position(&self) -> Option<QueuePosition> {
        match &self.state {
            Place::Waiting(queue, id) => queue.position(*id),
            Place::Ready(_) | Place::Done => None,
        }
    }

    /// The call's places from now on: one at once, then one whenever it changed, at most
    /// every [`update_interval`](crate::QueueConfig::update_interval). It ends soon after
    /// the waiting does; do not wait for that, await the waiter itself beside it.
    pub fn updates(&self) -> Updates {
        let call = match &self.state {
            Place::Waiting(queue, id) => Some((queue.clone(), *id)),
            Place::Ready(_) | Place::Done => None,
        };
        Updates {
            call,
            pause: None,
            last: None,
        }
    }
}

impl Future for Waiter {
    type Output = Result<Reservation, WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.state, Place::Done) {
            Place::Ready(reservation) => Poll::Ready(Ok(reservation)),
            Place::Waiting(queue, id) => {
                let outcome = queue.poll(id, context.waker());
                if outcome.is_pending() {
                    self.state = Place::Waiting(queue, id);
                }
                outcome
            }
            Place::Done => Poll::Pending,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // A reservation that was never handed out was never used.
        match std::mem::replace(&mut self.state, Place::Done) {
            Place::Ready(reservation) => reservation.refund(),
            Place::Waiting(queue, id) => queue.leave(id),
            Place::Done => {}
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("position", &self.position())
            .finish()
    }
}

/// The places of a waiting call, as they change.
///
/// # Cancel safety
///
/// Dropping it has no effect on the call.
pub struct Updates {
    call: Option<(Queue, CallId)>,
    pause: Option<Pin<Box<Sleep>>>,
    last: Option<QueuePosition>,
}

impl Stream for Updates {
    type Item = QueuePosition;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause
                && pause.as_mut().poll(context).is_pending()
            {
                return Poll::Pending;
            }
            let Some((queue, id)) = &self.call else {
                return Poll::Ready(None);
            };
            let Some(position) = queue.position(*id) else {
                self.call = None;
                return Poll::Ready(None);
            };
            let interval = queue.update_interval().max(Duration::from_millis(1));
            match &mut self.pause {
                Some(pause) => pause.as_mut().reset(Instant::now() + interval),
                none => *none = Some(Box::pin(sleep(interval))),
            }
            if self.last != Some(position) {
                self.last = Some(position);
                return Poll::Ready(Some(position));
            }
        }
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// The right to send one call, with what it is expected to consume set aside.
///
/// # Cancel safety
///
/// Dropping it means that nobody knows what was used: its slot is free again, what was
/// set aside counts as used.
#[must_use = "dropping a reservation counts its whole estimate as used"]
pub struct Reservation {
    queue: Queue,
    /// Boxed, because a waiter is as large as the reservation it turns into.
    held: Option<Box<Held>>,
}

struct Held {
    ticket: Ticket,
    seen: Usage,
}

impl Reservation {
    pub(crate) fn new(queue: Queue, ticket: Ticket) -> Self {
        let seen = Usage::default();
        Self {
            queue,
            held: Some(Box::new(Held { ticket, seen })),
        }
    }

    /// How long the call waited for its turn.
    #[must_use]
    pub fn waited(&self) -> Duration {
        let waited = self.held.as_ref().map_or(0, |held| held.ticket.waited);
        Duration::from_nanos(waited)
    }

    /// Notes usage that was reported before the end, so that a drop counts at least that.
    pub fn saw(&mut self, usage: Usage) {
        if let Some(held) = &mut self.held {
            held.seen = usage;
        }
    }

    /// Ends the call with the usage that the upstream reported; the difference from what
    /// was set aside is given back or charged.
    pub fn settle(mut self, usage: Usage) {
        if let Some(held) = self.held.take() {
            self.queue.end(held.ticket, End::Used(&usage));
        }
    }

    /// Ends a call that the upstream refused before it did any work, e.g. with 400 or 401:
    /// the request counts, its tokens are given back.
    pub fn rejected(mut self) {
        if let Some(held) = self.held.take() {
            self.queue.end(held.ticket, End::Rejected);
        }
    }

    /// Ends a call that was never sent; everything is given back.
    pub fn refund(mut self) {
        if let Some(held) = self.held.take() {
            self.queue.end(held.ticket, End::Unsent);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.queue.end(held.ticket, End::Uncertain(&held.seen));
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("waited", &self.waited())
            .finish_non_exhaustive()
    }
}
