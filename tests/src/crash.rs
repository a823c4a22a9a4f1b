//! Durable runs that may be killed at any instant, and the ledger that tells what they did.
//!
//! The program `graph-crash` runs [`graph`]s on a [`saver`] that it also watches; all that
//! happens goes into a [`ledger`], which survives the program and which the test judges.
//! Invariant: a failpoint is in a node or in the watching saver, never in the product.

pub mod graph;
pub mod judge;
pub mod ledger;
pub mod saver;
