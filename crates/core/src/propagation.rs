//! The hooks through which calls to other programs, and work that is put off, say which trace
//! they belong to.
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

/// Links the current span to the one that headers of a [`Propagator`] name.
pub type Linker = fn(&[(String, String)]);

static LINKER: OnceLock<Linker> = OnceLock::new();

/// Installs the process' hook. The first one stays; returns whether it is this one.
pub fn install_linker(linker: Linker) -> bool {
    LINKER.set(linker).is_ok()
}

/// Links the current span, whose work was put off, to the span that put it off and that
/// [`propagate`] named then.
pub fn link_to(headers: &[(String, String)]) {
    if let Some(linker) = LINKER.get()
        && !headers.is_empty()
    {
        linker(headers);
    }
}
