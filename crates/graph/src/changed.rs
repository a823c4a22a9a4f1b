//! What was written to each channel since the last checkpoint.
//!
//! Invariant: a channel whose writes are kept can be made again from its stored value by
//! merging them in order; whatever else happened to it makes it whole. Deliberately absent:
//! how it is stored, which is the chain's.

use serde::Serialize;

/// Which channels were written since the last checkpoint, and what, where that is worth
/// keeping. Code that `#[derive(State)]` writes calls its methods.
#[derive(Debug, Clone)]
pub struct Changed {
    marks: Vec<Mark>,
    /// Channels that hold something which the next step clears.
    live: Vec<bool>,
    keeps_writes: bool,
}

/// What became of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It has its stored value.
    Same,
    /// These writes were merged: JSON values with commas between them.
    Writes(Vec<u8>),
    /// It has a new value.
    Whole,
    /// It has its default again.
    Cleared,
}

impl Changed {
    pub(crate) fn none(channels: usize) -> Self {
        Self {
            marks: vec![Mark::Same; channels],
            live: vec![false; channels],
            keeps_writes: false,
        }
    }

    /// Keeps writes from now on: somebody stores them.
    pub(crate) fn keep_writes(&mut self) {
        self.keeps_writes = true;
    }

    pub(crate) fn mark_all(&mut self) {
        self.marks.fill(Mark::Whole);
        self.live.fill(true);
    }

    /// Starts anew, for a state that is read from a checkpoint.
    pub(crate) fn forget(&mut self) {
        self.marks.fill(Mark::Same);
        self.live.fill(false);
    }

    /// Notes that the channel was read from a checkpoint.
    pub(crate) fn restored(&mut self, channel: usize) {
        if let Some(live) = self.live.get_mut(channel) {
            *live = true;
        }
    }

    /// Takes what became of a channel, which is stored now.
    pub(crate) fn take(&mut self, channel: usize) -> Mark {
        self.marks
            .get_mut(channel)
            .map_or(Mark::Same, |mark| std::mem::replace(mark, Mark::Same))
    }

    /// Marks a channel as written; it is stored whole.
    pub fn mark(&mut self, channel: usize) {
        if let (Some(mark), Some(live)) = (self.marks.get_mut(channel), self.live.get_mut(channel))
        {
            *mark = Mark::Whole;
            *live = true;
        }
    }

    /// Marks a channel as written, and keeps the write: it is stored instead of the whole
    /// value while that is the smaller part of it.
    pub fn merge<W: Serialize + ?Sized>(&mut self, channel: usize, write: &W) {
        if !self.keeps_writes {
            return self.mark(channel);
        }
        let Some(mark) = self.marks.get_mut(channel) else {
            return;
        };
        let mut writes = match std::mem::replace(mark, Mark::Whole) {
            Mark::Same => Vec::new(),
            Mark::Writes(mut writes) => {
                writes.push(b',');
                writes
            }
            Mark::Whole | Mark::Cleared => return,
        };
        // What cannot be serialised makes the channel whole, and is reported by its saving.
        if serde_json::to_writer(&mut writes, write).is_ok() {
            *mark = Mark::Writes(writes);
        }
    }

    /// Marks a channel as cleared if it holds what lives for one step only, and says so.
    pub fn expire(&mut self, channel: usize) -> bool {
        let is_live = self.live.get_mut(channel).is_some_and(std::mem::take);
        if is_live && let Some(mark) = self.marks.get_mut(channel) {
            *mark = Mark::Cleared;
        }
        is_live
    }
}
