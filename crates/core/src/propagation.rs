//! The one hook through which calls to other programs say which trace they belong to.
//!
//! Invariant: without an installed hook nothing is added. Deliberately absent: what the
//! headers are; the tracer knows (<https://www.w3.org/TR/trace-context/>).

use std::sync::OnceLock;

/// Gives the headers of the current span, name and value, to the function it gets.
pub type Propagator = fn(&mut dyn FnMut(&str, String));

static PROPAGATOR: OnceLock<Propagator> = OnceLock::new();

/// Installs the process' hook. The first one stays; returns whether it is this one.
pub fn install_propagator(propagator: Propagator) -> bool {
    PROPAGATOR.set(propagator).is_ok()
}

/// Gives `put` each header that a call to another program should carry.
pub fn propagate(put: &mut dyn FnMut(&str, String)) {
    if let Some(propagator) = PROPAGATOR.get() {
        propagator(put);
    }
}
