//! A graph as a node of another.
//!
//! Invariant: a task that is started again, in this process or after it, continues the
//! subgraph run it began; it never begins a second one. Deliberately absent: shared channels;
//! states are mapped explicitly.

use std::{future::pending, sync::Arc};

use serde::de::DeserializeOwned;

use crate::{
    Command, Graph, Input, NodeError, State, Status,
    checkpoint::Children,
    context::RunContext,
    driver::{Nested, drive_nested},
    node::{Call, NodeFn, NodeResult},
    outlet::Events,
};

/// The inner graph and how states leave it.
struct Subgraph<T: State, C, E, O> {
    graph: Graph<T, C, E>,
    leave: O,
    keeps_state: bool,
}

/// The code of a node that enters with the outer state.
pub(crate) fn subgraph<S, T, C, E, In, Out>(
    graph: Graph<T, C, E>,
    enter: impl Fn(&S) -> In + Send + Sync + 'static,
    leave: impl Fn(&T) -> Out + Send + Sync + 'static,
    keeps_state: bool,
) -> NodeFn<S, C, E>
where
    S: State,
    T: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
    In: Into<Input<T>>,
    Out: Into<Command<S>>,
{
    let inner = Subgraph {
        graph,
        leave,
        keeps_state,
    };
    let inner = Arc::new((inner, enter));
    Arc::new(move |call| {
        let inner = inner.clone();
        Box::pin(async move {
            let (inner, enter) = &*inner;
            let state = call.state.clone();
            inner.run(&call, || enter(&state).into()).await
        })
    })
}

/// The code of a node that enters with what it was sent.
pub(crate) fn worker<P, S, T, C, E, In, Out>(
    graph: Graph<T, C, E>,
    enter: impl Fn(P, &S) -> In + Send + Sync + 'static,
    leave: impl Fn(&T) -> Out + Send + Sync + 'static,
) -> NodeFn<S, C, E>
where
    P: DeserializeOwned + Send,
    S: State,
    T: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
    In: Into<Input<T>>,
    Out: Into<Command<S>>,
{
    let keeps_state = false;
    let inner = Subgraph {
        graph,
        leave,
        keeps_state,
    };
    let inner = Arc::new((inner, enter));
    Arc::new(move |call| {
        let inner = inner.clone();
        Box::pin(async move {
            let (inner, enter) = &*inner;
            let text = call.payload.as_deref().unwrap_or("null");
            let payload: P = serde_json::from_str(text).map_err(NodeError::permanent)?;
            let state = call.state.clone();
            inner.run(&call, || enter(payload, &state).into()).await
        })
    })
}

impl<T, C, E, O> Subgraph<T, C, E, O>
where
    T: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    async fn run<S, Out>(
        &self,
        call: &Call<S, C, E>,
        enter: impl FnOnce() -> Input<T> + Send,
    ) -> NodeResult<S>
    where
        S: State,
        O: Fn(&T) -> Out + Sync,
        Out: Into<Command<S>>,
    {
        let (outer, task) = (&call.context.run, &call.context.task);
        let sent = task.is_sent.then_some(task.index);
        let id = outer.task_id(task);
        let namespace = outer.namespace.child(task.node.clone(), id, sent);
        let place = namespace.place();
        let durable = outer.durable.as_ref();
        let begin = || {
            let inside = format!("{place}/");
            let children = task.children.iter();
            let children = children.filter(|(place, _)| place.starts_with(&inside));
            Nested {
                origin: format!("{}:{}", task.checkpoint, task.index),
                input: enter(),
                answers: task.memo().answers.clone(),
                memory: task
                    .children
                    .get(&place)
                    .copied()
                    .filter(|_| self.keeps_state),
                children: children.map(|(place, id)| (place.clone(), *id)).collect(),
                is_first: call.context.attempt == 1
                    && durable.is_none_or(|durable| durable.has_made(task.checkpoint)),
            }
        };
        let events = outer.outlet.clone().map(|outer| {
            Arc::new(Events::<T, E>::Nested {
                outermost: outer,
                namespace: namespace.clone(),
            })
        });
        let run = RunContext {
            config: outer.config.clone(),
            outlet: events.clone().map(|events| events as _),
            durable: durable.map(|durable| Arc::new(durable.nested(place.clone()))),
            namespace: namespace.clone(),
        };
        let graph = self.graph.clone();
        let output = drive_nested(graph, begin, Arc::new(run), events, task)
            .await
            .map_err(NodeError::from_run)?;
        match output.status {
            Status::Done => {}
            Status::Interrupted => {
                task.memo().interrupts.extend(output.interrupts);
                return pending().await;
            }
            Status::Drained => {
                task.memo().drained = true;
                return pending().await;
            }
            Status::Paused => {
                task.memo().paused = true;
                return pending().await;
            }
            // The run around it is being cancelled too.
            Status::Cancelled => return pending().await,
        }
        let mut command = (self.leave)(&output.state).into();
        command.goto.extend(output.left_to);
        command.children = Children::clone(&output.children);
        let kept = output.checkpoint.filter(|_| self.keeps_state);
        command.children.extend(kept.map(|kept| (place, kept)));
        Ok(command)
    }
}
