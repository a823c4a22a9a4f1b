//! The bounded way to a thread: refuses when full, and can be closed while others hold it.

use std::{
    fmt,
    sync::{
        PoisonError, RwLock,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use lyceum_memory::StoreError;

/// Sends orders to whoever holds the receiver. That one hears of the end, after the orders
/// sent before, when this is closed or dropped.
pub(crate) struct Inbox<T> {
    sender: RwLock<Option<SyncSender<T>>>,
    capacity: usize,
}

impl<T> Inbox<T> {
    pub(crate) fn new(capacity: usize) -> (Self, Receiver<T>) {
        let (sender, receiver) = sync_channel(capacity);
        let sender = RwLock::new(Some(sender));
        (Self { sender, capacity }, receiver)
    }

    /// Sends an order, without waiting.
    pub(crate) fn send(&self, order: T) -> Result<(), StoreError> {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or(StoreError::Closed)?;
        sender.try_send(order).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Overloaded {
                waiting: self.capacity,
            },
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Accepts no more orders.
    pub(crate) fn close(&self) {
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = None;
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
