//! The bounded way from a run to its stream.
//!
//! Invariant: at most the configured number of events is buffered; whoever emits waits.
//! Deliberately absent: sequence numbers, which the stream gives when it hands events out.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::Sender;

use crate::{Event, EventKind, Mode, NodeName, State, event::Modes};

/// Takes what nodes emit; knows nothing of the state, so that nodes need not either.
pub(crate) trait Outlet<E>: Send + Sync {
    fn custom<'a>(&'a self, node: &'a NodeName, step: u64, value: E) -> BoxFuture<'a, ()>;
}

/// The run's end of its stream.
pub(crate) struct EventSender<S: State, E> {
    pub(crate) sender: Sender<Event<S, E>>,
    pub(crate) modes: Modes,
}

impl<S: State, E> EventSender<S, E> {
    pub(crate) fn wants(&self, mode: Mode) -> bool {
        self.modes.has(mode)
    }

    pub(crate) async fn send(&self, step: u64, kind: EventKind<S, E>) {
        // A closed channel means that the stream, and with it this run, is being dropped.
        let _closed = self.sender.send(Event { seq: 0, step, kind }).await;
    }
}

impl<S: State, E: Send + 'static> Outlet<E> for EventSender<S, E> {
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
}
