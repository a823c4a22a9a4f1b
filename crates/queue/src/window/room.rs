//! When a cost has room, and beside what.

/// When a cost can be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Now.
    Now,
    /// Not before this time, if nothing else changes.
    At(u64),
    /// Only when a running call is settled.
    Settlement,
}

impl Room {
    /// When both have room.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Settlement, _) | (_, Self::Settlement) => Self::Settlement,
            (Self::At(a), Self::At(b)) => Self::At(a.max(b)),
            (Self::Now, other) | (other, Self::Now) => other,
        }
    }
}

/// What calls in flight may come to count for beyond what was counted of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// All of it, a margin included.
    pub(crate) most: i64,
    /// What will probably be counted of them as they end; it leaves the window with them.
    pub(crate) likely: i64,
}
