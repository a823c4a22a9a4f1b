//! A node's code behind one shape.
//!
//! Invariant: a node never sees another node's unmerged writes. Deliberately absent:
//! retries and time-outs, which wrap a call from outside.

use std::{future::Future, sync::Arc};

use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use serde::de::DeserializeOwned;

use crate::{Command, Context, NodeError, State};

/// What one call of a node is given.
pub(crate) struct Call<S, C, E> {
    pub(crate) state: Arc<S>,
    pub(crate) context: Context<C, E>,
    pub(crate) payload: Option<Arc<str>>,
}

pub(crate) type NodeResult<S> = Result<Command<S>, NodeError>;

/// The code of a node.
pub(crate) type NodeFn<S, C, E> =
    Arc<dyn Fn(Call<S, C, E>) -> BoxFuture<'static, NodeResult<S>> + Send + Sync>;

/// Wraps a plain async function of snapshot and context.
pub(crate) fn plain<S, C, E, F, Fut, R>(node: F) -> NodeFn<S, C, E>
where
    S: State,
    C: 'static,
    E: 'static,
    F: Fn(Arc<S>, Context<C, E>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, NodeError>> + Send + 'static,
    R: Into<Command<S>>,
{
    Arc::new(move |call| {
        let running = node(call.state, call.context);
        // An async block would hold the node's future twice.
        Box::pin(running.map(|result| result.map(Into::into)))
    })
}

/// Wraps an async function that also takes the payload of a send.
pub(crate) fn worker<S, C, E, T, F, Fut, R>(node: F) -> NodeFn<S, C, E>
where
    S: State,
    C: 'static,
    E: 'static,
    T: DeserializeOwned,
    F: Fn(T, Arc<S>, Context<C, E>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, NodeError>> + Send + 'static,
    R: Into<Command<S>>,
{
    Arc::new(move |call| {
        let text = call.payload.as_deref().unwrap_or("null");
        match serde_json::from_str(text) {
            Ok(payload) => {
                let running = node(payload, call.state, call.context);
                Box::pin(running.map(|result| result.map(Into::into)))
            }
            Err(error) => Box::pin(ready(Err(NodeError::permanent(error)))),
        }
    })
}
