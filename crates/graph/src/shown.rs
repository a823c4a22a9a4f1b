//! Values of a graph's own types, shown to readers that do not know these types.
//!
//! Invariant: nothing is serialised until a reader asks. Deliberately absent: a way back.

use std::{fmt, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use crate::{Digest, State};

/// A state or an update that becomes JSON when asked for. Cheap to clone; a reader that
/// keeps the one of a state makes the run copy that state before its next step.
#[derive(Clone)]
pub struct Shown(Arc<dyn Show>);

trait Show: Send + Sync {
    fn json(&self) -> Value;
    fn digest(&self) -> Digest;
}

struct ShownState<S>(Arc<S>);

struct ShownValue<T>(T);

impl Shown {
    pub(crate) fn state<S: State>(state: &Arc<S>) -> Self {
        Self(Arc::new(ShownState(state.clone())))
    }

    pub(crate) fn value<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self(Arc::new(ShownValue(value)))
    }

    /// The value as JSON. Untracked channels are left out; what is no JSON, e.g. a map
    /// whose keys are structs, is shown as null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.0.json()
    }

    /// A fingerprint of the value: equal values have equal ones.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }
}

impl<S: State> Show for ShownState<S> {
    fn json(&self) -> Value {
        state_json(&*self.0)
    }

    fn digest(&self) -> Digest {
        let saved = (0..S::CHANNELS.len()).filter(|index| S::CHANNELS[*index].kind.is_saved());
        let saved: Vec<_> = saved
            .map(|index| self.0.save(index).unwrap_or_default())
            .collect();
        Digest::of(saved.iter().map(Vec::as_slice))
    }
}

impl<T: Serialize + Send + Sync> Show for ShownValue<T> {
    fn json(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    fn digest(&self) -> Digest {
        let bytes = serde_json::to_vec(&self.0).unwrap_or_default();
        Digest::of([bytes.as_slice()])
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// A state as one JSON object, channel by channel.
pub(crate) fn state_json<S: State>(state: &S) -> Value {
    let channels = S::CHANNELS
        .iter()
        .enumerate()
        .filter(|(_, channel)| channel.kind.is_saved());
    let fields = channels.map(|(index, channel)| {
        let value = state
            .save(index)
            .and_then(|bytes| serde_json::from_slice(&bytes));
        (channel.name.to_owned(), value.unwrap_or_default())
    });
    Value::Object(fields.collect())
}
