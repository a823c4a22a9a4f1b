//! The bounded way from a run, and from the subgraphs inside it, to the run's stream.
//!
//! Invariant: at most the configured number of events is buffered; whoever emits waits.
//! Deliberately absent: sequence numbers, which the stream gives when it hands events out.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::Sender;

use crate::{Event, EventKind, Mode, NodeName, State, event::Modes};

/// What a subgraph says: its state's type is unknown to the enclosing graph, so updates
/// and states are JSON.
pub(crate) struct Nested<E> {
    pub(crate) path: String,
    pub(crate) step: u64,
    pub(crate) kind: NestedKind<E>,
}

pub(crate) enum NestedKind<E> {
    Started(NodeName),
    Updated(NodeName, serde_json::Value),
    Custom(NodeName, E),
    State(serde_json::Value),
}

/// Takes events without knowing the type of the state.
pub(crate) trait Outlet<E>: Send + Sync {
    fn wants(&self, mode: Mode) -> bool;
    fn custom<'a>(&'a self, node: &'a NodeName, step: u64, value: E) -> BoxFuture<'a, ()>;
    fn nested(&self, event: Nested<E>) -> BoxFuture<'_, ()>;
}

/// A run's way out: its own stream, or the node of the enclosing graph it runs in.
pub(crate) enum Events<S: State, E> {
    Stream {
        sender: Sender<Event<S, E>>,
        modes: Modes,
    },
    Node {
        outer: Arc<dyn Outlet<E>>,
        path: String,
    },
}

impl<S: State, E: Send + 'static> Events<S, E> {
    /// Sends an event of the graph's own; the other kinds are made elsewhere.
    pub(crate) async fn send(&self, step: u64, kind: EventKind<S, E>) {
        match self {
            // A closed channel means that the stream, and with it this run, is being dropped.
            Self::Stream { sender, .. } => {
                let _closed = sender
                    .send(Event {
                        seq: 0,
                        path: String::new(),
                        step,
                        kind,
                    })
                    .await;
            }
            Self::Node { outer, path } => {
                if let Some(kind) = NestedKind::of(kind) {
                    outer
                        .nested(Nested {
                            path: path.clone(),
                            step,
                            kind,
                        })
                        .await;
                }
            }
        }
    }
}

impl<E> NestedKind<E> {
    fn of<S: State>(kind: EventKind<S, E>) -> Option<Self> {
        // A value that is no JSON, e.g. a map whose keys are structs, is shown as null.
        Some(match kind {
            EventKind::Started { node } => Self::Started(node),
            EventKind::Updated { node, update } => {
                Self::Updated(node, serde_json::to_value(update).unwrap_or_default())
            }
            EventKind::Custom { node, value } => Self::Custom(node, value),
            EventKind::State(state) => Self::State(state_json(&*state)),
            EventKind::NestedUpdated { node, update } => Self::Updated(node, update),
            EventKind::NestedState(state) => Self::State(state),
            EventKind::Finished(_) => return None,
        })
    }

    fn kind<S: State>(self) -> EventKind<S, E> {
        match self {
            Self::Started(node) => EventKind::Started { node },
            Self::Updated(node, update) => EventKind::NestedUpdated { node, update },
            Self::Custom(node, value) => EventKind::Custom { node, value },
            Self::State(state) => EventKind::NestedState(state),
        }
    }
}

/// A state as one JSON object, channel by channel.
fn state_json<S: State>(state: &S) -> serde_json::Value {
    let channels = S::CHANNELS
        .iter()
        .enumerate()
        .filter(|(_, c)| c.kind.is_saved());
    let fields = channels.map(|(index, channel)| {
        let value = state
            .save(index)
            .and_then(|bytes| serde_json::from_slice(&bytes));
        (channel.name.to_owned(), value.unwrap_or_default())
    });
    serde_json::Value::Object(fields.collect())
}

impl<S: State, E: Send + 'static> Outlet<E> for Events<S, E> {
    fn wants(&self, mode: Mode) -> bool {
        match self {
            Self::Stream { modes, .. } => modes.has(mode),
            Self::Node { outer, .. } => outer.wants(mode),
        }
    }

    fn custom<'a>(&'a self, node: &'a NodeName, step: u64, value: E) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.wants(Mode::Custom) {
                self.send(
                    step,
                    EventKind::Custom {
                        node: node.clone(),
                        value,
                    },
                )
                .await;
            }
        })
    }

    fn nested(&self, event: Nested<E>) -> BoxFuture<'_, ()> {
        match self {
            Self::Stream { sender, .. } => Box::pin(async move {
                let Nested { path, step, kind } = event;
                let event = Event {
                    seq: 0,
                    path,
                    step,
                    kind: kind.kind(),
                };
                let _closed = sender.send(event).await;
            }),
            Self::Node { outer, path } => {
                let path = format!("{path}/{}", event.path);
                outer.nested(Nested { path, ..event })
            }
        }
    }
}
