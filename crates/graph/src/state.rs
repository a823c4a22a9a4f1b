//! The state of a graph: channels that nodes read together and write one by one.
//!
//! Invariant: merging is a pure function of the state and the ordered updates. Deliberately
//! absent: the derive macro, which is `lyceum-graph-macros`.

use serde::{Serialize, de::DeserializeOwned};

use crate::Changed;

/// The shared state of a graph; written by `#[derive(State)]`.
///
/// An empty state is the `Default`: a new thread starts from it.
pub trait State: Clone + Default + Send + Sync + 'static {
    /// The writes of one node.
    type Update: Update;

    /// The fields in order of declaration.
    const CHANNELS: &'static [Channel];

    /// Finds a channel that takes one write a step and was written twice.
    fn conflict(updates: &[Self::Update]) -> Option<Conflict>;

    /// Whether an update writes a channel.
    fn writes(update: &Self::Update, channel: usize) -> bool;

    /// Clears what lives for one step only.
    fn next_step(&mut self, changed: &mut Changed);

    /// Merges one update, and marks what it wrote.
    fn apply(&mut self, update: Self::Update, changed: &mut Changed);

    /// Serialises one channel.
    ///
    /// # Errors
    ///
    /// What the field's own serialisation gives.
    fn save(&self, channel: usize) -> Result<Vec<u8>, serde_json::Error>;

    /// Reads one channel back.
    ///
    /// # Errors
    ///
    /// When the bytes are not what [`State::save`] wrote for a field of this type.
    fn load(&mut self, channel: usize, bytes: &[u8]) -> Result<(), serde_json::Error>;

    /// Merges writes into one channel again: a JSON array of what [`Changed::merge`] was
    /// given.
    ///
    /// # Errors
    ///
    /// When the bytes are not an array of writes to a field of this type.
    fn replay(&mut self, channel: usize, bytes: &[u8]) -> Result<(), serde_json::Error>;
}

/// The writes of one node to a state; written by `#[derive(State)]`.
pub trait Update: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static> Update for T {}

/// One field of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// The field's name.
    pub name: &'static str,
    /// How its writes are merged.
    pub kind: ChannelKind,
}

/// How the writes of one step become a channel's next value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelKind {
    /// The value written; one writer a step.
    Last,
    /// The collection, extended.
    Append,
    /// The sum.
    Add,
    /// The larger value.
    Max,
    /// The smaller value.
    Min,
    /// The map, extended; later writers win a key.
    Merge,
    /// What the state's own function makes of it.
    Fold,
    /// The collection of this step's writes; empty again after the next step.
    Topic,
    /// The value written, reset to its default after the next step; one writer a step.
    Ephemeral,
    /// The value written, never saved; one writer a step.
    Untracked,
    /// A [`crate::Barrier`]: different values, open for one step when enough have arrived.
    Barrier,
}

impl ChannelKind {
    /// Whether a second write in one step is an error.
    #[must_use]
    pub fn takes_one_write(self) -> bool {
        matches!(self, Self::Last | Self::Ephemeral | Self::Untracked)
    }

    pub(crate) fn is_saved(self) -> bool {
        self != Self::Untracked
    }
}

/// Two writes in one step to a channel that takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The channel's index in [`State::CHANNELS`].
    pub channel: usize,
    /// The index of the first update that writes it.
    pub first: usize,
    /// The index of the second.
    pub second: usize,
}

/// Finds the first two updates that write a channel; `writes` says it for each update.
#[doc(hidden)]
pub fn conflict(channel: usize, writes: impl Iterator<Item = bool>) -> Option<Conflict> {
    let mut writers = writes
        .enumerate()
        .filter(|(_, writes)| *writes)
        .map(|(i, _)| i);
    Some(Conflict {
        channel,
        first: writers.next()?,
        second: writers.next()?,
    })
}
