//! Counts the streams that are open.

use metrics::{Gauge, gauge};

use crate::metrics::STREAMS;

/// Counts an open stream while it lives.
pub(crate) struct OpenStream(Gauge);

impl OpenStream {
    pub(crate) fn new() -> Self {
        let gauge = gauge!(STREAMS);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
