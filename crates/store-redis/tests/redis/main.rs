//! Against a real Redis server of the test's own.

mod cache;
mod conformance;
mod shared;
mod support;
