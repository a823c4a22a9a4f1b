//! A channel that waits for a number of different values.
//!
//! Invariant: a barrier that is open has as many members as its state declares. Deliberately
//! absent: the number, which `#[state(barrier = 3)]` gives, and waiting by edges, which is a
//! join.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Collects what nodes write, step after step, until so many different values have arrived;
/// then it is open for one step, and empty again. A route looks at it:
///
/// ```
/// # use lyceum_graph::{Barrier, END, State};
/// #[derive(State, Clone, Default)]
/// struct Paper {
///     #[state(barrier = 2)]
///     reviews: Barrier<String>,
/// }
///
/// let choose = |paper: &Paper| if paper.reviews.is_open() { "decide" } else { END };
/// # assert_eq!(choose(&Paper::default()), END);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Barrier<T: Ord> {
    members: BTreeSet<T>,
    is_open: bool,
}

impl<T: Ord> Barrier<T> {
    /// Whether every value has arrived; true for one step.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// What has arrived so far, sorted.
    pub fn members(&self) -> impl Iterator<Item = &T> {
        self.members.iter()
    }
}

impl<T: Ord> Default for Barrier<T> {
    fn default() -> Self {
        Self {
            members: BTreeSet::new(),
            is_open: false,
        }
    }
}

/// What the derived code does with a barrier.
#[doc(hidden)]
pub trait Gate {
    type Member;

    fn arrive(&mut self, member: Self::Member, needed: usize);

    fn shuts(&self) -> bool;
}

impl<T: Ord> Gate for Barrier<T> {
    type Member = T;

    fn arrive(&mut self, member: T, needed: usize) {
        self.members.insert(member);
        self.is_open = self.members.len() >= needed;
    }

    fn shuts(&self) -> bool {
        self.is_open
    }
}
