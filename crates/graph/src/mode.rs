//! Which events a stream carries.
//!
//! Invariant: a mode that nobody asked for costs a run nothing. Deliberately absent: the
//! events themselves.

/// One kind of reader's interest; a stream may carry several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// The whole state, as the input made it and after each step: `EventKind::State`.
    /// A reader that keeps the states makes the run copy them.
    Values,
    /// What each node wrote or asked: `EventKind::Updated`, `EventKind::Asked`.
    Updates,
    /// Pieces of the messages that nodes send: `EventKind::Message`.
    Messages,
    /// What nodes emit: `EventKind::Custom`.
    Custom,
    /// How each task starts and ends: `EventKind::Started`, `EventKind::Ended`.
    Tasks,
    /// What is stored of a thread: `EventKind::Checkpointed`.
    Checkpoints,
    /// Where a resumed run, or a resumed subgraph in it, goes on: `EventKind::Resumed`.
    Resumed,
    /// Everything, with `EventKind::Planned` and `EventKind::Retried`, which no other mode
    /// carries.
    Debug,
}

/// A set of modes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Modes(u8);

impl Modes {
    /// What a stream carries unless told otherwise.
    pub(crate) fn usual() -> Self {
        use Mode::{Custom, Messages, Tasks, Updates, Values};
        [Values, Updates, Messages, Custom, Tasks]
            .into_iter()
            .collect()
    }

    pub(crate) fn has(self, mode: Mode) -> bool {
        self.0 & (bit(mode) | bit(Mode::Debug)) != 0
    }
}

fn bit(mode: Mode) -> u8 {
    1 << mode as u8
}

impl FromIterator<Mode> for Modes {
    fn from_iter<T: IntoIterator<Item = Mode>>(modes: T) -> Self {
        Self(modes.into_iter().fold(0, |set, mode| set | bit(mode)))
    }
}
