//! What is known of a call while it waits.
//!
//! Deliberately absent: its place, which is the order's.

use crate::{Estimate, estimate::CallerId, quota::Cost};

/// A call that waits; kept small, because there may be a million.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) owner: u32,
    pub(super) cost: Cost,
    pub(super) caller: CallerId,
    pub(super) given: Estimate,
    /// [`NEVER`] where there is none: an option would be twice as large.
    pub(super) deadline: u64,
    /// The likely wait at arrival, to learn from; [`NEVER`] where none was known.
    pub(super) forecast: u64,
}

/// A time that does not come.
pub(super) const NEVER: u64 = u64::MAX;

/// The time, unless it never comes.
pub(super) fn known(time: u64) -> Option<u64> {
    (time != NEVER).then_some(time)
}

/// What a call counts for in fairness: its tokens and one, so that calls without tokens
/// take turns too. Within 32 bits, so that virtual time cannot overflow.
pub(super) fn service(cost: Cost) -> u64 {
    cost.input
        .saturating_add(cost.output)
        .min(u64::from(u32::MAX) - 1)
        + 1
}
