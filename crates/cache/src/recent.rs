//! The invalidations of the last while: what was loaded before one of them is not kept after
//! it.
//!
//! Pure. Invariant: [`Recent::spoils`] is never false for a load that an invalidation overtook;
//! for one that took longer than the memory reaches back it is true without knowing.

use std::collections::VecDeque;

use crate::{Selection, key::LocalKey};

/// How many are remembered.
const REMEMBERED: usize = 256;

/// A place in the order of invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// How many there were.
    count: u64,
    last: VecDeque<Selection>,
}

impl Recent {
    /// The present: taken before a load begins.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.count)
    }

    pub(crate) fn add(&mut self, selection: Selection) {
        self.count += 1;
        self.last.push_back(selection);
        if self.last.len() > REMEMBERED {
            self.last.pop_front();
        }
    }

    /// Whether the key was invalidated since the mark.
    pub(crate) fn spoils(&self, key: &LocalKey, since: Mark) -> bool {
        let new = usize::try_from(self.count - since.0).unwrap_or(usize::MAX);
        if new > self.last.len() {
            return true;
        }
        let mut newest = self.last.iter().rev().take(new);
        newest.any(|selection| selection.holds_text(&key.tenant, &key.text))
    }
}

#[cfg(test)]
mod tests {
    use lyceum_core::TenantId;

    use super::*;
    use crate::{Glob, Namespace};

    #[test]
    fn a_load_is_spoiled_by_what_came_after_it_began() {
        let tenant = TenantId::new("acme").unwrap();
        let key = |text: &str| LocalKey {
            tenant: tenant.clone(),
            text: text.into(),
        };
        let selection = |pattern: &str| Selection {
            namespace: Namespace::USER,
            tenant: Some(tenant.clone()),
            glob: Glob::new(pattern),
        };
        let mut recent = Recent::default();
        recent.add(selection("a*"));
        let mark = recent.mark();
        assert!(!recent.spoils(&key("a1"), mark), "it came before");
        recent.add(selection("b*"));
        assert!(!recent.spoils(&key("a1"), mark), "it means others");
        assert!(recent.spoils(&key("b1"), mark));
        for _ in 0..REMEMBERED {
            recent.add(selection("c"));
        }
        assert!(recent.spoils(&key("a1"), mark), "nobody knows");
        assert!(!recent.spoils(&key("a1"), recent.mark()));
    }
}
