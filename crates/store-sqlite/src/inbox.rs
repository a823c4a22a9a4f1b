//! The bounded way to a thread: two queues in one, and both can be closed while others hold
//! them.
//!
//! A caller that cannot wait is refused when its queue is full, so that it can say so to
//! whoever asked. A run of a graph has nobody to tell: it waits outside until there is room.
//!
//! Invariant: neither kind takes the other's room, and those who wait outside come in in the
//! order of their arrival.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use lyceum_memory::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a caller does when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfFull {
    /// It is refused as overloaded.
    Refuse,
    /// It waits for room.
    Wait,
}

/// Sends orders to whoever holds the receiver. That one hears of the end, after the orders
/// sent before, when this is closed or dropped.
pub(crate) struct Inbox<T> {
    sender: RwLock<Option<SyncSender<Placed<T>>>>,
    /// Room for those that are refused, and for those that wait.
    refused: Arc<Semaphore>,
    patient: Arc<Semaphore>,
    capacity: usize,
}

/// An order, and the room that it takes.
struct Placed<T>(T, OwnedSemaphorePermit);

/// The other end; an order that is taken makes room for another.
pub(crate) struct Orders<T>(Receiver<Placed<T>>);

impl<T> Orders<T> {
    /// Waits for an order; `None` at the end.
    pub(crate) fn recv(&self) -> Option<T> {
        let Placed(order, _room) = self.0.recv().ok()?;
        Some(order)
    }

    /// An order, if one is there.
    pub(crate) fn try_recv(&self) -> Option<T> {
        let Placed(order, _room) = self.0.try_recv().ok()?;
        Some(order)
    }
}

impl<T> Inbox<T> {
    /// An inbox with so much room for each of the two kinds of callers.
    pub(crate) fn new(capacity: usize) -> (Self, Orders<T>) {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS / 2);
        let (sender, receiver) = sync_channel(2 * capacity);
        let inbox = Self {
            sender: RwLock::new(Some(sender)),
            refused: Arc::new(Semaphore::new(capacity)),
            patient: Arc::new(Semaphore::new(capacity)),
            capacity,
        };
        (inbox, Orders(receiver))
    }

    /// Sends an order.
    pub(crate) async fn send(&self, order: T, if_full: IfFull) -> Result<(), StoreError> {
        let room = match if_full {
            IfFull::Refuse => self.refused.clone().try_acquire_owned().ok(),
            IfFull::Wait => self.patient.clone().acquire_owned().await.ok(),
        };
        let overloaded = || StoreError::Overloaded {
            waiting: self.capacity,
        };
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or(StoreError::Closed)?;
        let room = room.ok_or_else(overloaded)?;
        sender
            .try_send(Placed(order, room))
            .map_err(|refused| match refused {
                // There is a place for everybody who has room.
                TrySendError::Full(_) => overloaded(),
                TrySendError::Disconnected(_) => StoreError::Closed,
            })
    }

    /// Accepts no more orders, and sends those away who wait outside.
    pub(crate) fn close(&self) {
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.patient.close();
    }
}

/// Orders are closures, which have nothing to show.
impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
