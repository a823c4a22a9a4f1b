//! What a running node knows beside the state, and what it can say while it runs.
//!
//! Invariant: a context is valid for one call of one node. Deliberately absent: writes to
//! the state, which only a node's result makes.

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{NodeName, outlet::Outlet};

/// The context of one call of a node: the run's shared value of type `C`, and a way to
/// emit events of type `E` before the node is done.
pub struct Context<C = (), E = ()> {
    pub(crate) run: Arc<RunContext<C, E>>,
    pub(crate) node: NodeName,
    pub(crate) step: u64,
}

/// What all calls of one run share.
pub(crate) struct RunContext<C, E> {
    pub(crate) shared: Arc<C>,
    pub(crate) cancel: CancellationToken,
    pub(crate) outlet: Option<Arc<dyn Outlet<E>>>,
}

impl<C, E> Context<C, E> {
    /// The value that the run was configured with: models, stores, the caller's identity.
    #[must_use]
    pub fn shared(&self) -> &Arc<C> {
        &self.run.shared
    }

    /// The node that runs.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// The step it runs in; the first is 1.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Cancelled when the run is. A cancelled node is dropped at its next await, so only
    /// work that the node has handed to other tasks needs this.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.run.cancel
    }

    /// Puts an event into the run's stream, e.g. a piece of text.
    ///
    /// Waits while the stream's buffer is full, and does nothing when nobody streams.
    ///
    /// # Cancel safety
    ///
    /// An event whose emission was dropped while it waited is not sent.
    pub async fn emit(&self, value: E) {
        if let Some(outlet) = &self.run.outlet {
            outlet.custom(&self.node, self.step, value).await;
        }
    }
}

impl<C, E> Clone for Context<C, E> {
    fn clone(&self) -> Self {
        Self {
            run: self.run.clone(),
            node: self.node.clone(),
            step: self.step,
        }
    }
}

impl<C, E> fmt::Debug for Context<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("node", &self.node)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
