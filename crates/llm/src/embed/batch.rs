//! Collects items until there are enough of them or the first has waited long enough.
//!
//! Pure: callers pass `now`. Invariant: an item leaves in the order it came, in exactly
//! one batch, and is never held past its own wait.

use std::time::Duration;

use tokio::time::Instant;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    items: Vec<T>,
    max_items: usize,
    due: Option<Instant>,
}

impl<T> Batch<T> {
    pub(crate) fn new(max_items: usize) -> Self {
        Self {
            items: Vec::new(),
            max_items: max_items.max(1),
            due: None,
        }
    }

    /// Adds an item that may wait for `wait`; returns the batch that it fills.
    pub(crate) fn push(&mut self, item: T, wait: Duration, now: Instant) -> Option<Vec<T>> {
        self.items.push(item);
        let due = now + wait;
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        (self.items.len() >= self.max_items).then(|| self.take())
    }

    /// When the batch has to go; `None` while it is empty.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What has to go now.
    pub(crate) fn ready(&mut self, now: Instant) -> Option<Vec<T>> {
        self.due.is_some_and(|due| due <= now).then(|| self.take())
    }

    /// Everything collected, full or not.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.due = None;
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_when_it_is_full_or_due() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut batch = Batch::new(3);
        assert_eq!((batch.due(), batch.ready(start)), (None, None));

        assert_eq!(batch.push('a', second, start), None);
        assert_eq!(batch.push('b', second, start + second / 2), None);
        assert_eq!(batch.due(), Some(start + second), "the first one's wait");
        assert_eq!(batch.ready(start + second / 2), None);
        assert_eq!(batch.ready(start + second), Some(vec!['a', 'b']));
        assert_eq!(batch.due(), None);

        batch.push('c', second, start);
        batch.push('d', second, start);
        assert_eq!(batch.push('e', second, start), Some(vec!['c', 'd', 'e']));

        batch.push('f', second, start);
        batch.push('g', second / 4, start);
        assert_eq!(batch.due(), Some(start + second / 4), "the shorter wait");
    }
}
